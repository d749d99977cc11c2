"""Figures of several micro-batches weighed by their tokens."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.grpo.metrics import TokenMeans, weighted_mean


def reduce_of(processes: int):
    """An accelerator whose other processes have as many tokens as this one."""
    return SimpleNamespace(reduce=lambda tensor, reduction: tensor * processes)


@pytest.mark.parametrize(
    ("values", "counts", "mean"),
    [
        ([2.0], [5], 2.0),
        ([1.0, 4.0], [30, 10], 1.75),
        ([1.0, math.nan], [30, 10], 1.0),
        ([0.0], [0], 0.0),
        ([1.0, 3.0], [0, 7], 3.0),
    ],
)
def test_a_mean_by_weights(values, counts, mean) -> None:
    assert weighted_mean(values, counts) == pytest.approx(mean)


def test_no_number_at_all_stays_none() -> None:
    assert math.isnan(weighted_mean([math.nan], [3]))


@given(st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=9), min_size=1, max_size=6))
def test_parts_come_to_the_mean_of_the_whole(parts: list[list[float]]) -> None:
    means, counts = [sum(part) / len(part) for part in parts], [len(part) for part in parts]
    tokens = [value for part in parts for value in part]
    assert weighted_mean(means, counts) == pytest.approx(sum(tokens) / len(tokens), abs=1e-9)


@pytest.mark.parametrize("processes", [1, 2])
def test_what_trl_noted_becomes_one_figure_and_the_next_step_begins_anew(processes: int) -> None:
    found = TokenMeans(reduce_of(processes))
    found.add(torch.tensor([[1, 1, 1], [1, 0, 0]]))
    found.add(torch.tensor([[1, 0], [0, 0]]))
    metrics = {"entropy": [1.0, 6.0], "reward": [0.5], "clip_ratio/low_mean": [0.0, 1.0]}
    found.settle(metrics)
    assert metrics == {"entropy": [pytest.approx(2.0)], "reward": [0.5], "clip_ratio/low_mean": [pytest.approx(0.2)]}
    metrics = {"entropy": [3.0]}
    found.settle(metrics)
    assert metrics == {"entropy": [3.0]}, "nothing was counted since"
    found.add(torch.tensor([[1]]))
    found.settle(metrics)
    assert metrics == {"entropy": [3.0]}
