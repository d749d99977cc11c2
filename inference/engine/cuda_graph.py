"""A decode step whose tensors keep their shapes and places, so that a CUDA graph holds it: one launch, not thousands.

It looks at every column of the cache and hides those that a row does not have, and it has a power of two of rows, the
last of which may be nobody's. Only on CUDA is it captured, and only where that was asked for (`LOOKTHINK_CUDA_GRAPHS`):
no such machine was to be had, so the capture itself has never run. On a CPU the very same step runs as it is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from inference.engine.kv_cache import SlotCache
from inference.model.device import send
from inference.model.families import Family
from inference.model.lora_layers import Adapter, Router, Routes, make_routes

WARM_UP_STEPS = 2
"""Steps of a plan before it is captured; libraries make their work spaces in them."""
MAX_PLANS = 8
"""Kept, the least recently used leaves first; each keeps its adapters alive."""


@dataclass(eq=False)
class _Plan:
    """One step of R rows, some of them nobody's, on one cache and with some adapters."""

    tokens: torch.Tensor
    """(R,)."""
    starts: torch.Tensor
    """(R,) the first column of each."""
    offsets: torch.Tensor
    """(…, R, 1)."""
    column: torch.Tensor
    """(1,)."""
    adapters: Sequence[Adapter | None]
    """What the routes are made of: while it is kept, no other adapter has its `id`."""
    routes: Routes
    num_steps: int = 0
    graph: Any = None
    logits: torch.Tensor | None = None
    """(R, V), where the graph leaves them."""


class StaticStep:
    """The step of a model's slots. Not for several threads at once."""

    def __init__(self, model: Any, family: Family, router: Router) -> None:
        self._decoder, self._embed = model.get_decoder(), model.get_input_embeddings()
        self._head, self._family, self._router = model.get_output_embeddings(), family, router
        self._device, self._dtype = model.device, model.dtype
        self._plans: OrderedDict[tuple, _Plan] = OrderedDict()
        self._num_rows = 0

    def forget(self) -> None:
        """Drop all plans, with the adapters that they keep."""
        self._plans.clear()

    def arrange(
        self, cache: SlotCache, adapters: Sequence[Adapter | None], starts: Sequence[int], offsets: torch.Tensor
    ) -> None:
        """From now on B rows step, with these adapters, first columns, and offsets (…, B, 1)."""
        self._cache, self._num_rows = cache, len(starts)
        size = 1 << (self._num_rows - 1).bit_length()
        more = size - self._num_rows
        adapters = [*adapters, *[adapters[0]] * more]  # a row that is nobody's needs no adapter of its own
        routes = make_routes(adapters, self._device)
        masks = tuple(name for name, route in routes.items() if route.others is not None)
        key = (cache.version, size, tuple({id(adapter): None for adapter in adapters}), masks)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._made(size, offsets, adapters, routes)
        self._plans.move_to_end(key)
        while len(self._plans) > MAX_PLANS or next(iter(self._plans))[0] != cache.version:
            self._plans.popitem(last=False)
        for name in masks:
            others, new = plan.routes[name].others, routes[name].others
            assert others is not None and new is not None
            others.copy_(new)
        plan.starts.copy_(send(torch.tensor([*starts, *[0] * more]), self._device))
        plan.offsets.zero_()
        plan.offsets[..., : self._num_rows, :] = offsets
        plan.tokens.zero_()
        self._plan = plan

    def __call__(self, tokens: torch.Tensor, column: int) -> torch.Tensor:
        """Logits (B, V) after the tokens (B,), which are written to the column."""
        plan = self._plan
        plan.tokens[: self._num_rows] = tokens
        plan.column.fill_(column)
        plan.num_steps += 1
        if plan.graph is None and self._device.type == "cuda" and plan.num_steps > WARM_UP_STEPS:
            plan.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(plan.graph):
                plan.logits = self._forward(plan)
        if plan.graph is not None and plan.logits is not None:
            plan.graph.replay()
            return plan.logits[: self._num_rows]
        return self._forward(plan)[: self._num_rows]

    def _made(self, size: int, offsets: torch.Tensor, adapters: Sequence[Adapter | None], routes: Routes) -> _Plan:
        def empty(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.long, device=self._device)

        return _Plan(empty(size), empty(size), empty(*offsets.shape[:-2], size, 1), empty(1), adapters, routes)

    def _forward(self, plan: _Plan) -> torch.Tensor:
        """Logits (R, V); nothing in it depends on a number that the host knows."""
        self._router.use(plan.routes)
        self._cache.open_whole(len(plan.tokens), plan.column)
        columns = torch.arange(self._cache.num_columns, device=self._device)
        hidden = (columns < plan.starts[:, None]) | (columns > plan.column)  # (R, columns)
        mask = torch.zeros(hidden.shape, dtype=self._dtype, device=self._device).masked_fill_(hidden, -torch.inf)
        state = self._decoder(
            inputs_embeds=self._embed(plan.tokens[:, None]),
            attention_mask=self._family.step_mask(mask[:, None, None]),
            position_ids=plan.offsets + plan.column,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state  # (R, 1, hidden)
        return self._head(state[:, 0])
