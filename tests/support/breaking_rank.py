"""A reward function that fails in the second process of a run at its second step, as a card with too little memory."""

from __future__ import annotations

from typing import Any

from training.grpo.distributed import rank

_calls = 0


def breaking_reward(completions: list[Any], **columns: Any) -> list[float]:
    """Random enough to give a signal; raises `MemoryError` at the second call in process 1."""
    global _calls
    _calls += 1
    if rank() == 1 and _calls == 2:
        raise MemoryError
    return [float(i % 2) for i in range(len(completions))]
