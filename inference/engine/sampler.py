"""The next tokens of rows that each have their own temperature, seed, age and least length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from inference.engine.prefill import Prompt
from inference.engine.sampling import row_noise, sample
from inference.model.device import send
from inference.model.tokenizer import Vocabulary

NOISE_STEPS = 64
"""Steps whose noise is laid out at a time."""


@dataclass(frozen=True)
class Seat:
    """A row in a slot."""

    prompt: Prompt
    start: int
    """The column of its first token."""
    born: int
    """The step in which it got its first new token."""
    noise: torch.Tensor | None
    """(max_new_tokens,) for a row that is sampled, on the CPU."""

    @classmethod
    def take(cls, prompt: Prompt, start: int, born: int) -> Seat:
        """For a prompt that joins."""
        row, skip = prompt.row, prompt.num_prefix_tokens
        noise = row_noise(row.seed, skip + row.max_new_tokens)[skip:] if row.temperature > 0 else None
        return cls(prompt, start, born, noise)


class Chooser:
    """Made for B rows that stay together; then nothing but tensors decides a step."""

    def __init__(self, seats: Sequence[Seat], vocabulary: Vocabulary, device: torch.device) -> None:
        self._device = device
        self._drawn = [(seat.noise, seat.born) for seat in seats]  # and no seat, which would keep its adapter alive
        rows = [seat.prompt.row for seat in seats]
        until = [seat.born + seat.prompt.row.min_new_tokens for seat in seats]
        self._all_until, self._some_until = min(until), max(until)
        self._ends = send(torch.tensor(sorted(vocabulary.ends)), device)
        self._never = send(torch.tensor(vocabulary.suppressed, dtype=torch.long), device)
        self._not_yet = torch.cat([self._never, self._ends])
        self._until = send(torch.tensor(until), device)
        self._samples = any(row.temperature > 0 for row in rows)
        self._greedy = None
        if self._samples:
            temperature = send(torch.tensor([row.temperature for row in rows]), device)
            if not all(row.temperature > 0 for row in rows):
                self._greedy = temperature == 0  # (B,)
                temperature = temperature.masked_fill(self._greedy, 1.0)
            self._temperature = temperature
            self._top_p = None
            if any(row.top_p < 1 for row in rows):
                self._top_p = send(torch.tensor([row.top_p for row in rows]), device)  # (B,)
        self._noise = torch.empty(0, 0)
        self._noise_from = 0

    def choose(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """The tokens (B,) of a step from logits (B, V), which are overwritten."""
        logits = logits.float()
        if step < self._all_until:
            logits.index_fill_(1, self._not_yet, -torch.inf)
        else:
            logits.index_fill_(1, self._never, -torch.inf)
            if step < self._some_until:
                short = (self._until > step)[:, None]  # (B, 1)
                logits[:, self._ends] = logits[:, self._ends].masked_fill(short, -torch.inf)
        likeliest = logits.argmax(dim=-1)  # (B,)
        if not self._samples:
            return likeliest
        drawn = sample(logits, self._temperature, self._noise_of(step), self._top_p)
        is_none = drawn >= logits.shape[1]  # NaN, which a broken adapter may make: it is that row's own affair
        return torch.where(is_none if self._greedy is None else is_none | self._greedy, likeliest, drawn)

    def _noise_of(self, step: int) -> torch.Tensor:
        """(B,)."""
        if not self._noise_from <= step < self._noise_from + len(self._noise):
            noise = torch.zeros(len(self._drawn), NOISE_STEPS, dtype=torch.float64)
            for i, (whole, born) in enumerate(self._drawn):
                if whole is not None:
                    part = whole[step - born :][:NOISE_STEPS]
                    noise[i, : len(part)] = part
            self._noise, self._noise_from = send(noise.t().contiguous(), self._device), step  # (steps, B)
        return self._noise[step - self._noise_from]
