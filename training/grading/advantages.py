"""GRPO's rewards and advantages, in numpy, as TRL computes them: for records of a run, without torch.

    >>> rewards = np.array([[1.0], [0.0], [1.0], [1.0]])
    >>> Weighing(np.array([1.0])).advantages(rewards, group=np.array([0, 0, 1, 1]), batch=np.zeros(4, int)).round(2)
    array([ 0.71, -0.71,  0.  ,  0.  ])

TRL computes in float32 and this in float64, so that values differ in their sixth digit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NO_ADVANTAGE = 1e-6
"""An advantage of at most this size is 0: normalised rewards that are added up leave a rest."""
_EPSILON = 1e-4
"""TRL adds it to a standard deviation that it divides by."""


@dataclass(frozen=True)
class Weighing:
    """The weights of K reward functions, and how advantages are made of them (TRL's fields of these names)."""

    weights: Floats
    """(K,)"""
    scale_rewards: str = "group"
    """`group`, `batch` or `none`: whose standard deviation divides."""
    multi_objective_aggregation: str = "sum_then_normalize"

    def totals(self, rewards: Floats) -> Floats:
        """The weighted sum (N,) of rewards (N, K), in which NaN counts nothing; NaN where all are NaN."""
        totals: Floats = np.nansum(rewards * self.weights, axis=1)
        return np.where(np.isnan(rewards).all(axis=1), np.nan, totals)

    def advantages(self, rewards: Floats, group: Ints, batch: Ints) -> Floats:
        """The advantages (N,) of rewards (N, K); 0 for a completion without any reward.

        `group` (N,) numbers the groups from 0 on, `batch` (N,) the steps. `sum_then_normalize`: the weighted sum less
        its group's mean, over the standard deviation; `normalize_then_sum`: each function so within the group, then
        weighed, and the sums so within the batch. Both as `GRPOTrainer._generate_and_score_completions` has them.
        """
        if self.multi_objective_aggregation == "normalize_then_sum":
            columns = [_centred(column, group) / (_spread(column, group) + _EPSILON) for column in rewards.T]
            totals = np.nansum(np.stack(columns, axis=1) * self.weights, axis=1)
            totals = np.where(np.isnan(rewards).all(axis=1), np.nan, totals)
            advantages = _centred(totals, batch) / (_spread(totals, batch) + _EPSILON)
        else:
            totals = self.totals(rewards)
            advantages = _centred(totals, group)
            if self.scale_rewards != "none":
                advantages = advantages / (
                    _spread(totals, group if self.scale_rewards == "group" else batch) + _EPSILON
                )
        return np.nan_to_num(advantages, nan=0.0)


def means(values: Floats, part: Ints) -> Floats:
    """The mean of the values (N,) of each part, by its number; NaN where it has none but NaN."""
    is_there = ~np.isnan(values)
    size = int(part.max(initial=-1)) + 1
    sums = np.bincount(part, np.where(is_there, values, 0.0), minlength=size)
    counts = np.bincount(part, is_there, minlength=size)
    return np.divide(sums, counts, out=np.full(size, np.nan), where=counts > 0)


def _centred(values: Floats, part: Ints) -> Floats:
    """The values less the mean of their part, with what is only rounding as 0."""
    centred: Floats = values - means(values, part)[part]
    return np.where(np.abs(centred) < 1e-12 * np.maximum(1.0, np.abs(values)), 0.0, centred)


def _spread(values: Floats, part: Ints) -> Floats:
    """For each value (N,) the standard deviation of its part, with Bessel's correction; NaN for a single value."""
    counts = np.bincount(part, ~np.isnan(values), minlength=int(part.max(initial=-1)) + 1)
    mean_squares = means(_centred(values, part) ** 2, part)
    factors = np.divide(counts, counts - 1, out=np.full(len(counts), np.nan), where=counts > 1)
    return np.asarray(np.sqrt(mean_squares * factors)[part])
