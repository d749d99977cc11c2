"""The image encoder: each picture goes through processor and vision tower once, however many requests use it.

The processor's part may run ahead on another thread, as soon as there is a picture: `ImageEncoder.prepare`.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from PIL import Image

from inference.model.families import Family, ImageEncoding
from inference.model.known_pictures import KnownPictures
from inference.prompt.image import content_key

if TYPE_CHECKING:
    from transformers import BatchFeature

CACHE_BYTES = 512 * 2**20
"""Features kept, in bytes; a picture of 1,280 tokens takes 5 MB in a 3B model."""
CACHE_PICTURES = 1_024
"""Pictures kept. In a CPU's memory each leaves a hole beside its features where its pixels were: 0.4 MB for one of the
starter's, whose features take 0.02 MB, so a limit in bytes alone is not enough."""
PREPARED_BYTES = 512 * 2**20
"""The processor's tensors kept for pictures that no question has come for; one of a megapixel takes 24 MB."""
BATCH_PATCHES = 16_384
"""Patches that go through the tower at once."""


class ImageEncoder:
    """Encodes pictures and keeps the most recently used encodings by content. Thread-safe."""

    def __init__(self, family: Family, lock: threading.Lock | None = None, known: KnownPictures | None = None) -> None:
        """`lock` is held while the tower runs, and not while the processor does; `known` measures distances."""
        self._family, self._lock, self._known = family, lock or threading.Lock(), known
        self._cache: OrderedDict[bytes, ImageEncoding] = OrderedDict()
        self._prepared: OrderedDict[bytes, Future[BatchFeature]] = OrderedDict()
        """The processor's tensors, finished or in the making, of pictures that the tower has not seen."""
        self._prepared_lock = threading.Lock()
        self._since: dict[bytes, float] = {}
        """The time, by the monotonic clock, at which each picture came; for `drop_older`."""
        self.num_preparations = 0
        """Pictures that went through the processor so far."""
        self.num_encodings = 0
        """Pictures that went through the tower so far."""

    def prepare(self, images: Collection[Image.Image]) -> None:
        """Do the processor's part of `encode` ahead of time."""
        keys = _keys(images)
        for key, image in {keys[id(image)]: image for image in images}.items():
            if key not in self._cache:
                self._inputs(key, image)
                self._bound_prepared()

    def encode(self, images: Collection[Image.Image]) -> list[ImageEncoding]:
        """One encoding per picture; equal pictures share one. No more are prepared ahead than the tower takes."""
        keys = _keys(images)
        encodings: dict[bytes, ImageEncoding] = {}
        batch: dict[bytes, BatchFeature | Image.Image] = {}
        num_patches = 0
        for key, image in {keys[id(image)]: image for image in images}.items():
            inputs = None if key in self._cache else self._inputs(key, image)
            added = 0 if inputs is None else self._family.num_patches(inputs)
            if batch and num_patches + added > BATCH_PATCHES:
                encodings |= self._encode(batch)
                batch, num_patches = {}, 0
            batch[key] = image if inputs is None else inputs
            num_patches += added
        encodings |= self._encode(batch)
        return [encodings[keys[id(image)]] for image in images]

    def forget(self) -> None:
        """Empty the cache, which is on the model's device; the caller holds the lock."""
        self._cache.clear()
        self._since = {key: since for key, since in self._since.items() if key in self._prepared}

    def drop_older(self, seconds: float) -> int:
        """Forget pictures that have been kept for longer; returns how many are left."""
        oldest = time.monotonic() - seconds
        with self._lock, self._prepared_lock:
            for key in [key for key, since in self._since.items() if since < oldest]:
                del self._since[key]
                self._cache.pop(key, None)
                self._prepared.pop(key, None)
            self._since = {key: at for key, at in self._since.items() if key in self._cache or key in self._prepared}
            return len(self._since)

    def _inputs(self, key: bytes, image: Image.Image) -> BatchFeature:
        """The processor's tensors; computed here unless they are there or another thread computes them."""
        with self._prepared_lock:
            future = self._prepared.get(key)
            is_mine = future is None
            if future is None:
                future = self._prepared[key] = Future()
                self._since.setdefault(key, time.monotonic())
        if is_mine:
            try:
                self.num_preparations += 1
                future.set_result(self._family.process(image))
            except BaseException as error:  # passed on to the threads that wait for it, and raised here
                future.set_exception(error)
                with self._prepared_lock:
                    self._prepared.pop(key, None)
                    self._since.pop(key, None)
        return future.result()

    def _encode(self, batch: dict[bytes, BatchFeature | Image.Image]) -> dict[bytes, ImageEncoding]:
        """Encodings by content, of the processor's tensors, or of pictures that were in the cache a moment ago."""
        with self._lock:
            encodings = {key: self._cache[key] for key in batch if key in self._cache}
            missing = {  # a picture among them has left the cache since
                key: self._inputs(key, inputs) if isinstance(inputs, Image.Image) else inputs
                for key, inputs in batch.items()
                if key not in encodings
            }
            if missing:
                self.num_encodings += len(missing)
                made = map(self._measured, self._family.encode(list(missing.values())))
                encodings |= zip(missing, made, strict=True)
            for key in batch:
                self._cache[key] = encodings[key]
                self._cache.move_to_end(key)
                self._since.setdefault(key, time.monotonic())
            size = sum(encoding.nbytes for encoding in self._cache.values())
            while (size > CACHE_BYTES or len(self._cache) > CACHE_PICTURES) and len(self._cache) > 1:
                oldest, encoding = self._cache.popitem(last=False)
                self._since.pop(oldest, None)
                size -= encoding.nbytes
        with self._prepared_lock:
            for key in missing:
                self._prepared.pop(key, None)
        return encodings

    def _measured(self, encoding: ImageEncoding) -> ImageEncoding:
        known = self._known
        return encoding if known is None else replace(encoding, distance=known.distance(encoding.features))

    def _bound_prepared(self) -> None:
        """Drop the oldest tensors until the rest fits; those in the making count once they are there."""
        with self._prepared_lock:
            done = {key: future for key, future in self._prepared.items() if future.done() and not future.exception()}
            sizes = {key: _num_bytes(future.result()) for key, future in done.items()}
            size = sum(sizes.values())
            for key in list(sizes)[:-1]:
                if size <= PREPARED_BYTES:
                    break
                size -= sizes[key]
                del self._prepared[key]
                self._since.pop(key, None)


def _keys(images: Collection[Image.Image]) -> dict[int, bytes]:
    """Content keys by `id`; requests of a group share one object."""
    return {key: content_key(image) for key, image in {id(image): image for image in images}.items()}


def _num_bytes(inputs: BatchFeature) -> int:
    return sum(value.nbytes for value in inputs.values() if isinstance(value, torch.Tensor))
