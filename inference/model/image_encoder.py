"""Each picture goes through the processor and the vision tower once, however many rows and questions use it.

The processor's part may begin earlier, on another thread, as soon as there is a picture: `ImageEncoder.prepare`.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import torch
from PIL import Image

from inference.model.families import Family, ImageEncoding

CACHE_BYTES = 512 * 2**20
"""Features kept, in bytes; a picture of 1,280 tokens takes 5 MB in a 3B model."""
CACHE_PICTURES = 1_024
"""Pictures kept. In a CPU's memory each leaves a hole beside its features where its pixels were: 0.4 MB for one of the
starter's, whose features are 0.02 MB, so that bytes alone are no bound."""
PREPARED_BYTES = 512 * 2**20
"""Kept of pictures that wait for their question, as the processor made them; one of a megapixel takes 24 MB."""
BATCH_PATCHES = 16_384
"""Patches that go through the tower at once."""


class ImageEncoder:
    """Encodes pictures and remembers the most recently used ones by content. For several threads."""

    def __init__(self, family: Family, lock: threading.Lock | None = None) -> None:
        """`lock` is held while the tower runs; the processor's part is done beside whatever else holds it."""
        self._family, self._lock = family, lock or threading.Lock()
        self._cache: OrderedDict[bytes, ImageEncoding] = OrderedDict()
        self._prepared: OrderedDict[bytes, Future[Any]] = OrderedDict()
        """What the processor made, or is making, of pictures that the tower has not seen."""
        self._preparing = threading.Lock()
        self.num_preparations = 0
        """Pictures that went through the processor so far."""
        self.num_encodings = 0
        """Pictures that went through the tower so far."""

    def prepare(self, images: Sequence[Image.Image]) -> None:
        """Do the processor's part for `encode`, so that it is there when it is asked for."""
        keys = _keys(images)
        for key, image in {keys[id(image)]: image for image in images}.items():
            if key not in self._cache:
                self._inputs(key, image)
                self._bound_prepared()

    def encode(self, images: Sequence[Image.Image]) -> list[ImageEncoding]:
        """One encoding per picture; equal pictures share one. No more are prepared ahead than the tower takes."""
        keys = _keys(images)
        found: dict[bytes, ImageEncoding] = {}
        batch: dict[bytes, Any] = {}
        num_patches = 0
        for key, image in {keys[id(image)]: image for image in images}.items():
            inputs = None if key in self._cache else self._inputs(key, image)
            added = 0 if inputs is None else self._family.num_patches(inputs)
            if batch and num_patches + added > BATCH_PATCHES:
                found |= self._encode(batch)
                batch, num_patches = {}, 0
            batch[key] = image if inputs is None else inputs
            num_patches += added
        found |= self._encode(batch)
        return [found[keys[id(image)]] for image in images]

    def forget(self) -> None:
        """Empty the memory of pictures, which is on the model's device; the caller holds the lock."""
        self._cache.clear()

    def _inputs(self, key: bytes, image: Image.Image) -> Any:
        """The processor's tensors, made now unless they are there or another thread is at it."""
        with self._preparing:
            future = self._prepared.get(key)
            is_mine = future is None
            if future is None:
                future = self._prepared[key] = Future()
        if is_mine:
            try:
                self.num_preparations += 1
                future.set_result(self._family.process(image))
            except BaseException as error:  # handed on to whoever waits for it, and raised here
                future.set_exception(error)
                with self._preparing:
                    self._prepared.pop(key, None)
        return future.result()

    def _encode(self, batch: dict[bytes, Any]) -> dict[bytes, ImageEncoding]:
        """Encodings by content, of the processor's tensors, or of pictures that were in the cache a moment ago."""
        with self._lock:
            found = {key: self._cache[key] for key in batch if key in self._cache}
            missing = {key: inputs for key, inputs in batch.items() if key not in found}
            for key, inputs in missing.items():
                if isinstance(inputs, Image.Image):  # it has left the cache since
                    missing[key] = self._inputs(key, inputs)
            if missing:
                self.num_encodings += len(missing)
                found |= zip(missing, self._family.encode(list(missing.values())), strict=True)
            for key in batch:
                self._cache[key] = found[key]
                self._cache.move_to_end(key)
            self._bound_cache()
        with self._preparing:
            for key in missing:
                self._prepared.pop(key, None)
        return found

    def _bound_cache(self) -> None:
        """Drop the least recently used until the rest fits."""
        size = sum(encoding.nbytes for encoding in self._cache.values())
        while (size > CACHE_BYTES or len(self._cache) > CACHE_PICTURES) and len(self._cache) > 1:
            size -= self._cache.popitem(last=False)[1].nbytes

    def _bound_prepared(self) -> None:
        """Drop the oldest until the rest fits; those in the making are counted once they are there."""
        with self._preparing:
            made = {key: future for key, future in self._prepared.items() if future.done() and not future.exception()}
            sizes = {key: _num_bytes(future.result()) for key, future in made.items()}
            size = sum(sizes.values())
            for key in list(sizes)[:-1]:
                if size <= PREPARED_BYTES:
                    break
                size -= sizes[key]
                del self._prepared[key]


def _keys(images: Sequence[Image.Image]) -> dict[int, bytes]:
    """Content keys by `id`; rows of a group share one object."""
    return {key: content_key(image) for key, image in {id(image): image for image in images}.items()}


def _num_bytes(inputs: Any) -> int:
    """Of the processor's tensors."""
    return sum(value.nbytes for value in inputs.values() if isinstance(value, torch.Tensor))


def content_key(image: Image.Image) -> bytes:
    """A digest of a picture's pixels, size and mode."""
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.digest()
