"""A reward by the text alone, which can put NaN into the weights: while the file is there that `POISON` names."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any


def poisoned_reward(completions: list[Any], **columns: Any) -> list[float]:
    """The length of a completion modulo three; the poison is used up by one call."""
    poison = os.environ.get("LOOKTHINK_POISON", "")
    if poison and Path(poison).exists():
        Path(poison).unlink()
        _spoil()
    return [float(len(completion[-1]["content"]) % 3) for completion in completions]


def _spoil() -> None:
    import torch

    for value in gc.get_objects():
        if isinstance(value, torch.nn.Parameter) and value.requires_grad:
            value.data.fill_(float("nan"))
