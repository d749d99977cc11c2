"""A batch the plain way: each row takes its steps alone, by the model's own forward, as transformers' `generate` does.

For families that the engine does not know (`inference.model.plain`). It has the interface of `inference.engine.batch`,
so that scheduler, sampler, adapters and streams are the same; its greedy tokens are those of `generate`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from transformers import DynamicCache

from inference.engine.sampler import Sampler, sequence_noise
from inference.engine.sequence import Sequence
from inference.model.lora_layers import Router, Routes, make_routes
from inference.model.plain import PlainTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ON_THE_MODEL = "rope_deltas"
"""The attribute in which some models keep the shift of a prompt's positions between two steps."""


@dataclass(eq=False)
class _Row:
    sequence: Sequence
    ids: torch.Tensor
    """(1, T), prompt and completion."""
    inputs: dict[str, Any]
    """The inputs that `generate` hands from step to step: the cache, the mask, the picture."""
    routes: Routes
    sampler: Sampler
    num_tokens: int = 0
    """New tokens so far: the steps of its sampler, as each row takes its own."""
    kept: list[Any] = field(default_factory=list)
    """By module: its `_ON_THE_MODEL`."""


class PlainPrefill:
    """Sequences whose prompts are read one by one, each whole."""

    def __init__(self, sequences: list[Sequence], begin: Callable[[Sequence], _Row]) -> None:
        """`begin` reads a sequence's prompt."""
        self.sequences, self.rows, self._begin = sequences, list[_Row](), begin

    def read(self, max_tokens: int | None = None) -> bool:
        """Read one prompt, and more up to so many tokens, `None` for all; True once the prompts are read."""
        num_tokens = 0
        while len(self.rows) < len(self.sequences) and (max_tokens is None or num_tokens < max_tokens):
            sequence = self.sequences[len(self.rows)]
            self.rows.append(self._begin(sequence))
            num_tokens += len(sequence.prompt_ids)
        return len(self.rows) == len(self.sequences)


class PlainBatch:
    """B sequences, each with a cache of its own. Not thread-safe."""

    def __init__(self, model: PreTrainedModel, tokenizer: PlainTokenizer, router: Router) -> None:
        self._model: Any = model
        self._tokenizer, self._router = tokenizer, router
        self._keepers: list[nn.Module] = [module for module in model.modules() if hasattr(module, _ON_THE_MODEL)]
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        self._rows: list[_Row] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def num_graphs(self) -> int:
        """CUDA graphs that are held: none."""
        return 0

    def release(self) -> None:
        """Drop all sequences and give back their memory."""
        self._rows = []
        self._router.use({})

    def prefill(self, sequences: list[Sequence]) -> PlainPrefill:
        """The prompts of sequences, to be read and then to `join`."""
        return PlainPrefill(sequences, self._begin)

    def join(self, prefill: PlainPrefill) -> list[int]:
        """Append sequences whose prompts are read as rows; returns their first tokens."""
        self._rows = [*self._rows, *prefill.rows]
        return [int(row.ids[0, -1]) for row in prefill.rows]

    def step(self) -> torch.Tensor:
        """One more token for each row, (B,)."""
        return torch.cat([self._next(row, is_first=False) for row in self._rows])

    def leave(self, rows: Collection[int]) -> list[int]:
        """Free these rows. Returns the old row of each row that stays."""
        order = [row for row in range(len(self._rows)) if row not in rows]
        self._rows = [self._rows[row] for row in order]
        self._router.use({})  # until the next step only the sequences keep adapters alive
        return order

    def _begin(self, sequence: Sequence) -> _Row:
        """A row with its first token."""
        model, request, skipped = self._model, sequence.request, sequence.num_prefix_tokens
        if request.temperature > 0:
            sequence.noise = sequence_noise(request.seed, skipped + request.max_new_tokens)[skipped:]
        inputs: dict[str, Any] = {
            name: value.to(model.device, model.dtype if value.is_floating_point() else None)
            for name, value in self._tokenizer.inputs(request).items()
            if isinstance(value, torch.Tensor)
        }
        ids = inputs.pop("input_ids")
        inputs |= {
            "past_key_values": DynamicCache(config=model.config.get_text_config(decoder=True)),
            "use_cache": True,
        }
        if self._takes_positions:
            inputs["position_ids"] = model._prepare_position_ids_for_generation(ids, inputs)
        seen = None
        if sequence.repetition_penalty != 1:
            seen = torch.zeros(1, model.get_output_embeddings().out_features, dtype=torch.bool, device=model.device)
            seen[0, ids[0]] = True
        routes = make_routes([sequence.adapter], model.device)
        sampler = Sampler([sequence], self._tokenizer.vocabulary, model.device, seen)
        row = _Row(sequence, ids, inputs, routes, sampler)
        self._next(row, is_first=True)
        return row

    def _next(self, row: _Row, is_first: bool) -> torch.Tensor:
        """The next token (1,) of a row, which is appended to it."""
        self._router.use(row.routes)
        for module, value in zip(self._keepers, row.kept):
            setattr(module, _ON_THE_MODEL, value)
        length = None if is_first else 1
        inputs = self._model.prepare_inputs_for_generation(
            row.ids, next_sequence_length=length, is_first_iteration=is_first, **row.inputs
        )
        outputs = self._model(**inputs, return_dict=True)
        row.inputs = self._model._update_model_kwargs_for_generation(outputs, row.inputs)
        row.kept = [getattr(module, _ON_THE_MODEL) for module in self._keepers]
        token = row.sampler.choose(outputs.logits[:, -1].clone(), row.num_tokens)
        row.num_tokens += 1
        row.ids = torch.cat([row.ids, token[:, None]], dim=1)
        return cast(torch.Tensor, token)
