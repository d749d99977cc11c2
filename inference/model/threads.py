"""How many threads share a decode step on a CPU: one, where it is so small that sharing costs more than it gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SHARED_FROM = 16_000_000
"""Weights times rows of a step that all threads share. Below it one was quicker, by a half where several threads of the
process compute (2 cores, 1.9 M weights, 1 to 64 rows); how many make it is no part of a result but for its rounding."""


@contextmanager
def threads_for(num_weights: int, num_rows: int) -> Iterator[None]:
    """One thread within, for a step of `num_rows` tokens through `num_weights`, where that is small."""
    before = torch.get_num_threads()
    if before == 1 or num_weights * num_rows >= SHARED_FROM:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
