"""The tensors of one decode: prompts in, a token per row and step out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from inference.families import Family, ImageEncoding, tower_output
from inference.lora import Adapter, Router, make_routes
from inference.rows import Row
from inference.sampling import row_noise, sample
from inference.tokens import Vocabulary


@dataclass(frozen=True)
class Prompt:
    """A row made ready: its token ids end with those of the row's prefix."""

    row: Row
    ids: tuple[int, ...]
    num_prefix_tokens: int
    image: ImageEncoding
    adapter: Adapter | None

    @property
    def key(self) -> tuple:
        """Equal for rows that share their prefill."""
        return self.ids, id(self.image), id(self.adapter)


class Batch:
    """Rows that decode together, B of them at first; rows of one adapter should stand together.

    Prompts are padded on the left to a common length T. Rows with the same prompt are prefilled once.
    """

    def __init__(
        self, model: Any, family: Family, router: Router, vocabulary: Vocabulary, prompts: Sequence[Prompt]
    ) -> None:
        self._model, self._family, self._router, self._vocabulary = model, family, router, vocabulary
        self._device = model.device
        self._prompts = list(prompts)
        self._cache = DynamicCache(config=model.config)
        self._suppressed = torch.tensor(vocabulary.suppressed, device=self._device, dtype=torch.long)
        self._ends = torch.tensor(sorted(vocabulary.ends), device=self._device)
        self._num_steps = 0
        self._tokens = torch.empty(0)
        self._set_up_rows()

    def prefill(self) -> list[int]:
        """Read the prompts; returns each row's first token."""
        first_of: dict[tuple, int] = {}
        for prompt in self._prompts:
            first_of.setdefault(prompt.key, len(first_of))
        distinct = list({prompt.key: prompt for prompt in self._prompts}.values())
        ids, mask, positions = self._pad(distinct)  # (B, T), (B, T), (…, B, T)
        self._router.routes = make_routes([prompt.adapter for prompt in distinct])
        logits = self._model(
            input_ids=ids,
            attention_mask=None if mask.all() else mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            mm_encoder_outputs={"image": tower_output([prompt.image for prompt in distinct])},
            logits_to_keep=1,
        ).logits[:, -1]  # (B, V)
        self._positions = self._family.next_positions(positions)  # (…, B, 1)
        longest = max(prompt.row.max_new_tokens for prompt in self._prompts)
        room = mask.new_ones(len(mask), longest)
        self._mask = torch.cat([mask, room], dim=1)[:, None, None, :]  # (B, 1, 1, T + longest)
        self._length = ids.shape[1]
        if len(distinct) < len(self._prompts):
            rows = torch.tensor([first_of[prompt.key] for prompt in self._prompts], device=self._device)
            self._select_state(rows)
            logits = logits[rows]
        self._route()
        return self._choose(logits)

    def step(self) -> list[int]:
        """Read the last tokens; returns each row's next one."""
        self._router.routes = self._routes
        self._length += 1
        mask = None if self._is_dense else self._mask[..., : self._length]
        logits = self._model(
            input_ids=self._tokens[:, None],
            attention_mask=self._family.step_mask(mask),
            position_ids=self._positions + (self._num_steps - 1),
            past_key_values=self._cache,
            use_cache=True,
        ).logits[:, -1]  # (B, V)
        return self._choose(logits)

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        index = torch.tensor(rows, device=self._device)
        self._prompts = [self._prompts[i] for i in rows]
        self._select_state(index)
        self._tokens = self._tokens[index]
        self._set_up_rows()
        self._route()

    def _choose(self, logits: torch.Tensor) -> list[int]:
        """Next tokens from logits (B, V), by each row's temperature and noise."""
        logits = logits.float().index_fill_(1, self._suppressed, -torch.inf)
        if self._num_steps < self._longest_minimum:
            short = (self._minimum > self._num_steps)[:, None]  # (B, 1)
            logits[:, self._ends] = logits[:, self._ends].masked_fill(short, -torch.inf)
        tokens = logits.argmax(dim=-1)  # (B,)
        if self._has_samples:
            drawn = sample(logits, self._temperature, self._noise[:, self._num_steps])
            tokens = torch.where(self._is_sampled, drawn, tokens)
        self._tokens = tokens
        self._num_steps += 1
        return tokens.tolist()

    def _set_up_rows(self) -> None:
        """What decides the rows' tokens, as tensors."""
        rows = [prompt.row for prompt in self._prompts]
        self._longest_minimum = max(row.min_new_tokens for row in rows)
        self._minimum = torch.tensor([row.min_new_tokens for row in rows], device=self._device)
        self._has_samples = any(row.temperature > 0 for row in rows)
        if not self._has_samples:
            return
        temperature = torch.tensor([row.temperature for row in rows], device=self._device)
        self._is_sampled = temperature > 0
        self._temperature = temperature.where(self._is_sampled, torch.ones(()))
        noise = torch.zeros(len(rows), max(row.max_new_tokens for row in rows), dtype=torch.float64)
        for i, prompt in enumerate(self._prompts):
            row, skip = prompt.row, prompt.num_prefix_tokens
            noise[i, : row.max_new_tokens] = row_noise(row.seed, skip + row.max_new_tokens)[skip:]
        self._noise = noise.to(self._device)  # (B, longest)

    def _route(self) -> None:
        self._routes = make_routes([prompt.adapter for prompt in self._prompts])
        self._is_dense = bool(self._mask.all())

    def _select_state(self, index: torch.Tensor) -> None:
        self._cache.batch_select_indices(index)
        self._mask, self._positions = self._mask[index], self._positions[..., index, :]

    def _pad(self, prompts: list[Prompt]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Left-padded ids (B, T), their mask (B, T, bool), and positions as the family counts them (…, B, T)."""
        longest = max(len(prompt.ids) for prompt in prompts)
        ids = torch.full((len(prompts), longest), self._vocabulary.pad)
        mask = torch.zeros(len(prompts), longest, dtype=torch.bool)
        for i, prompt in enumerate(prompts):
            ids[i, longest - len(prompt.ids) :] = torch.tensor(prompt.ids)
            mask[i, longest - len(prompt.ids) :] = True
        images = [prompt.image for prompt in prompts]
        positions = self._family.positions(ids, mask, self._vocabulary.image, images)
        return ids.to(self._device), mask.to(self._device), positions.to(self._device)
