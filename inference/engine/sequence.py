"""A sequence: one completion on its way, from its prompt to its last token; and a group of them asked for together."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from inference.model.families import ImageEncoding
    from inference.model.lora_layers import Adapter
    from inference.model.request import Request

PrefixKey = tuple[tuple[int, ...], int, int]


@dataclass(eq=False)
class Sequence:
    """A request with its prompt as tokens, its row in the batch and the tokens generated so far."""

    index: int
    """Its number within its generation."""
    request: Request
    prompt_ids: tuple[int, ...] = field(repr=False)
    """They end with those of the request's prefix."""
    num_prefix_tokens: int
    image: ImageEncoding = field(repr=False)
    adapter: Adapter | None = field(default=None, repr=False)
    priority: float = 0.0
    """A lower one is read earlier; among equals the first that came."""
    started: float = 0.0
    """Start of its generation, by `time.perf_counter`."""
    tokens: list[tuple[int, float]] = field(default_factory=list)
    """Each new token, and the seconds from `started` until it came. Written by the scheduler."""
    ended: bool = False
    """True if it came to an end token."""
    stopped: bool = False
    """True if it was stopped before its end."""
    over: bool = False
    """True once no more tokens come."""
    start: int = 0
    """The cache's column of its first token. Written by the batch, like the two below."""
    first_step: int = 0
    """The batch's step in which it got its first new token; 0 in a plain batch."""
    repetition_penalty: float = 1.0
    prefix_logprobs: tuple[float, ...] = field(default=(), repr=False)
    """Of the prefix's tokens, if the request wants them; written by the prefill."""
    noise: torch.Tensor | None = field(default=None, repr=False)
    """(max_new_tokens,) random numbers of a sampled sequence, on the CPU; `None` if it is greedy."""

    @property
    def num_left(self) -> int:
        """Tokens that it may still get."""
        return self.request.max_new_tokens - len(self.tokens)

    @property
    def max_length(self) -> int:
        """Columns of the cache that it takes in the end."""
        return len(self.prompt_ids) + self.request.max_new_tokens

    @property
    def prefix_key(self) -> PrefixKey:
        """Equal for sequences that share their prefill."""
        return self.prompt_ids, id(self.image), id(self.adapter)


@dataclass(eq=False)
class SequenceGroup:
    """The sequences of one generation, as the scheduler knows them.

    The scheduler holds groups and not generations, so that a generation that nobody refers to any more is collected.
    """

    sequences: list[Sequence]
    stop: threading.Event | None = None
    given_up: bool = False
    """True once nobody waits for them."""
    error: Exception | None = None
    """The error that ended them."""

    @property
    def is_over(self) -> bool:
        """True once none of them gets more tokens."""
        return all(sequence.over for sequence in self.sequences)

    @property
    def is_stopped(self) -> bool:
        """True if they are to leave the batch."""
        return self.given_up or self.error is not None or (self.stop is not None and self.stop.is_set())
