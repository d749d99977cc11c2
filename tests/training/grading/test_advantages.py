"""Advantages in numpy against TRL's own code, and what they do not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trl.trainer.utils import nanstd

from training.grading.advantages import Weighing, means

NONE = float("nan")
REWARD = st.sampled_from([NONE, -1.0, 0.0, 0.25, 1.0])
TABLES = st.integers(1, 3).flatmap(
    lambda num: st.lists(st.lists(REWARD, min_size=num, max_size=num), min_size=8, max_size=8)
)
SCALES = st.sampled_from(["group", "batch", "none"])
SIZE = 4
GROUP, BATCH = np.arange(8) // SIZE, np.zeros(8, int)


def trl_advantages(rewards: torch.Tensor, weights: torch.Tensor, scale: str) -> torch.Tensor:
    """The sums and deviations by TRL's `nanstd`, group by group, in float64."""
    totals = (rewards * weights).nansum(1)
    totals[rewards.isnan().all(1)] = torch.nan
    groups = totals.view(-1, SIZE)
    spread = nanstd(groups, dim=1, keepdim=True) if scale == "group" else nanstd(totals)
    centred = groups - groups.nanmean(1, keepdim=True)
    return torch.nan_to_num((centred if scale == "none" else centred / (spread + 1e-4)).flatten(), nan=0.0)


@given(TABLES, SCALES)
def test_advantages_are_trls(table: list[list[float]], scale: str) -> None:
    rewards, weights = np.array(table), np.linspace(0.5, 1.0, len(table[0]))
    ours = Weighing(weights, scale).advantages(rewards, GROUP, BATCH)
    theirs = trl_advantages(torch.tensor(table, dtype=torch.float64), torch.tensor(weights), scale)
    np.testing.assert_allclose(ours, theirs, atol=1e-8)


@given(TABLES, SCALES, st.sampled_from(["sum_then_normalize", "normalize_then_sum"]), st.floats(-3, 3))
def test_a_constant_for_all_changes_no_advantage(
    table: list[list[float]], scale: str, aggregation: str, constant: float
) -> None:
    weighing = Weighing(np.ones(len(table[0])), scale, aggregation)
    rewards = np.nan_to_num(np.array(table))
    before, after = (weighing.advantages(each, GROUP, BATCH) for each in (rewards, rewards + constant))
    np.testing.assert_allclose(before, after, atol=1e-7)


@pytest.mark.parametrize(
    ("rewards", "advantages"),
    [
        ([1.0, 1.0, 1.0, 1.0], [0, 0, 0, 0]),
        ([0.1 + 0.2, 0.3, 0.3, 0.3], [0, 0, 0, 0]),  # what only rounding tells apart is equal
        ([1.0, 0.0, NONE, NONE], [0.707, -0.707, 0, 0]),
        ([1.0, NONE, NONE, NONE], [0, 0, 0, 0]),  # one reward has no deviation
        ([1.0, 0.0, 0.0, 0.0], [1.5, -0.5, -0.5, -0.5]),
    ],
)
def test_a_group_by_hand(rewards: list[float], advantages: list[float]) -> None:
    group = np.zeros(4, int)
    found = Weighing(np.ones(1)).advantages(np.array(rewards)[:, None], group, group)
    np.testing.assert_allclose(found, advantages, atol=1e-3)


def test_normalised_first_by_hand() -> None:
    """Each function counts alike within its group, however large its rewards are."""
    rewards = np.array([[1.0, 100.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    weighing = Weighing(np.ones(2), "group", "normalize_then_sum")
    one, both = (
        weighing.advantages(rewards * factor, np.zeros(4, int), np.zeros(4, int)) for factor in ([1, 0.01], [1, 1])
    )
    np.testing.assert_allclose(one, both, atol=1e-3)
    assert both[0] == pytest.approx(1.5, abs=1e-3)


def test_the_mean_of_a_part_leaves_out_what_is_not_there() -> None:
    np.testing.assert_equal(means(np.array([1.0, NONE, 3.0, NONE]), np.array([0, 0, 0, 2])), [2.0, NONE, NONE])
