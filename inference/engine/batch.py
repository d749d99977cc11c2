"""The rows that decode together: they join, take a step each, and leave, in any order and at any time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch

from inference.engine.attention import Groups, find_groups, use_groups
from inference.engine.cuda_graph import StaticStep
from inference.engine.kv_cache import SlotCache
from inference.engine.prefill import Prefill, Prompt, prefill
from inference.engine.sampler import Chooser, Seat
from inference.model.device import send
from inference.model.families import Family
from inference.model.lora_layers import Router, Routes, make_routes
from inference.model.threads import threads_for
from inference.model.tokenizer import Vocabulary

KEPT_BYTES = 128 * 2**20
"""Memory that empty slots keep for the next rows; one long row made it wide for all."""


class Slots:
    """Places for rows; B are taken, the first ones of the cache. Not for several threads at once."""

    def __init__(
        self, model: Any, family: Family, router: Router, vocabulary: Vocabulary, static_steps: bool = False
    ) -> None:
        """With `static_steps` they can be captured (`inference.engine.cuda_graph`); on a CPU that makes them slower."""
        self._model, self._family, self._router, self._vocabulary = model, family, router, vocabulary
        self._decoder, self._embed = model.get_decoder(), model.get_input_embeddings()
        self._head = model.get_output_embeddings()
        self._num_weights = sum(layer.weight.numel() for layer in (*router.layers.values(), self._head))
        self._device: torch.device = model.device
        self._static = StaticStep(model, family, router) if static_steps else None
        self._has_groups = self._device.type == "cpu" and not static_steps  # where it was measured
        if self._has_groups:
            use_groups(self._decoder)
        self._step = 0
        self.release()

    def __len__(self) -> int:
        return len(self._seats)

    def release(self) -> None:
        """Forget all rows, and give back the memory they stood in."""
        if self._static is not None:
            self._static.forget()
        self._cache = SlotCache(self._model.config.get_text_config().num_hidden_layers)
        self.clear()

    def clear(self) -> None:
        """Forget all rows, and keep some of their memory for the next ones."""
        if self._cache.nbytes > KEPT_BYTES and self._static is None:  # graphs know the tensors by their place
            self._cache = SlotCache(len(self._cache.layers))
        self._seats: list[Seat] = []
        self._column = self._low = 0
        """The column that is written next, and the first that any row looks at."""
        self._tokens = torch.empty(0, dtype=torch.long, device=self._device)  # (B,)
        self._offsets = torch.empty(0)
        """(…, B, 1): a row's position less its column."""
        self._mask: torch.Tensor | None = None
        """(B, 1, 1, columns), added to the attention's scores; `None` where nothing is hidden."""
        self._routes: Routes = {}
        self._options: dict[str, Groups] = {}
        """What the language model is told beside that."""
        self._chooser: Chooser | None = None
        self._is_arranged = False
        self._router.use(self._routes)  # so that no adapter is kept

    def join(self, prompts: Sequence[Prompt]) -> list[int]:
        """Read the prompts and give them places after the others; returns their first tokens."""
        read = prefill(self._model, self._family, self._router, self._vocabulary, prompts)
        num_old, num_new = len(self._seats), len(prompts)
        self._is_arranged = False  # also if there is no memory for them: part of the cache may be another by then
        self._make_room(read, prompts)
        end = self._column
        seats = [Seat.take(prompt, end - len(prompt.ids), self._step) for prompt in prompts]
        low = min(seat.start for seat in (*self._seats, *seats))
        self._cache.clear(0, num_old, low, self._low)
        self._cache.clear(num_old, num_old + num_new, low, end - read.length)
        if self._static is not None:  # which looks at what is not written yet, and hides it
            self._cache.clear(num_old, num_old + num_new, end, self._cache.num_columns)
        self._cache.write(num_old, read.states, read.sources, end)
        tokens = Chooser(seats, self._vocabulary, self._device).choose(read.logits, self._step)
        made = tokens.tolist()
        offsets = read.positions - end
        offsets = torch.cat([self._offsets, offsets], dim=-2) if num_old else offsets
        self._offsets, self._tokens = offsets, torch.cat([self._tokens, tokens])
        self._seats += seats
        self._low = low
        return made

    def step(self) -> torch.Tensor:
        """One token more for each row: (B,), in the order of their places. Nothing waits for them to be there."""
        self._step += 1
        if self._column == self._cache.num_columns:
            self._cache.widen(max(_length(seat.prompt) for seat in self._seats))
            self._is_arranged = False
            if self._column == self._cache.num_columns:
                self._rebase(self._column - self._low)
        if not self._is_arranged:
            self._arrange()
        assert self._chooser is not None
        with threads_for(self._num_weights, len(self._seats)):
            logits = self._forward() if self._static is None else self._static(self._tokens, self._column)
            self._column += 1
            self._tokens = self._chooser.choose(logits, self._step)
        return self._tokens

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

    def leave(self, places: Collection[int]) -> list[int]:
        """Free these places; the last rows move into them. Returns which row is where now, by its place before."""
        num_left = len(self._seats) - len(places)
        if not num_left:
            self.clear()
            return []
        holes = [place for place in sorted(places) if place < num_left]
        movers = [place for place in range(num_left, len(self._seats)) if place not in places]
        order = list(range(num_left))
        for hole, mover in zip(holes, movers, strict=True):
            order[hole] = mover
        if movers:
            self._cache.move(movers, holes, self._low, self._column)
        index = send(torch.tensor(order), self._device)
        self._seats = [self._seats[place] for place in order]
        self._tokens, self._offsets = self._tokens[index], self._offsets[..., index, :]
        self._low, self._is_arranged = min(seat.start for seat in self._seats), False
        self._routes = {}
        self._router.use(self._routes)  # until the next step no adapter is kept but those of seats
        return order

    def _make_room(self, read: Prefill, prompts: Sequence[Prompt]) -> None:
        """Rows and columns for the newcomers, and the prompts' length to the left of the next column."""
        longest = max(_length(prompt) for prompt in (*(s.prompt for s in self._seats), *prompts))
        self._cache.reserve(read.states, len(self._seats) + len(prompts), longest + 1)
        if not self._seats:
            self._column = self._low = read.length
        elif self._column < read.length:
            self._rebase(read.length)

    def _rebase(self, column: int) -> None:
        """Move all rows so that `column` is written next; there are as many columns as the longest row needs."""
        shift = column - self._column
        offsets = self._offsets - shift
        self._cache.shift(len(self._seats), self._low, self._column, self._low + shift)
        if self._static is not None:
            self._cache.clear(0, len(self._seats), column, self._cache.num_columns)
        self._seats = [Seat(s.prompt, s.start + shift, s.born, s.noise) for s in self._seats]
        self._low, self._column, self._offsets = self._low + shift, column, offsets
        self._is_arranged = False

    def _arrange(self) -> None:
        """Lay out what stays the same until a row comes or goes."""
        starts, adapters = [seat.start for seat in self._seats], [seat.prompt.adapter for seat in self._seats]
        self._chooser, self._is_arranged = Chooser(self._seats, self._vocabulary, self._device), True
        if self._static is not None:
            self._static.arrange(self._cache, adapters, starts, self._offsets)
            return
        self._cache.open(len(self._seats), self._low, self._column)
        self._mask = None
        if max(starts) > self._low:
            columns = torch.arange(self._low, self._cache.num_columns, device=self._device)
            hidden = columns < send(torch.tensor(starts), self._device)[:, None]  # (B, columns)
            mask = torch.zeros(hidden.shape, dtype=self._model.dtype, device=self._device)
            self._mask = mask.masked_fill_(hidden, -torch.inf)[:, None, None]  # (B, 1, 1, columns)
        groups = find_groups(self._seats, self._cache, self._low) if self._has_groups else None
        self._options = {} if groups is None else {"groups": groups}
        self._routes = make_routes(adapters, self._device)


def _length(prompt: Prompt) -> int:
    """Columns that a row takes in the end."""
    return len(prompt.ids) + prompt.row.max_new_tokens
