"""A step's figures over its tokens, where the step is several micro-batches: each counts by the tokens it has.

>>> weighted_mean([1.0, 4.0], [30, 10])
1.75
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence
from typing import Any

import torch

NAMES = ("entropy", "kl", "clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean")
"""TRL's metrics that are means over a micro-batch's tokens; `kl` is there where beta is not 0."""


class TokenMeans:
    """Counts the tokens of micro-batches, and then weighs what TRL has noted of each by them.

    TRL notes one mean for a micro-batch, over the tokens of all processes, and logs the plain mean of those since the
    last log. Micro-batches of like length (`training.grpo.micro_batches.arrange`) make that another figure than the mean over
    the tokens.
    """

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator
        self._counts: list[torch.Tensor] = []

    def add(self, mask: torch.Tensor) -> None:
        """Count a micro-batch by its `completion_mask` (B, C), of the rows that its loss is computed on."""
        self._counts.append(mask.sum())

    def settle(self, metrics: MutableMapping[str, list[float]]) -> None:
        """Before TRL averages `metrics`: one mean over all tokens since the last time in the place of each list.

        All processes call it together.
        """
        if not self._counts:
            return
        counts = self._accelerator.reduce(torch.stack(self._counts), reduction="sum").tolist()
        self._counts.clear()
        for name in NAMES:
            if name in metrics:
                metrics[name] = [weighted_mean(metrics[name], counts)]


def weighted_mean(values: Sequence[float], counts: Sequence[int]) -> float:
    """The mean by weights; without the values that are not numbers, as TRL's, and NaN where there is no other."""
    pairs = [(value, count) for value, count in zip(values, counts, strict=True) if not math.isnan(value)]
    if not pairs:
        return math.nan
    return sum(value * count for value, count in pairs) / max(1, sum(count for _, count in pairs))
