"""Each picture goes through the processor and the vision tower once, however many rows and questions use it.

The processor's part may begin earlier, on another thread, as soon as there is a picture: `ImageEncoder.prepare`.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any

from PIL import Image

from inference.families import Family, ImageEncoding

CACHE_BYTES = 512 * 2**20
"""Features kept, in bytes; a picture of 1,280 tokens takes 5 MB in a 3B model."""
MAX_PREPARED = 8
"""Pictures kept that went through the processor only; one of a megapixel takes 24 MB there."""
BATCH_PATCHES = 16_384
"""Patches that go through the tower at once."""


class ImageEncoder:
    """Encodes pictures and remembers the most recently used ones by content."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._cache: OrderedDict[bytes, ImageEncoding] = OrderedDict()
        self._prepared: OrderedDict[bytes, Future[Any]] = OrderedDict()
        """What the processor made, or is making, of pictures that the tower has not seen."""
        self._preparing = threading.Lock()
        self.num_preparations = 0
        """Pictures that went through the processor so far."""
        self.num_encodings = 0
        """Pictures that went through the tower so far."""

    def prepare(self, images: Iterable[Image.Image]) -> None:
        """Do the processor's part for `encode`; for any thread, beside whatever else goes on."""
        for image in {id(image): image for image in images}.values():
            key = content_key(image)
            if key not in self._cache:
                self._inputs(key, image)

    def encode(self, images: Sequence[Image.Image]) -> list[ImageEncoding]:
        """One encoding per picture; equal pictures share one. One call at a time."""
        distinct: dict[int, bytes] = {id(image): b"" for image in images}
        by_id = {id(image): image for image in images}
        for key in distinct:
            distinct[key] = content_key(by_id[key])
        needed = {content: by_id[key] for key, content in distinct.items()}
        found = {content: self._cache[content] for content in needed if content in self._cache}
        missing = {content: image for content, image in needed.items() if content not in found}
        found |= zip(missing, self._run(missing), strict=True)
        with self._preparing:
            for content in missing:
                self._prepared.pop(content, None)
        for content, encoding in found.items():
            self._cache[content] = encoding
            self._cache.move_to_end(content)
        self._forget()
        return [found[distinct[id(image)]] for image in images]

    def forget(self) -> None:
        """Empty the memory of pictures, which is on the model's device."""
        self._cache.clear()

    def _inputs(self, key: bytes, image: Image.Image) -> Any:
        """The processor's tensors, made now unless they are there or another thread is at it."""
        with self._preparing:
            future = self._prepared.get(key)
            is_mine = future is None
            if future is None:
                future = self._prepared[key] = Future()
                while len(self._prepared) > MAX_PREPARED:
                    self._prepared.popitem(last=False)
        if is_mine:
            try:
                self.num_preparations += 1
                future.set_result(self._family.process(image))
            except BaseException as error:  # handed on to whoever waits for it, and raised here
                future.set_exception(error)
                with self._preparing:
                    self._prepared.pop(key, None)
        return future.result()

    def _run(self, images: dict[bytes, Image.Image]) -> list[ImageEncoding]:
        encodings: list[ImageEncoding] = []
        batch: list[Any] = []
        num_patches = 0
        for key, image in images.items():
            inputs = self._inputs(key, image)
            added = self._family.num_patches(inputs)
            if batch and num_patches + added > BATCH_PATCHES:
                encodings += self._tower(batch)
                batch, num_patches = [], 0
            batch.append(inputs)
            num_patches += added
        return encodings + (self._tower(batch) if batch else [])

    def _tower(self, batch: list[Any]) -> list[ImageEncoding]:
        self.num_encodings += len(batch)
        return self._family.encode(batch)

    def _forget(self) -> None:
        """Drop the least recently used until the rest fits."""
        size = sum(encoding.nbytes for encoding in self._cache.values())
        while size > CACHE_BYTES and len(self._cache) > 1:
            size -= self._cache.popitem(last=False)[1].nbytes


def content_key(image: Image.Image) -> bytes:
    """A digest of a picture's pixels, size and mode."""
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.digest()
