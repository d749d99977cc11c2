"""Calibration of several samples: whether the share of votes for an answer is the chance that it is right.

    >>> votes = [Vote(0.875, True)] * 7 + [Vote(0.875, False)]
    >>> calibration(votes, num_samples=8).ece.value
    0.0

Reliability bins and the expected calibration error (ECE) are those of Guo et al. 2017, On Calibration of Modern Neural
Networks (arXiv 1706.04599), equation 3, with ten bins of equal width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.common.files import Json
from training.evaluation.statistics import Clusters, Estimate, bootstrap, bootstrap_sums, share
from training.runs.metrics import is_number

NUM_BINS = 10
_NUM_DRAWS = 1000


@dataclass(frozen=True)
class Vote:
    """The majority of a row's samples."""

    share: float
    """The winning answer's votes, as a fraction of all samples, those without an answer included."""
    is_right: bool


@dataclass(frozen=True)
class Bin:
    """The rows whose share of votes lies in one bin."""

    confidence: float
    """Their mean share of votes."""
    right: Estimate
    """The share of them whose majority is right."""


@dataclass(frozen=True)
class Calibration:
    """Confidence against accuracy, as fractions of 1."""

    num_samples: int
    bins: tuple[Bin, ...]
    ece: Estimate
    """The mean distance of confidence and accuracy over the bins, weighted by rows. Few rows make it larger than it
    is, and its interval reaches up with it: compare it with `ece_by_chance`."""
    ece_by_chance: float
    """The ECE that so many rows show on average where the share of votes is exactly the chance to be right."""
    gap: Estimate
    """Mean confidence less accuracy; above zero it is overconfident."""

    @property
    def sentence(self) -> str:
        low, high = (100 * end for end in (self.gap.low, self.gap.high))
        size = f"{abs(100 * self.gap.value):.1f} points"
        apart = f"{100 * self.gap.value:+.1f} points, {low:+.1f} to {high:+.1f}"
        gap = f"is not shown to differ from the share that is right ({apart})"
        if self.gap.low > 0:
            gap = f"is {size} above the share that is right ({low:.1f} to {high:.1f}): it is overconfident"
        elif self.gap.high < 0:
            gap = f"is {size} below the share that is right ({-high:.1f} to {-low:.1f}): it is underconfident"
        error, ends = 100 * self.ece.value, f"{100 * self.ece.low:.1f} to {100 * self.ece.high:.1f}"
        chance = f"so many rows show {100 * self.ece_by_chance:.1f} by chance alone"
        return (
            f"Asked {self.num_samples} times, the share of votes {gap}; on {self.ece.num_rows:,} rows its expected "
            f"calibration error is {error:.1f} points ({ends}); {chance}."
        )

    def to_json(self) -> Json:
        return {
            "num_samples": self.num_samples,
            "ece": self.ece.to_json(),
            "ece_by_chance": round(self.ece_by_chance, 4),
            "gap": self.gap.to_json(),
            "bins": [{"confidence": round(b.confidence, 4), "right": b.right.to_json()} for b in self.bins],
            "sentence": self.sentence,
        }


def calibration(votes: Sequence[Vote], num_samples: int, clusters: Clusters | None = None) -> Calibration:
    """The calibration of the votes of at least one row; intervals draw whole clusters."""
    clusters = list(range(len(votes))) if clusters is None else clusters
    shares = np.array([vote.share for vote in votes])
    rights = np.array([vote.is_right for vote in votes], float)
    numbers = np.clip(np.ceil(np.round(shares * NUM_BINS, 9)).astype(int) - 1, 0, NUM_BINS - 1)  # (low, high]
    in_bin = np.eye(NUM_BINS)[numbers]  # (rows, bins)
    error = float(_ece(in_bin, shares, rights))
    columns = np.column_stack([in_bin * (shares - rights)[:, None], np.ones(len(votes))])
    ends = bootstrap_sums(columns, clusters, lambda sums: np.abs(sums[:, :-1]).sum(1) / sums[:, -1])
    rng = np.random.default_rng(len(votes))
    simulated = (rng.random((_NUM_DRAWS, len(votes))) < shares).astype(float)
    bins = []
    for number in np.unique(numbers):
        rows = np.flatnonzero(numbers == number).tolist()
        right = share([votes[row].is_right for row in rows], [clusters[row] for row in rows])
        bins.append(Bin(float(shares[rows].mean()), right))
    gap = Estimate(float((shares - rights).mean()), *bootstrap(shares - rights, clusters), len(votes))
    return Calibration(
        num_samples,
        tuple(bins),
        Estimate(error, min(error, ends[0]), max(error, ends[1]), len(votes)),
        float(np.mean([_ece(in_bin, shares, each) for each in simulated])),
        gap,
    )


def said_of_share(found: object, share_of_votes: float) -> str:
    """The share of answers with about so many votes that were right, by a `Calibration.to_json`; "" if it has none.

    >>> bins = [{"confidence": 0.75, "right": {"value": 0.9, "low": 0.7, "high": 0.97, "num_rows": 20}}]
    >>> said_of_share({"bins": bins}, 0.75)
    'On 20 held-out problems with this share of votes, 90 % of the answers were right (70 to 97).'
    """
    bins = found.get("bins") if isinstance(found, dict) else None
    for each in bins if isinstance(bins, list) else []:
        right = each.get("right") if isinstance(each, dict) else None
        if isinstance(right, dict) and is_number(each.get("confidence")):
            names = ("value", "low", "high", "num_rows")
            numbers = [number for name in names if is_number(number := right.get(name))]
            if abs(each["confidence"] - share_of_votes) < 1 / NUM_BINS / 2 and len(numbers) == len(names):
                value, low, high = (f"{100 * number:.0f}" for number in numbers[:3])
                return (
                    f"On {numbers[3]:,} held-out problems with this share of votes, {value} % of the answers were "
                    f"right ({low} to {high})."
                )
    return ""


def _ece(in_bin: np.ndarray, shares: np.ndarray, rights: np.ndarray) -> float:
    return float(np.abs(in_bin.T @ (shares - rights)).sum() / len(shares))
