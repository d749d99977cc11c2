"""The batch: sequences that decode together. They join, take a step each and leave, in any order and at any time."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import torch

from inference.engine.attention import PromptGroups, find_prompt_groups, use_prompt_groups
from inference.engine.cuda_graph import StaticStep
from inference.engine.kv_cache import KVCache
from inference.engine.prefill import Prefill, PrefillResult
from inference.engine.sampler import Sampler, sequence_noise
from inference.engine.sequence import Sequence
from inference.model.device import send, threads_for
from inference.model.families import Family
from inference.model.lora_layers import Router, Routes, make_routes
from inference.model.tokenizer import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_IDLE_BYTES = 128 * 2**20
"""Memory that an empty batch keeps for the next sequences; one long sequence makes the cache wide for all."""


class Batch:
    """B sequences in the first B rows of the cache. Not thread-safe."""

    def __init__(
        self,
        model: PreTrainedModel,
        family: Family,
        router: Router,
        vocabulary: Vocabulary,
        static_steps: bool = False,
    ) -> None:
        """`static_steps` can be captured as CUDA graphs (`inference.engine.cuda_graph`); on a CPU they are slower."""
        self._model, self._family, self._router, self._vocabulary = model, family, router, vocabulary
        self._decoder, self._embed = model.get_decoder(), model.get_input_embeddings()
        self._head = model.get_output_embeddings()
        self._num_weights = sum(layer.weight.numel() for layer in (*router.layers.values(), self._head))
        self._device: torch.device = model.device
        self._static = StaticStep(model, family, router) if static_steps else None
        self._has_groups = self._device.type == "cpu" and not static_steps  # measured there only
        if self._has_groups:
            use_prompt_groups(self._decoder)
        self._step = 0
        self.release()

    def __len__(self) -> int:
        return len(self._sequences)

    @property
    def num_graphs(self) -> int:
        """CUDA graphs that are held."""
        return self._static.num_captured if self._static is not None else 0

    def release(self) -> None:
        """Drop all sequences and give back their memory."""
        if self._static is not None:
            self._static.forget()
        self._cache = KVCache(self._model.config.get_text_config().num_hidden_layers)
        self.clear()

    def clear(self) -> None:
        """Drop all sequences and keep some of their memory for the next ones."""
        if self._cache.nbytes > MAX_IDLE_BYTES and self._static is None:  # graphs refer to the tensors by address
            self._cache = KVCache(len(self._cache.layers))
        self._sequences: list[Sequence] = []
        self._column = self._low = 0
        """The column that is written next, and the first that any row looks at."""
        self._tokens = torch.empty(0, dtype=torch.long, device=self._device)  # (B,)
        self._offsets = torch.empty(0)
        """(…, B, 1): a row's position less its column."""
        self._mask: torch.Tensor | None = None
        """(B, 1, 1, columns), added to the attention's scores; `None` where nothing is hidden."""
        self._routes: Routes = {}
        self._options: dict[str, PromptGroups] = {}
        """Further arguments of the language model's forward."""
        self._seen: torch.Tensor | None = None
        """(B, V), the tokens of each prompt and completion; `None` while no row has a repetition penalty."""
        self._sampler: Sampler | None = None
        self._is_arranged = False
        self._router.use(self._routes)  # keeps no adapter alive

    def prefill(self, sequences: list[Sequence]) -> Prefill:
        """The prompts of sequences, to be read and then to `join`."""
        return Prefill(self._model, self._family, self._router, self._vocabulary, sequences)

    def join(self, prefill: Prefill) -> list[int]:
        """Append sequences whose prompts are read as rows; returns their first tokens."""
        read, sequences = prefill.result(), prefill.sequences
        num_old, num_new = len(self._sequences), len(sequences)
        self._is_arranged = False  # also if memory runs out: part of the cache may have been replaced by then
        self._make_room(read, sequences)
        end = self._column
        for sequence in sequences:
            request, skipped = sequence.request, sequence.num_prefix_tokens
            sequence.start, sequence.first_step = end - len(sequence.prompt_ids), self._step
            if request.temperature > 0:
                sequence.noise = sequence_noise(request.seed, skipped + request.max_new_tokens)[skipped:]
        low = min(sequence.start for sequence in (*self._sequences, *sequences))
        self._cache.clear(0, num_old, low, self._low)
        self._cache.clear(num_old, num_old + num_new, low, end - read.length)
        if self._static is not None:  # it looks at columns that are not written yet, and masks them
            self._cache.clear(num_old, num_old + num_new, end, self._cache.num_columns)
        self._cache.write(num_old, read.states, read.sources, end)
        seen = self._seen_of(sequences, read.logits.shape[1])
        tokens = Sampler(sequences, self._vocabulary, self._device, seen).choose(read.logits, self._step)
        token_ids = tokens.tolist()
        offsets = read.positions - end
        offsets = torch.cat([self._offsets, offsets], dim=-2) if num_old else offsets
        self._offsets, self._tokens = offsets, torch.cat([self._tokens, tokens])
        self._keep_seen(seen, num_new)
        self._sequences = [*self._sequences, *sequences]
        self._low = low
        return token_ids

    def step(self) -> torch.Tensor:
        """One more token for each row, (B,). It does not wait for the device."""
        self._step += 1
        if self._column == self._cache.num_columns:
            self._cache.widen(max(sequence.max_length for sequence in self._sequences))
            self._is_arranged = False
            if self._column == self._cache.num_columns:
                self._shift_to(self._column - self._low)
        if not self._is_arranged:
            self._arrange()
        assert self._sampler is not None
        with threads_for(self._num_weights, len(self._sequences)):
            logits = self._forward() if self._static is None else self._static(self._tokens, self._column)
            self._column += 1
            self._tokens = self._sampler.choose(logits, self._step)
        return self._tokens

    def leave(self, rows: Collection[int]) -> list[int]:
        """Free these rows; the last rows move into the gaps. Returns the old row of each row that stays."""
        num_left = len(self._sequences) - len(rows)
        if not num_left:
            self.clear()
            return []
        gaps = [row for row in sorted(rows) if row < num_left]
        movers = [row for row in range(num_left, len(self._sequences)) if row not in rows]
        order = list(range(num_left))
        for gap, mover in zip(gaps, movers, strict=True):
            order[gap] = mover
        if movers:
            self._cache.move(movers, gaps, self._low, self._column)
        index = send(torch.tensor(order), self._device)
        self._sequences = [self._sequences[row] for row in order]
        self._tokens, self._offsets = self._tokens[index], self._offsets[..., index, :]
        has_penalty = any(sequence.repetition_penalty != 1 for sequence in self._sequences)
        self._seen = self._seen[index] if self._seen is not None and has_penalty else None
        self._low, self._is_arranged = min(sequence.start for sequence in self._sequences), False
        self._routes = {}
        self._router.use(self._routes)  # until the next step only the sequences keep adapters alive
        return order

    def _seen_of(self, sequences: list[Sequence], num_tokens: int) -> torch.Tensor | None:
        """The tokens of the prompts (B, V), if one of these sequences has a repetition penalty."""
        if all(sequence.repetition_penalty == 1 for sequence in sequences):
            return None
        seen = torch.zeros(len(sequences), num_tokens, dtype=torch.bool, device=self._device)
        for row, sequence in zip(seen, sequences):
            row[send(torch.tensor(sorted(set(sequence.prompt_ids))), self._device)] = True
        return seen

    def _keep_seen(self, seen: torch.Tensor | None, num_new: int) -> None:
        """Append the rows of newcomers; the rows of sequences without a penalty mean nothing."""
        if seen is None and self._seen is None:
            return
        width = next(tensor.shape[1] for tensor in (seen, self._seen) if tensor is not None)

        def rows(tensor: torch.Tensor | None, count: int) -> torch.Tensor:
            return torch.zeros(count, width, dtype=torch.bool, device=self._device) if tensor is None else tensor

        self._seen = torch.cat([rows(self._seen, len(self._sequences)), rows(seen, num_new)])

    def _forward(self) -> torch.Tensor:
        """Logits (B, V) of the next token of each row."""
        self._router.use(self._routes)
        width = self._column + 1 - self._low
        mask = None if self._mask is None else self._mask[..., :width]
        hidden = self._decoder(  # without the layers around it, which have nothing to do where there is no picture
            inputs_embeds=self._embed(self._tokens[:, None]),
            attention_mask=self._family.step_mask(mask),
            position_ids=self._offsets + self._column,
            past_key_values=self._cache,
            use_cache=True,
            **self._options,
        ).last_hidden_state  # (B, 1, hidden)
        return self._head(hidden[:, 0])

    def _make_room(self, read: PrefillResult, newcomers: list[Sequence]) -> None:
        """Reserve rows and columns for the newcomers, with room for their prompts left of the next column."""
        longest = max(sequence.max_length for sequence in (*self._sequences, *newcomers))
        self._cache.reserve(read.states, len(self._sequences) + len(newcomers), longest + 1)
        if not self._sequences:
            self._column = self._low = read.length
        elif self._column < read.length:
            self._shift_to(read.length)

    def _shift_to(self, column: int) -> None:
        """Move all rows so that `column` is written next; there are as many columns as the longest row needs."""
        shift = column - self._column
        offsets = self._offsets - shift
        self._cache.shift(len(self._sequences), self._low, self._column, self._low + shift)
        if self._static is not None:
            self._cache.clear(0, len(self._sequences), column, self._cache.num_columns)
        for sequence in self._sequences:
            sequence.start += shift
        self._low, self._column, self._offsets = self._low + shift, column, offsets
        self._is_arranged = False

    def _arrange(self) -> None:
        """Prepare what stays the same until a row comes or goes."""
        starts = [sequence.start for sequence in self._sequences]
        adapters = [sequence.adapter for sequence in self._sequences]
        self._sampler, self._is_arranged = Sampler(self._sequences, self._vocabulary, self._device, self._seen), True
        if self._static is not None:
            self._static.arrange(self._cache, adapters, starts, self._offsets)
            return
        self._cache.select(len(self._sequences), self._low, self._column)
        self._mask = None
        if max(starts) > self._low:
            columns = torch.arange(self._low, self._cache.num_columns, device=self._device)
            hidden = columns < send(torch.tensor(starts), self._device)[:, None]  # (B, columns)
            mask = torch.zeros(hidden.shape, dtype=self._model.dtype, device=self._device)
            self._mask = mask.masked_fill_(hidden, -torch.inf)[:, None, None]  # (B, 1, 1, columns)
        groups = find_prompt_groups(self._sequences, self._cache, self._low) if self._has_groups else None
        self._options = {} if groups is None else {"groups": groups}
        self._routes = make_routes(adapters, self._device)
