"""Each picture goes through the processor and the vision tower once, however many rows and questions use it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

CACHE_BYTES = 512 * 2**20
"""Features kept, in bytes; a picture of 1,280 tokens takes 5 MB in a 3B model."""
BATCH_PATCHES = 16_384
"""Patches that go through the tower at once."""


@dataclass(frozen=True)
class ImageEncoding:
    """A picture as the language model takes it."""

    features: torch.Tensor
    """(N, hidden), one row per image token."""
    grid: torch.Tensor
    """(3,) patches in time, height and width, on the CPU."""


class ImageEncoder:
    """Encodes pictures and remembers the most recently used ones by content."""

    def __init__(self, model: Any, image_processor: Any) -> None:
        self._model = model
        self._image_processor = image_processor
        self._cache: OrderedDict[bytes, ImageEncoding] = OrderedDict()
        self.num_encodings = 0
        """Pictures that went through the tower so far."""

    def encode(self, images: Sequence[Image.Image]) -> list[ImageEncoding]:
        """One encoding per picture; equal pictures share one."""
        distinct: dict[int, bytes] = {id(image): b"" for image in images}
        by_id = {id(image): image for image in images}
        for key in distinct:
            distinct[key] = content_key(by_id[key])
        needed = {content: by_id[key] for key, content in distinct.items()}
        found = {content: self._cache[content] for content in needed if content in self._cache}
        missing = {content: image for content, image in needed.items() if content not in found}
        found |= zip(missing, self._run(missing.values()), strict=True)
        for content, encoding in found.items():
            self._cache[content] = encoding
            self._cache.move_to_end(content)
        self._forget()
        return [found[distinct[id(image)]] for image in images]

    def _run(self, images: Iterable[Image.Image]) -> list[ImageEncoding]:
        encodings: list[ImageEncoding] = []
        batch: list[Any] = []
        for image in images:
            inputs = self._image_processor(images=[image], return_tensors="pt")
            if batch and sum(len(b["pixel_values"]) for b in batch) + len(inputs["pixel_values"]) > BATCH_PATCHES:
                encodings += self._tower(batch)
                batch = []
            batch.append(inputs)
        return encodings + (self._tower(batch) if batch else [])

    def _tower(self, batch: list[Any]) -> list[ImageEncoding]:
        device = self._model.device
        pixels = torch.cat([inputs["pixel_values"] for inputs in batch]).to(device)  # (patches, patch values)
        grids = torch.cat([inputs["image_grid_thw"] for inputs in batch])  # (images, 3)
        outputs = self._model.get_image_features(pixels, grids.to(device), return_dict=True)
        self.num_encodings += len(batch)
        return [ImageEncoding(f.clone(), g) for f, g in zip(outputs.pooler_output, grids, strict=True)]

    def _forget(self) -> None:
        """Drop the least recently used until the rest fits."""
        size = sum(e.features.nbytes for e in self._cache.values())
        while size > CACHE_BYTES and len(self._cache) > 1:
            size -= self._cache.popitem(last=False)[1].features.nbytes


def content_key(image: Image.Image) -> bytes:
    """A digest of a picture's pixels, size and mode."""
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.digest()
