"""Keys and values of the rows in the slots: tensors made once, written in place.

All rows write their next token in one column, so a step writes one slice of each layer. A prompt stands to the left of
the column it joins at; what lies before its start is masked. Rotary positions are in the keys already, so that a row
may stand anywhere.
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
"""Columns held per column needed, once rows join at different times: what lies between two moves to the left.

Until then no more than is needed: attention reads rows the faster, the nearer they lie to each other.
"""
_VERSIONS = itertools.count()

States = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""By layer keys and values, (rows, heads, columns, width)."""


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values, (slots, heads, columns, width), and the part of them that is in use."""

    is_sliding = False
    _at: torch.Tensor | None = None
    """(1,) the column that is written, where that is for the device alone to know."""

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        raise AssertionError("SlotCache.reserve makes the tensors")

    def open(self, num_rows: int, low: int, column: int) -> None:
        """From now on `update` is for the first rows, and for the columns from `low`; `column` is written next."""
        assert self.keys is not None and self.values is not None
        self._keys = self.keys[:num_rows, :, low:]
        self._values = self.values[:num_rows, :, low:]
        self._next, self._at = column - low, None

    def open_whole(self, num_rows: int, column: torch.Tensor) -> None:
        """From now on `update` is for the first rows and all columns, and writes where `column` (1,) says."""
        assert self.keys is not None and self.values is not None
        self._keys, self._values, self._at = self.keys[:num_rows], self.values[:num_rows], column

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one token of each row (B, heads, 1, width); returns all that it may look at."""
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


class SlotCache(Cache):
    """The layers of a model, with room for rows and columns as they are reserved."""

    def __init__(self, num_layers: int) -> None:
        self._slot_layers = [SlotLayer() for _ in range(num_layers)]
        super().__init__(layers=list(self._slot_layers))
        self.num_rows = self.num_columns = 0
        self.version = next(_VERSIONS)
        """Another one whenever the tensors are others, of any cache."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `SlotLayer.update`, for a layer."""
        return self._slot_layers[layer_idx].update(key_states, value_states)

    def open(self, num_rows: int, low: int, column: int) -> None:
        """See `SlotLayer.open`."""
        for layer in self._slot_layers:
            layer.open(num_rows, low, column)

    def open_whole(self, num_rows: int, column: torch.Tensor) -> None:
        """See `SlotLayer.open_whole`."""
        for layer in self._slot_layers:
            layer.open_whole(num_rows, column)

    def reserve(self, like: States, num_rows: int, num_columns: int) -> None:
        """Make room for so many rows and columns, and keep what there is; new tensors are of a kind with `like`."""
        if num_rows <= self.num_rows and num_columns <= self.num_columns:
            return
        self.version = next(_VERSIONS)
        rows = self.num_rows if num_rows <= self.num_rows else 1 << (num_rows - 1).bit_length()
        columns = self.num_columns if num_columns <= self.num_columns else -(-num_columns // 16) * 16
        for layer, (keys, values) in zip(self._slot_layers, like, strict=True):
            layer.keys = _grown(layer.keys, keys, rows, columns)
            layer.values = _grown(layer.values, values, rows, columns)
            layer.is_initialized = True
        self.num_rows, self.num_columns = rows, columns

    def widen(self, num_columns: int) -> None:
        """Room for so many columns and some more, so that a shift to the left lasts a while."""
        like = [(layer.keys, layer.values) for layer in self._slot_layers]
        self.reserve(like, self.num_rows, int(num_columns * ROOM) + 16)  # type: ignore[arg-type]

    def shift(self, num_rows: int, low: int, end: int, new_low: int) -> None:
        """Move the columns [low, end) of the first rows so that they begin at `new_low`.

        Where there is no memory for that, nothing has been moved.
        """
        tensors = self._tensors()
        between = torch.empty_like(tensors[0][:num_rows, :, low:end])
        for tensor in tensors:
            between.copy_(tensor[:num_rows, :, low:end])
            tensor[:num_rows, :, new_low : new_low + end - low] = between

    def clear(self, first: int, last: int, low: int, end: int) -> None:
        """Zero the columns [low, end) of rows [first, last): masked, but no row may leave NaN to the next."""
        if first < last and low < end:
            for tensor in self._tensors():
                tensor[first:last, :, low:end] = 0

    def write(self, first: int, prompts: States, sources: torch.Tensor, end: int) -> None:
        """Copy prompts into rows from `first` on, so that they end before column `end`; `sources` are their rows."""
        for tensor, made in zip(self._tensors(), itertools.chain(*prompts), strict=True):
            tensor[first : first + len(sources), :, end - made.shape[2] : end] = made[sources]

    def part(self, rows: Sequence[int], low: int, end: int) -> States:
        """A copy of the columns [low, end) of some rows."""
        layers = [(layer.keys, layer.values) for layer in self._slot_layers]
        return [(keys[list(rows), :, low:end], values[list(rows), :, low:end]) for keys, values in layers]  # type: ignore[index]

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return sum(tensor.nbytes for tensor in self._tensors())

    @property
    def column_bytes(self) -> int:
        """What a column of one row takes in one layer."""
        return sum(tensor[0, :, 0].nbytes for tensor in self._tensors()[:2])

    def move(self, sources: Sequence[int], targets: Sequence[int], low: int, end: int) -> None:
        """Copy the columns [low, end) of some rows to the places of others."""
        tensors = self._tensors()
        source, target = (send(torch.tensor(places), tensors[0].device) for places in (sources, targets))
        for tensor in tensors:
            tensor[target, :, low:end] = tensor[source, :, low:end]

    def _tensors(self) -> list[torch.Tensor]:
        return [t for layer in self._slot_layers for t in (layer.keys, layer.values) if t is not None]


def _grown(old: torch.Tensor | None, like: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    if old is not None:  # it is larger already where there was no memory for the layers after it
        rows, columns = max(rows, old.shape[0]), max(columns, old.shape[2])
    new = like.new_zeros(rows, like.shape[1], columns, like.shape[3])
    if old is not None:
        new[: old.shape[0], :, : old.shape[2]] = old
    return new
