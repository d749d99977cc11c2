"""Intervals, paired tests and pass@k against known figures, and what must always hold."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.statistics import (
    MIN_CHANGED,
    bootstrap,
    mcnemar,
    mean_share,
    paired_difference,
    pass_at_k,
    share,
    smallest_difference,
)


@pytest.mark.parametrize(
    ("hits", "num", "low", "high"),
    [(9, 10, 0.5958, 0.9821), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (240, 480, 0.4554, 0.5446)],
)
def test_share_has_wilsons_interval(hits: int, num: int, low: float, high: float) -> None:
    estimate = share([True] * hits + [False] * (num - hits))
    assert (round(estimate.low, 4), round(estimate.high, 4)) == (low, high)
    assert estimate.value == hits / num


def test_paired_difference_counts_what_changed() -> None:
    before = [True] * 50 + [False] * 50
    after = [True] * 45 + [False] * 5 + [True] * 35 + [False] * 15  # 35 gained, 5 lost
    estimate = paired_difference(after, before)
    a, b = 36 / 102, 6 / 102
    half = 1.959964 * math.sqrt((a + b - (a - b) ** 2) / 102)
    assert estimate.value == pytest.approx(0.30)
    assert (estimate.gained, estimate.lost) == (35, 5)
    assert (estimate.low, estimate.high) == pytest.approx((a - b - half, a - b + half))
    assert estimate.is_up and not estimate.is_down


def test_paired_difference_is_antisymmetric_and_never_without_width() -> None:
    one, other = [True, True, False, True], [False, True, True, False]
    forth, back = paired_difference(one, other), paired_difference(other, one)
    assert (forth.value, forth.low, forth.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert forth.p_value == back.p_value
    all_changed = paired_difference([True] * 100, [False] * 100)
    assert 0.9 < all_changed.low < 1.0 == all_changed.high == all_changed.value


@pytest.mark.parametrize(("after", "before"), [([], []), ([True], [True, False])])
def test_paired_difference_needs_the_same_rows(after: list[bool], before: list[bool]) -> None:
    with pytest.raises(ValueError, match="same rows"):
        paired_difference(after, before)


MCNEMAR = [
    (0, 0, 1.0),
    (1, 0, 1.0),
    (5, 0, 0.0625),  # 2 / 2⁵: five rows are too few, whatever happens to them
    (6, 0, 0.03125),
    (9, 1, 0.021484375),
    (4, 4, 1.0),
]


@pytest.mark.parametrize(("gained", "lost", "p_value"), MCNEMAR)
def test_exact_mcnemar(gained: int, lost: int, p_value: float) -> None:
    assert mcnemar(gained, lost) == p_value


@given(gained=st.integers(0, 400), lost=st.integers(0, 400))
def test_mcnemar_is_the_binomial_test(gained: int, lost: int) -> None:
    """The exact two-sided test at p = 1/2: the share of all outcomes that are no likelier than this one."""
    ways = [math.comb(gained + lost, heads) for heads in range(gained + lost + 1)]
    p_value = Fraction(sum(count for count in ways if count <= ways[gained]), 2 ** (gained + lost))
    assert mcnemar(gained, lost) == pytest.approx(float(p_value), rel=1e-9, abs=1e-15)


@given(num=st.integers(1, 8), data=st.data())
def test_pass_at_k_is_the_mean_over_all_choices_of_k(num: int, data: st.DataObject) -> None:
    right, k = data.draw(st.integers(0, num)), data.draw(st.integers(1, num))
    samples = [True] * right + [False] * (num - right)
    chosen = [any(some) for some in itertools.combinations(samples, k)]
    assert pass_at_k(right, num, k) == pytest.approx(sum(chosen) / len(chosen))


@pytest.mark.parametrize(("right", "num", "k"), [(0, 4, 0), (0, 4, 5), (5, 4, 1), (-1, 4, 1)])
def test_pass_at_k_of_what_cannot_be(right: int, num: int, k: int) -> None:
    with pytest.raises(ValueError, match="samples"):
        pass_at_k(right, num, k)


def test_mean_share_of_rows_that_are_right_always_or_never_is_a_share() -> None:
    rows = [True] * 30 + [False] * 70
    clustered, plain = mean_share([float(hit) for hit in rows], 8), share(rows)
    assert (clustered.value, clustered.low, clustered.high) == pytest.approx((plain.value, plain.low, plain.high))


@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_mean_share_is_as_wide_as_rows_differ(counts: list[int]) -> None:
    """Between the interval of the rows alone and that of all completions as if they were independent."""
    rights = sum(counts)
    estimate = mean_share([count / 4 for count in counts], 4)
    independent = share([True] * rights + [False] * (4 * len(counts) - rights))
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.high - estimate.low >= independent.high - independent.low - 1e-9


@pytest.mark.parametrize(
    ("num", "changed", "smallest"),
    [
        (155, 0.2, 0.1),  # Connor's formula: (1.96 √0.2 + 0.842 √0.19)² / 0.1² = 154.6
        (626, 0.2, 0.05),
        (312, 0.1, 0.05),
        (96, 0.5, 0.2),
        (5_884, 0.3, 0.02),
        (8, 1.0, 0.85),
        (24, 0.0, 0.296),  # nobody changed: the smallest is where all that change go one way
        (76, 0.0, 0.1),
    ],
)
def test_smallest_difference(num: int, changed: float, smallest: float) -> None:
    found = smallest_difference(num, changed)
    assert found is not None
    assert found == pytest.approx(smallest, abs=1e-3)
    c = max(changed, found)
    needed = ((1.959964 * math.sqrt(c) + 0.841621 * math.sqrt(c - found**2)) / found) ** 2
    assert needed == pytest.approx(num, rel=1e-3)


@pytest.mark.parametrize("num", range(1, MIN_CHANGED))
def test_too_few_rows_show_nothing(num: int) -> None:
    assert smallest_difference(num, 0.5) is None
    assert mcnemar(num, 0) > 0.05  # not even if all of them changed one way


def test_the_smallest_difference_is_found_four_times_in_five() -> None:
    """Made-up evaluations with that difference: the exact test, a little stricter than the formula, sees about 80 %."""
    num, changed = 480, 0.3
    difference = smallest_difference(num, changed)
    assert difference is not None
    gained, lost = (changed + difference) / 2, (changed - difference) / 2
    draws = np.random.default_rng(0).multinomial(num, [gained, lost, 1 - changed], size=2_000)
    seen = sum(mcnemar(int(up), int(down)) < 0.05 for up, down, _ in draws)
    assert 0.74 < seen / len(draws) < 0.84


def test_bootstrap_of_independent_rows_is_about_the_normal_interval() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(400) < 0.3
    low, high = bootstrap(values.tolist(), list(range(400)))
    mean, half = values.mean(), 1.96 * values.std() / 20
    assert low == pytest.approx(mean - half, abs=0.004) and high == pytest.approx(mean + half, abs=0.004)


def test_cluster_bootstrap_covers_the_truth() -> None:
    """Of 300 samples of 40 clusters of 8 rows that are alike, about 95 % of intervals cover 0.5; Wilson's far fewer."""
    rng = np.random.default_rng(1)
    clusters = [row // 8 for row in range(320)]
    covered, covered_alone = 0, 0
    for _ in range(300):
        hits = (rng.random(320) < np.repeat(rng.beta(0.5, 0.5, 40), 8)).tolist()
        covered += share(hits, clusters).low <= 0.5 <= share(hits, clusters).high
        covered_alone += share(hits).low <= 0.5 <= share(hits).high
    assert 270 <= covered <= 297 and covered_alone < 240


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 9)), min_size=1, max_size=60))
def test_clusters_never_narrow_an_interval(rows: list[tuple[bool, bool, int]]) -> None:
    after, before, clusters = ([row[i] for row in rows] for i in range(3))
    for with_clusters, alone in (
        (share(after, clusters), share(after)),
        (paired_difference(after, before, clusters), paired_difference(after, before)),
        (mean_share(after, 1, clusters), mean_share(after, 1)),
    ):
        assert with_clusters.low <= alone.low and with_clusters.high >= alone.high
        assert with_clusters.value == alone.value
