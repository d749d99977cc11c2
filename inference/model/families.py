"""Families of models: how each encodes a picture, writes it in a prompt and counts positions.

family = FAMILIES[model.config.model_type](model, processor)
inputs = family.process(image)  # on the CPU
encoding = family.encode([inputs])[0]
encoding.placeholders  # the text that takes the place of each picture's marker
"""

from __future__ import annotations

import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import transformers
from PIL import Image
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.utils import ModelOutput, is_flash_attn_2_available, is_kernels_available

from inference.common.errors import UserError

if TYPE_CHECKING:
    from transformers import BatchFeature, PreTrainedModel, ProcessorMixin

StepMask = torch.Tensor | None | dict[str, torch.Tensor | None]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageEncoding:
    """The features of a picture, or of the pictures of one prompt, ready for the language model."""

    features: torch.Tensor
    """(N, hidden), one row per image token."""
    placeholders: tuple[str, ...]
    """Each picture in the prompt's text: together N image tokens, and the family's tokens around them."""
    deep_features: tuple[torch.Tensor, ...] = ()
    """(N, hidden) each, added to the hidden states after the first layers (DeepStack)."""
    grid: torch.Tensor | None = None
    """(pictures, 3) patches in time, height and width, on the CPU, where positions need them."""
    distance: float | None = None
    """From the pictures that the base knows, in units of the limit (`KnownPictures`); `None` where that is unknown."""

    @property
    def nbytes(self) -> int:
        return sum(features.nbytes for features in (self.features, *self.deep_features))


def join_encodings(parts: Sequence[ImageEncoding]) -> ImageEncoding:
    """The encoding of the pictures of one prompt, in their order; of one picture its own, not a copy."""
    if len(parts) == 1:
        return parts[0]
    grids = [part.grid for part in parts if part.grid is not None]
    distances = [part.distance for part in parts if part.distance is not None]
    return ImageEncoding(
        torch.cat([part.features for part in parts]),
        tuple(itertools.chain.from_iterable(part.placeholders for part in parts)),
        tuple(torch.cat(layer) for layer in zip(*(part.deep_features for part in parts), strict=True)),
        torch.cat(grids) if grids else None,
        max(distances, default=None),
    )


class Family(ABC):
    """A family of models: the way in which they take pictures and count positions."""

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin) -> None:
        self._model: Any = model  # the classes differ by family
        self._processor: Any = processor

    def use_flash_attention(self) -> bool:
        """Switch the vision tower to FlashAttention; False where that cannot be."""
        return False

    @abstractmethod
    def process(self, image: Image.Image) -> BatchFeature:
        """The image processor's tensors for one RGB picture."""

    @abstractmethod
    def num_patches(self, inputs: BatchFeature) -> int:
        """Patches in these tensors, which decide what they cost the tower."""

    @abstractmethod
    def encode(self, batch: Sequence[BatchFeature]) -> list[ImageEncoding]:
        """Run the tower once on the tensors of several pictures; returns an encoding of each."""

    @abstractmethod
    def positions(
        self, ids: torch.Tensor, mask: torch.Tensor, image_token: int, images: Sequence[ImageEncoding]
    ) -> torch.Tensor:
        """Positions (…, B, T) of left-padded ids (B, T), with the pictures of each row, on the CPU."""

    def next_positions(self, positions: torch.Tensor) -> torch.Tensor:
        """The position after the last, (…, B, 1), in the shape that one decode step takes."""
        return positions.amax(dim=-1, keepdim=True) + 1

    def step_mask(self, mask: torch.Tensor | None) -> StepMask:
        """The mask (B, 1, 1, length) of one decode step as the model takes it; `None` hides nothing."""
        return mask


class QwenVL(Family):
    """Qwen2-VL, Qwen2.5-VL and Qwen3-VL: pictures of any shape as rows of patches, positions in three axes."""

    def use_flash_attention(self) -> bool:
        return use_flash_attention(self._model.model.visual)

    def process(self, image: Image.Image) -> BatchFeature:
        return self._processor.image_processor(images=[image], return_tensors="pt")

    def num_patches(self, inputs: BatchFeature) -> int:
        return len(inputs["pixel_values"])

    def encode(self, batch: Sequence[BatchFeature]) -> list[ImageEncoding]:
        device = self._model.device
        pixels = torch.cat([inputs["pixel_values"] for inputs in batch]).to(device)  # (patches, patch values)
        grids = torch.cat([inputs["image_grid_thw"] for inputs in batch])  # (images, 3)
        outputs = self._model.get_image_features(pixels, grids.to(device), return_dict=True)
        layers = outputs.get("deepstack_features") or []  # Qwen3-VL has them: a list of tuples, by layer and by image
        encodings = []
        for i, features in enumerate(outputs.pooler_output):
            deep = tuple(layer[i].clone() for layer in layers)
            placeholder = self._processor.image_token * len(features)
            encodings.append(ImageEncoding(features.clone(), (placeholder,), deep, grids[i : i + 1]))
        return encodings

    def positions(
        self, ids: torch.Tensor, mask: torch.Tensor, image_token: int, images: Sequence[ImageEncoding]
    ) -> torch.Tensor:
        """(3, B, T): time, height and width."""
        positions, _ = self._model.model.get_rope_index(
            ids,
            mm_token_type_ids=(ids == image_token).int(),
            image_grid_thw=torch.cat([image.grid for image in images if image.grid is not None]),
            attention_mask=mask,
        )
        return positions

    def next_positions(self, positions: torch.Tensor) -> torch.Tensor:
        """(3, B, 1): text goes on from the farthest of the three axes."""
        return super().next_positions(positions).amax(dim=0, keepdim=True).expand(3, -1, -1)


class Qwen2VL(QwenVL):
    """Qwen2-VL and Qwen2.5-VL: they accept masks by kind of layer, which spares building one at each step."""

    def step_mask(self, mask: torch.Tensor | None) -> StepMask:
        return {"full_attention": mask}


class SmolVLM(Family):
    """SmolVLM and Idefics3: a picture is cut into square tiles and a small whole; positions count tokens."""

    def process(self, image: Image.Image) -> BatchFeature:
        return self._processor.image_processor(images=[[image]], return_tensors="pt", return_row_col_info=True)

    def num_patches(self, inputs: BatchFeature) -> int:
        _, tiles, _, height, width = inputs["pixel_values"].shape
        return tiles * (height // self._patch_size) * (width // self._patch_size)

    def encode(self, batch: Sequence[BatchFeature]) -> list[ImageEncoding]:
        """All tiles are of one size, so those of several pictures go through the tower as those of one."""
        device = self._model.device
        pixels = torch.cat([inputs["pixel_values"] for inputs in batch], dim=1)  # (1, tiles, 3, height, width)
        masks = torch.cat([inputs["pixel_attention_mask"] for inputs in batch], dim=1)  # (1, tiles, height, width)
        outputs = self._model.get_image_features(pixels.to(device), masks.to(device), return_dict=True)
        tiles = [inputs["pixel_values"].shape[1] for inputs in batch]
        features = outputs.pooler_output[0].unflatten(0, (sum(tiles), -1))  # (tiles, tokens a tile, hidden)
        placeholders = [self._processor.replace_image_token(inputs, 0) for inputs in batch]
        return [
            ImageEncoding(part.flatten(0, 1).clone(), (placeholder,))
            for part, placeholder in zip(features.split(tiles), placeholders, strict=True)
        ]

    def positions(
        self, ids: torch.Tensor, mask: torch.Tensor, image_token: int, images: Sequence[ImageEncoding]
    ) -> torch.Tensor:
        """(B, T)."""
        return (mask.cumsum(dim=-1) - 1).clamp(min=0)

    @property
    def _patch_size(self) -> int:
        return self._model.config.vision_config.patch_size


FAMILIES: dict[str, type[Family]] = {
    "qwen2_vl": Qwen2VL,
    "qwen2_5_vl": Qwen2VL,
    "qwen3_vl": QwenVL,
    "qwen3_vl_moe": QwenVL,
    "idefics3": SmolVLM,
    "smolvlm": SmolVLM,
}
"""By the `model_type` in a base's config.json. The first SmolVLM models are of type idefics3."""


def is_known(model_type: str) -> bool:
    """True for a family that the engine knows; others go the plain way (`inference.model.plain`)."""
    return model_type in FAMILIES


def check_family(base: str, model_type: str | None) -> None:
    """Raises `UserError` for a base that is no vision-language model of transformers."""
    if model_type is None:
        raise UserError(
            f"The base {base} holds no model: there is no config.json with a model_type. Name a folder that holds a "
            "model in safetensors with its processor, or a Hub id."
        )
    if model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise UserError(
            f"The base {base} is of the family {model_type}, which is no vision-language model of this transformers "
            f"({transformers.__version__}); choose one that AutoModelForImageTextToText loads, such as "
            f"{', '.join(FAMILIES)}."
        )


@dataclass
class _TowerOutput(ModelOutput):
    """Pictures' features in the shape that transformers' towers return."""

    pooler_output: tuple[torch.Tensor, ...] | None = None
    """By row: (N, hidden)."""
    deepstack_features: list[tuple[torch.Tensor, ...]] | None = None
    """By layer and row: (N, hidden)."""


def tower_output(images: Sequence[ImageEncoding]) -> ModelOutput:
    """Pictures' features as a model takes them (`mm_encoder_outputs={"image": …}`), an encoding a row."""
    deep = list(zip(*(image.deep_features for image in images), strict=True))
    return _TowerOutput(tuple(image.features for image in images), deep or None)


def use_flash_attention(tower: PreTrainedModel) -> bool:
    """Switch a vision tower to FlashAttention if its device, its dtype and an installed package allow it.

    torch's own attention takes the tower's windows one by one. `pip install kernels` brings FlashAttention from the
    Hub, `flash-attn` from PyPI. An engine asks for it where the doctor has seen it right (`FastPaths`).
    """
    is_half = tower.dtype in (torch.bfloat16, torch.float16)
    has_package = is_kernels_available() or is_flash_attn_2_available()
    return tower.device.type == "cuda" and is_half and has_package and switch_to_flash(tower)


def switch_to_flash(tower: PreTrainedModel) -> bool:
    """Ask transformers for FlashAttention. If that fails (no build for this machine, the Hub out of reach), log it and
    leave the tower as it was."""
    try:
        tower.set_attn_implementation("flash_attention_2")
    except Exception as error:  # the package's own loader may raise anything
        _log.warning("no FlashAttention for the vision tower: %s: %s", type(error).__name__, error)
        return False
    return True
