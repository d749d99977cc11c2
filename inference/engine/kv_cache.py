"""The KV cache: keys and values of the batch's rows, in tensors made once and written in place.

All rows write their next token in one column, so a step writes one slice of each layer. A prompt stands left of the
column it joins at; columns before its start are masked. Keys hold their rotary positions already, so a row may stand
anywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

from inference.model.device import send

ROOM = 1.25
"""Columns held per column needed, once rows join at different times: how far they get between two shifts to the left.

Until then no more than needed are held: attention reads rows faster that lie near each other.
"""
_VERSIONS = itertools.count()

KeyValues = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""By layer keys and values, (rows, heads, columns, width)."""


class KVCacheLayer(CacheLayerMixin):
    """One layer's keys and values, (rows, heads, columns, width), and the part of them that is in use."""

    is_sliding = False
    _at: torch.Tensor | None = None
    """(1,) the column that is written, where only the device knows it."""

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        raise AssertionError("KVCache.reserve allocates the tensors")

    def select(self, num_rows: int, low: int, column: int) -> None:
        """Make `update` work on the first rows and the columns from `low`, and write `column` next."""
        assert self.keys is not None and self.values is not None
        self._keys = self.keys[:num_rows, :, low:]
        self._values = self.values[:num_rows, :, low:]
        self._next, self._at = column - low, None

    def select_all(self, num_rows: int, column: torch.Tensor) -> None:
        """Make `update` work on the first rows and all columns, and write the column that `column` (1,) holds."""
        assert self.keys is not None and self.values is not None
        self._keys, self._values, self._at = self.keys[:num_rows], self.values[:num_rows], column

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one token of each row (B, heads, 1, width); returns the keys and values that the rows may look at."""
        if self._at is not None:
            self._keys.index_copy_(2, self._at, key_states)
            self._values.index_copy_(2, self._at, value_states)
            return self._keys, self._values
        place = self._next
        self._next = end = place + 1
        self._keys.narrow(2, place, 1).copy_(key_states)
        self._values.narrow(2, place, 1).copy_(value_states)
        return self._keys.narrow(2, 0, end), self._values.narrow(2, 0, end)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._next + query_length, 0

    def get_seq_length(self) -> int:
        return self._next

    def get_max_length(self) -> int:
        return -1


class KVCache(Cache):
    """The layers of a model, with room for rows and columns as they are reserved."""

    def __init__(self, num_layers: int) -> None:
        self._cache_layers = [KVCacheLayer() for _ in range(num_layers)]
        super().__init__(layers=list(self._cache_layers))
        self.num_rows = self.num_columns = 0
        self.version = next(_VERSIONS)
        """Changes whenever the tensors are replaced; unique among all caches."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `KVCacheLayer.update`, for a layer."""
        return self._cache_layers[layer_idx].update(key_states, value_states)

    def select(self, num_rows: int, low: int, column: int) -> None:
        """See `KVCacheLayer.select`."""
        for layer in self._cache_layers:
            layer.select(num_rows, low, column)

    def select_all(self, num_rows: int, column: torch.Tensor) -> None:
        """See `KVCacheLayer.select_all`."""
        for layer in self._cache_layers:
            layer.select_all(num_rows, column)

    def reserve(self, like: KeyValues, num_rows: int, num_columns: int) -> None:
        """Make room for so many rows and columns, and keep the content; new tensors have dtype and device of `like`."""
        if num_rows <= self.num_rows and num_columns <= self.num_columns:
            return
        self.version = next(_VERSIONS)
        rows = self.num_rows if num_rows <= self.num_rows else 1 << (num_rows - 1).bit_length()
        columns = self.num_columns if num_columns <= self.num_columns else -(-num_columns // 16) * 16
        for layer, (keys, values) in zip(self._cache_layers, like, strict=True):
            layer.keys = _grown(layer.keys, keys, rows, columns)
            layer.values = _grown(layer.values, values, rows, columns)
            layer.is_initialized = True
        self.num_rows, self.num_columns = rows, columns

    def widen(self, num_columns: int) -> None:
        """Make room for so many columns and some more, so that a shift to the left lasts a while."""
        like = [(layer.keys, layer.values) for layer in self._cache_layers]
        self.reserve(like, self.num_rows, int(num_columns * ROOM) + 16)  # type: ignore[arg-type]

    def shift(self, num_rows: int, low: int, end: int, new_low: int) -> None:
        """Move the columns [low, end) of the first rows so that they begin at `new_low`.

        If memory runs out, nothing has been moved.
        """
        tensors = self._tensors()
        between = torch.empty_like(tensors[0][:num_rows, :, low:end])
        for tensor in tensors:
            between.copy_(tensor[:num_rows, :, low:end])
            tensor[:num_rows, :, new_low : new_low + end - low] = between

    def clear(self, first: int, last: int, low: int, end: int) -> None:
        """Zero the columns [low, end) of rows [first, last). They are masked, but a NaN left there would spread."""
        if first < last and low < end:
            for tensor in self._tensors():
                tensor[first:last, :, low:end] = 0

    def write(self, first: int, prompts: KeyValues, sources: torch.Tensor, end: int) -> None:
        """Copy the prompts `sources` into rows from `first` on, so that they end before column `end`."""
        for tensor, new in zip(self._tensors(), itertools.chain(*prompts), strict=True):
            tensor[first : first + len(sources), :, end - new.shape[2] : end] = new[sources]

    def copy_of(self, rows: Sequence[int], low: int, end: int) -> KeyValues:
        """A copy of the columns [low, end) of some rows."""
        layers = [(layer.keys, layer.values) for layer in self._cache_layers]
        return [(keys[list(rows), :, low:end], values[list(rows), :, low:end]) for keys, values in layers]  # type: ignore[index]

    @property
    def nbytes(self) -> int:
        """The cache's size in memory, in bytes."""
        return sum(tensor.nbytes for tensor in self._tensors())

    @property
    def column_bytes(self) -> int:
        """Bytes of one column of one row in one layer."""
        return sum(tensor[0, :, 0].nbytes for tensor in self._tensors()[:2])

    def move(self, sources: Sequence[int], targets: Sequence[int], low: int, end: int) -> None:
        """Copy the columns [low, end) of the rows `sources` into the rows `targets`."""
        tensors = self._tensors()
        source, target = (send(torch.tensor(rows), tensors[0].device) for rows in (sources, targets))
        for tensor in tensors:
            tensor[target, :, low:end] = tensor[source, :, low:end]

    def _tensors(self) -> list[torch.Tensor]:
        return [t for layer in self._cache_layers for t in (layer.keys, layer.values) if t is not None]


def _grown(old: torch.Tensor | None, like: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    if old is not None:  # larger already where memory ran out at a later layer
        rows, columns = max(rows, old.shape[0]), max(columns, old.shape[2])
    new = like.new_zeros(rows, like.shape[1], columns, like.shape[3])
    if old is not None:
        new[: old.shape[0], :, : old.shape[2]] = old
    return new
