"""A decode step whose tensors keep their shapes and addresses, so that a CUDA graph can replay it as one launch.

It looks at every column of the cache and masks those that a row does not have. It has a power of two of rows; the last
ones may be unused. It is captured on CUDA only, and used where the doctor has seen it right
(`inference.engine.fast_paths`). On a CPU the same step runs without a graph.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from inference.engine.kv_cache import KVCache
from inference.model.device import send
from inference.model.families import Family
from inference.model.lora_layers import Adapter, Router, Routes, make_routes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WARM_UP_STEPS = 2
"""Steps before a capture, in which libraries allocate their work spaces."""
MAX_GRAPHS = 8
"""Graphs kept; the least recently used is dropped first. Each keeps its adapters alive."""


@dataclass(eq=False)
class _StepGraph:
    """The inputs and the graph of one step of R rows, some of them unused, on one cache and with some adapters."""

    tokens: torch.Tensor
    """(R,)."""
    starts: torch.Tensor
    """(R,) the first column of each."""
    offsets: torch.Tensor
    """(…, R, 1)."""
    column: torch.Tensor
    """(1,)."""
    adapters: Sequence[Adapter | None]
    """The adapters of `routes`, kept alive so that no other adapter gets their `id`."""
    routes: Routes
    num_steps: int = 0
    graph: torch.cuda.CUDAGraph | None = None
    logits: torch.Tensor | None = None
    """(R, V), where the graph writes them."""


class StaticStep:
    """The static step of a model's batch. Not thread-safe."""

    def __init__(self, model: PreTrainedModel, family: Family, router: Router) -> None:
        self._decoder, self._embed = model.get_decoder(), model.get_input_embeddings()
        self._head, self._family, self._router = model.get_output_embeddings(), family, router
        self._device, self._dtype = model.device, model.dtype
        self._graphs: OrderedDict[tuple, _StepGraph] = OrderedDict()
        self._num_rows = 0

    @property
    def num_captured(self) -> int:
        """Graphs that are held."""
        return sum(step.graph is not None for step in self._graphs.values())

    def forget(self) -> None:
        """Drop all graphs, with the adapters that they keep."""
        self._graphs.clear()

    def arrange(
        self, cache: KVCache, adapters: Sequence[Adapter | None], starts: Sequence[int], offsets: torch.Tensor
    ) -> None:
        """Prepare for steps of B rows with these adapters, first columns and offsets (…, B, 1)."""
        self._cache, self._num_rows = cache, len(starts)
        size = 1 << (self._num_rows - 1).bit_length()
        more = size - self._num_rows
        adapters = [*adapters, *[adapters[0]] * more]  # an unused row needs no adapter of its own
        routes = make_routes(adapters, self._device)
        masks = tuple(name for name, route in routes.items() if route.others is not None)
        key = (cache.version, size, tuple({id(adapter): None for adapter in adapters}), masks)
        step = self._graphs.get(key)
        if step is None:
            step = self._graphs[key] = self._new(size, offsets, adapters, routes)
        self._graphs.move_to_end(key)
        while len(self._graphs) > MAX_GRAPHS or next(iter(self._graphs))[0] != cache.version:
            self._graphs.popitem(last=False)
        for name in masks:
            others, new = step.routes[name].others, routes[name].others
            assert others is not None and new is not None
            others.copy_(new)
        step.starts.copy_(send(torch.tensor([*starts, *[0] * more]), self._device))
        step.offsets.zero_()
        step.offsets[..., : self._num_rows, :] = offsets
        step.tokens.zero_()
        self._current = step

    def __call__(self, tokens: torch.Tensor, column: int) -> torch.Tensor:
        """Logits (B, V) after the tokens (B,), which are written to the column."""
        step = self._current
        step.tokens[: self._num_rows] = tokens
        step.column.fill_(column)
        step.num_steps += 1
        if step.graph is None and self._device.type == "cuda" and step.num_steps > WARM_UP_STEPS:
            step.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(step.graph):
                step.logits = self._forward(step)
        if step.graph is not None and step.logits is not None:
            step.graph.replay()
            return step.logits[: self._num_rows]
        return self._forward(step)[: self._num_rows]

    def _new(self, size: int, offsets: torch.Tensor, adapters: Sequence[Adapter | None], routes: Routes) -> _StepGraph:
        def empty(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.long, device=self._device)

        return _StepGraph(empty(size), empty(size), empty(*offsets.shape[:-2], size, 1), empty(1), adapters, routes)

    def _forward(self, step: _StepGraph) -> torch.Tensor:
        """Logits (R, V); nothing in it depends on a number that only the host knows."""
        self._router.use(step.routes)
        self._cache.select_all(len(step.tokens), step.column)
        columns = torch.arange(self._cache.num_columns, device=self._device)
        hidden = (columns < step.starts[:, None]) | (columns > step.column)  # (R, columns)
        mask = torch.zeros(hidden.shape, dtype=self._dtype, device=self._device).masked_fill_(hidden, -torch.inf)
        state = self._decoder(
            inputs_embeds=self._embed(step.tokens[:, None]),
            attention_mask=self._family.step_mask(mask[:, None, None]),
            position_ids=step.offsets + step.column,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state  # (R, 1, hidden)
        return self._head(state[:, 0])
