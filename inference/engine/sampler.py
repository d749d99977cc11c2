"""The sampler: from logits to the next token of each sequence, greedy, or sampled by the sequence's own seed."""

from __future__ import annotations

import torch

from inference.engine.sequence import Sequence
from inference.model.device import send
from inference.model.tokenizer import Vocabulary

NOISE_STEPS = 64
"""Steps whose noise is sent to the device at a time."""


class Sampler:
    """Chooses the tokens of B sequences. Made anew when one joins or leaves; in between it sends next to nothing."""

    def __init__(
        self,
        sequences: list[Sequence],
        vocabulary: Vocabulary,
        device: torch.device,
        seen: torch.Tensor | None = None,
    ) -> None:
        """`seen` (B, V) has the tokens of each prompt and completion so far, if a sequence has a repetition penalty."""
        self._device, self._seen = device, seen
        self._noises = [(s.noise, s.first_step) for s in sequences]  # and no sequence, which would keep its adapter
        requests = [sequence.request for sequence in sequences]
        until = [sequence.first_step + sequence.request.min_new_tokens for sequence in sequences]
        self._all_until, self._some_until = min(until), max(until)
        """No sequence may end before the first of these steps, and some may not end before the second."""
        self._ends = send(torch.tensor(sorted(vocabulary.ends)), device)
        self._never = send(torch.tensor(vocabulary.suppressed, dtype=torch.long), device)
        self._not_yet = torch.cat([self._never, self._ends])
        self._until = send(torch.tensor(until), device)
        penalties = [sequence.repetition_penalty for sequence in sequences]
        self._penalties = None if seen is None else send(torch.tensor(penalties), device)[:, None]  # (B, 1)
        self._samples = any(request.temperature > 0 for request in requests)
        self._greedy = None
        if self._samples:
            temperature = send(torch.tensor([request.temperature for request in requests]), device)
            if not all(request.temperature > 0 for request in requests):
                self._greedy = temperature == 0  # (B,)
                temperature = temperature.masked_fill(self._greedy, 1.0)
            self._temperature = temperature
            self._top_p = None
            if any(request.top_p < 1 for request in requests):
                self._top_p = send(torch.tensor([request.top_p for request in requests]), device)  # (B,)
        self._noise = torch.empty(0, 0)
        self._noise_from = 0

    def choose(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """The tokens (B,) of a step from logits (B, V), which are overwritten."""
        logits = logits.float()
        if self._penalties is not None and self._seen is not None:
            logits = penalise(logits, self._seen, self._penalties)
        if step < self._all_until:
            logits.index_fill_(1, self._not_yet, -torch.inf)
        else:
            logits.index_fill_(1, self._never, -torch.inf)
            if step < self._some_until:
                short = (self._until > step)[:, None]  # (B, 1)
                logits[:, self._ends] = logits[:, self._ends].masked_fill(short, -torch.inf)
        tokens = self._choose(logits, step)
        if self._seen is not None:
            self._seen.scatter_(1, tokens[:, None], True)
        return tokens

    def _choose(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        likeliest = logits.argmax(dim=-1)  # (B,)
        if not self._samples:
            return likeliest
        drawn = sample(logits, self._temperature, self._noise_of(step), self._top_p)
        is_nan = drawn >= logits.shape[1]  # a broken adapter may cause NaN: that must stay in its own row
        return torch.where(is_nan if self._greedy is None else is_nan | self._greedy, likeliest, drawn)

    def _noise_of(self, step: int) -> torch.Tensor:
        """(B,)."""
        if not self._noise_from <= step < self._noise_from + len(self._noise):
            noise = torch.zeros(len(self._noises), NOISE_STEPS, dtype=torch.float64)
            for i, (of_sequence, first_step) in enumerate(self._noises):
                if of_sequence is not None:
                    part = of_sequence[step - first_step :][:NOISE_STEPS]
                    noise[i, : len(part)] = part
            self._noise, self._noise_from = send(noise.t().contiguous(), self._device), step  # (steps, B)
        return self._noise[step - self._noise_from]


def sequence_noise(seed: int, length: int) -> torch.Tensor:
    """One uniform number in [0, 1) per position of a completion, (length,) float64, from the seed alone.

    A longer one begins with the same numbers, so that Continue goes on as if the limit had been higher.
    """
    return torch.rand(length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sample(
    logits: torch.Tensor, temperature: torch.Tensor, noise: torch.Tensor, top_p: torch.Tensor | None = None
) -> torch.Tensor:
    """Next tokens (B,) for logits (B, V), temperatures (B,) above 0 and uniform noise (B,), by inverse transform.

    The token is drawn whose share of the cumulative distribution holds the noise. Tokens at -inf are never drawn, nor
    those outside of `top_p` (B,). Of logits that are NaN, which an adapter's weights can lead to, the last token is
    drawn: what follows is nonsense, for that row alone.

    >>> sample(torch.tensor([[0.0, 0.0, -torch.inf]]), torch.tensor([1.0]), torch.tensor([0.7])).tolist()
    [1]
    """
    shares = torch.softmax(logits.float() / temperature[:, None], dim=-1)  # (B, V)
    if top_p is not None:
        shares = keep_nucleus(shares, top_p)
    sums = shares.double().cumsum(dim=-1)
    drawn = torch.searchsorted(sums, noise[:, None].double() * sums[:, -1:], right=True)[:, 0]
    return drawn.clamp(max=logits.shape[-1] - 1)


def penalise(logits: torch.Tensor, seen: torch.Tensor, penalties: torch.Tensor) -> torch.Tensor:
    """Logits (B, V) with those of the tokens in `seen` (B, V) divided by the penalty (B, 1), or multiplied if negative
    (Keskar et al. 2019, "CTRL", section 4.1, as `transformers.RepetitionPenaltyLogitsProcessor` has it).

    >>> penalise(torch.tensor([[2.0, -2.0, 1.0]]), torch.tensor([[True, True, False]]), torch.tensor([[2.0]])).tolist()
    [[1.0, -4.0, 1.0]]
    """
    return torch.where(seen, torch.where(logits < 0, logits * penalties, logits / penalties), logits)


def keep_nucleus(shares: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Shares (B, V) with 0 in the place of the unlikeliest that together come to at most 1 - `top_p` (B,).

    As `transformers.TopPLogitsWarper` cuts them; the likeliest token always stays.

    >>> keep_nucleus(torch.tensor([[0.125, 0.625, 0.25]]), torch.tensor([0.8])).tolist()
    [[0.0, 0.625, 0.25]]
    """
    ascending, order = shares.sort(dim=-1)
    cut = ascending.cumsum(dim=-1) <= (1 - top_p)[:, None]
    cut[:, -1] = False
    return shares.masked_fill(torch.zeros_like(cut).scatter(1, order, cut), 0.0)
