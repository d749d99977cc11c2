"""The distance of a picture from those that a base was trained on, for a base that ships the statistics of them.

known = KnownPictures.read("inference/starter")     # `None` for a base without `known_pictures.safetensors`
known.distance(encoding.features)                   # 1: farther than 98.8 % of its own kinds

It is the Mahalanobis distance of the vision tower's features, pooled over the picture's tokens, in units of a limit:
1.2 % of held-out pictures of the base's own kinds are beyond it. `python -m training.starter.known_pictures` makes the
file.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

FILE = "known_pictures.safetensors"
WEIGHTS = "model.safetensors"
RIDGE = 1e-3
"""Added to the variances of standardised features, so that a direction in which they hardly vary counts for less."""
SHARE_BEYOND = 0.012
"""The share of held-out pictures of its own kinds that the limit leaves beyond it."""
UNKNOWN_FROM = 1.09
"""The distance from which a picture counts as unknown. Of 1,200 of the starter's own kinds the farthest is at 1.073, of
30 charts in other styles the nearest at 1.108, of photographs at 2.39 (those of
`tests/training/starter/test_known_pictures.py`)."""
_UNKNOWN = (
    "This picture is unlike all that the model has learnt to read, so its answer means nothing. By its image features "
    "it is {:.1f} times as far from those pictures as 98 in 100 of their own kinds are."
)
_log = logging.getLogger(__name__)


def unknown_warning(distance: float | None) -> str:
    """A sentence where a picture at this distance is unlike all that the base knows; else empty."""
    return _UNKNOWN.format(distance) if distance is not None and distance > UNKNOWN_FROM else ""


@dataclass(frozen=True)
class KnownPictures:
    """Statistics of pooled features, D = 2 * hidden values a picture."""

    mean: torch.Tensor
    """(D,)."""
    whitening: torch.Tensor
    """(D, D): turns a difference from the mean into one of unit covariance, divided by the limit."""

    @classmethod
    def fit(cls, pictures: torch.Tensor, held_out: torch.Tensor) -> KnownPictures:
        """Statistics of pooled features (N, D), with the limit by held-out ones (M, D)."""
        mean, scale = pictures.mean(0), pictures.std(0) + 1e-6
        variances, directions = torch.linalg.eigh(torch.cov(((pictures - mean) / scale).T))
        whitening = directions / scale[:, None] / (variances.clamp(min=0) + RIDGE).sqrt()  # (D, D)
        distances = ((held_out - mean) @ whitening).norm(dim=1)
        return cls(mean, whitening / distances.quantile(1 - SHARE_BEYOND))

    @classmethod
    def read(cls, base: str | Path) -> KnownPictures | None:
        """The statistics in a base's folder; `None`, logged, if they were made with other weights."""
        path, weights = Path(base) / FILE, Path(base) / WEIGHTS
        if not path.is_file() or not weights.is_file():
            return None
        with safe_open(path, "pt") as file:
            made_with = (file.metadata() or {}).get("weights")
            mean, whitening = file.get_tensor("mean").float(), file.get_tensor("whitening").float()
        if made_with != weights_digest(weights):
            _log.warning("%s belongs to other weights than %s, and is not used; make it anew", path, weights)
            return None
        return cls(mean, whitening)

    def to_bytes(self, weights: Path) -> bytes:
        """The content of the file beside these weights, in half precision."""
        tensors = {"mean": self.mean, "whitening": self.whitening.half()}
        return save(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, {"weights": weights_digest(weights)}
        )

    def distance(self, features: torch.Tensor) -> float:
        """The distance of a picture by its features (N, hidden), in units of the limit."""
        return float(((pooled(features) - self.mean) @ self.whitening).norm())


def pooled(features: torch.Tensor) -> torch.Tensor:
    """Mean and standard deviation over the tokens of a picture: (N, hidden) to (2 * hidden,), on the CPU."""
    values = features.float().cpu()
    return torch.cat([values.mean(0), values.std(0, correction=0)])


def weights_digest(path: Path) -> str:
    """The SHA-256 of a file of weights."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
