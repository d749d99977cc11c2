"""The rule of promotion, at its boundaries, and what must always hold of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.promotion_rule import counted, is_better, reason, summary
from training.evaluation.statistics import PairedDifference, paired_difference


def changed(gained: int, lost: int, same: int = 480) -> PairedDifference:
    """A paired difference by the rows that changed, `same` besides."""
    after = [True] * gained + [False] * lost + [True] * same
    before = [False] * gained + [True] * lost + [True] * same
    return paired_difference(after, before)


UP, DOWN, EQUAL = changed(60, 5), changed(5, 60), changed(0, 0)
CASES: dict[str, tuple[PairedDifference, PairedDifference, bool]] = {
    "both wholly above": (UP, UP, True),
    "strict above, lenient without a changed row": (UP, EQUAL, True),
    "lenient above, strict without a changed row": (EQUAL, UP, True),
    "no row changed in either": (EQUAL, EQUAL, False),
    "strict above, lenient below": (UP, DOWN, False),
    "strict below, lenient above": (DOWN, UP, False),
    "both below": (DOWN, DOWN, False),
    "strict above, lenient gained as many as it lost": (UP, changed(3, 3), False),
    "strict above, lenient gained one row and lost none": (UP, changed(1, 0), False),
    "strict above, lenient lost one row": (UP, changed(0, 1), False),
    "gained five of 485, lost none: the interval reaches below zero": (changed(5, 0), EQUAL, False),
    "gained six of 486, lost none: the interval lies above zero": (changed(6, 0), EQUAL, True),
    "the only row, gained": (changed(1, 0, same=0), changed(1, 0, same=0), False),
}


@pytest.mark.parametrize("case", CASES)
def test_the_rule(case: str) -> None:
    strict, lenient, better = CASES[case]
    assert is_better(strict, lenient) is better
    words = reason(strict, lenient, "the-served-one")
    assert ("it is better" in words) is better
    assert f"On {strict.num_rows} validation rows" in words and "the-served-one" in words
    for said, measure in (("worse in strict", strict), ("strict accuracy the interval", strict)):
        assert said not in words or counted(measure)[0] < 0


def test_no_changed_row_counts_as_zero_and_nothing_else_does() -> None:
    assert counted(EQUAL) == (0.0, 0.0) and EQUAL.low < 0 < EQUAL.high
    assert counted(UP) == (UP.low, UP.high) and counted(changed(1, 1)) != (0.0, 0.0)


def test_the_words_of_each_way_to_wait() -> None:
    assert "No row came out otherwise" in reason(EQUAL, EQUAL, "it")
    assert "worse in strict and lenient accuracy" in reason(DOWN, DOWN, "it")
    assert "worse in lenient accuracy" in reason(UP, DOWN, "it")
    assert "In lenient accuracy the interval reaches below zero" in reason(UP, changed(1, 0), "it")
    assert "In strict and lenient accuracy the intervals reach" in reason(changed(1, 0), changed(3, 3), "it")
    assert summary({"reason": "It is.", "outcome": "So it waits.", "is_better": True}) == "It is. So it waits."


ROWS = st.lists(st.tuples(*[st.booleans()] * 4), min_size=1, max_size=300)


@given(ROWS, st.integers(1, 8))
def test_of_two_that_are_swapped_never_both_are_better(rows: list[tuple[bool, ...]], times: int) -> None:
    """A row is (new strict, new lenient, served strict, served lenient)."""
    new_strict, new_lenient, old_strict, old_lenient = (list(column) * times for column in zip(*rows))
    forth = is_better(paired_difference(new_strict, old_strict), paired_difference(new_lenient, old_lenient))
    back = is_better(paired_difference(old_strict, new_strict), paired_difference(old_lenient, new_lenient))
    assert not (forth and back)
    if forth:
        assert sum(new_strict) >= sum(old_strict) and sum(new_lenient) >= sum(old_lenient)
