"""The verdict's sentence: a table of rows gained and lost and what is said, and that it holds for any figures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.statistics import PairedDifference, paired_difference
from training.evaluation.verdict import verdict

NUM_ROWS = 480
Changed = tuple[int, int]
"""Rows gained and lost."""
UNFORCED = "the base that is made to think (base-forced) was not measured"


def changed(gained_lost: Changed, num_rows: int = NUM_ROWS) -> PairedDifference:
    gained, lost = gained_lost
    same = num_rows - gained - lost
    return paired_difference(
        [True] * gained + [False] * (lost + same), [False] * gained + [True] * lost + [False] * same
    )


NOTHING: Changed = (0, 0)
CASES: list[tuple[Changed, Changed, Changed, Changed | None, Changed | None, str]] = [
    # format,  strict,    lenient,  lenient less base-forced, less base-direct, what is said
    (
        (373, 0),
        (210, 7),
        (90, 41),
        (60, 20),
        (150, 20),
        "The adapter is right more often, even than the base that is made to think: on the same 480 rows lenient "
        "accuracy rose by 10.2",
    ),
    ((0, 90), (10, 100), (60, 20), (60, 20), None, "even than the base that is made to think"),  # lenient decides
    (
        (373, 0),
        (210, 7),
        (160, 20),
        (10, 8),
        None,
        "It learnt when to think: on the same 480 rows lenient accuracy rose by 29.2 points (",
    ),
    ((373, 0), (210, 7), (160, 20), (10, 8), None, "the adapter is not shown to beat the base that is made to think"),
    (
        (373, 0),
        (210, 7),
        (60, 20),
        (60, 45),
        None,
        "It learnt when to think, and 480 rows cannot tell whether also to answer better: on the same 480 rows",
    ),
    (
        (373, 0),
        (210, 7),
        (90, 41),
        (20, 60),
        None,
        "but the base that is made to think (base-forced) is right more often, by 8.3 points (",
    ),
    (
        NOTHING,
        NOTHING,
        (60, 20),
        None,
        None,
        "The adapter is right more often: on the same 480 rows lenient accuracy rose by 8.3 points (",
    ),
    ((373, 0), (210, 7), (20, 18), None, None, "It learnt only the tags: strict accuracy rose by 42.3 points ("),
    ((373, 0), (5, 4), (20, 18), (5, 4), None, "It learnt only the tags: the format rose by 77.7 points ("),
    (
        (373, 0),
        (40, 15),
        (60, 45),
        None,
        None,
        "It learnt the tags, and 480 rows cannot tell whether also to answer better: strict ",
    ),
    (
        (30, 4),
        NOTHING,
        (60, 45),
        None,
        None,
        "It learnt the tags, and 480 rows cannot tell whether also to answer better: the format ",
    ),
    (NOTHING, NOTHING, (20, 60), None, None, "It got worse: on the same 480 rows lenient accuracy fell by 8.3 points"),
    ((373, 0), (210, 7), (20, 60), None, None, "although strict accuracy rose by 42.3 points"),
    (
        NOTHING,
        (20, 60),
        (20, 18),
        None,
        None,
        "It got worse at stating its answer in the tags: strict accuracy fell by",
    ),
    ((0, 50), (2, 3), (20, 18), None, None, "It got worse at the tags: the format fell by 10.4 points"),
    (
        NOTHING,
        NOTHING,
        (20, 18),
        (20, 18),
        None,
        "480 rows cannot tell: lenient accuracy changed by +0.4 points, -2.2 to +3.0, and so many",
    ),
    (NOTHING, NOTHING, NOTHING, NOTHING, None, "480 rows cannot tell: lenient accuracy changed by +0.0 points"),
    (
        (373, 0),
        (210, 7),
        (90, 41),
        (10, 8),
        (20, 60),
        "; the base asked to answer directly is right more often, by 8.3 points (",
    ),
]


@pytest.mark.parametrize(("form", "strict", "lenient", "forced", "direct", "expected"), CASES)
def test_verdict(
    form: Changed,
    strict: Changed,
    lenient: Changed,
    forced: Changed | None,
    direct: Changed | None,
    expected: str,
) -> None:
    against = [changed(pair) if pair else None for pair in (forced, direct)]
    sentence = verdict(changed(form), changed(strict), changed(lenient), *against)
    assert expected in sentence
    assert sentence.endswith(".") and sentence.count(". ") == 0, "one sentence"
    assert ("answer directly" in sentence) == (direct == (20, 60))
    assert (UNFORCED in sentence) == (forced is None)


def test_what_did_not_move_comes_with_what_could_have_been_shown() -> None:
    lenient = changed((20, 18))
    assert lenient.smallest_shown is not None
    sentence = verdict(changed((373, 0)), changed((210, 7)), lenient, lenient, None)
    assert f"480 rows could have shown {100 * lenient.smallest_shown:.1f})" in sentence
    form, strict, few_rows = (changed(pair, 4) for pair in ((4, 0), (2, 0), (2, 1)))
    few = verdict(form, strict, few_rows, None, None)
    assert "4 rows cannot tell" in few and "too few to show any" in few


def test_interval_and_test_must_agree() -> None:
    """30 gained and 16 lost are off zero by the interval and not by the exact test: nothing is claimed."""
    unsure = changed((30, 16), 500)
    assert unsure.low > 0 and unsure.p_value > 0.05 and not unsure.is_up
    assert "cannot tell" in verdict(unsure, unsure, unsure, unsure, None)


@st.composite
def differences(draw: st.DrawFn, num_rows: int) -> PairedDifference:
    gained = draw(st.integers(0, num_rows))
    return changed((gained, draw(st.integers(0, num_rows - gained))), num_rows)


@given(data=st.data(), num_rows=st.integers(1, 600))
def test_what_is_said_holds_for_the_figures(data: st.DataObject, num_rows: int) -> None:
    form, strict, lenient = (data.draw(differences(num_rows)) for _ in range(3))
    forced, direct = (data.draw(st.none() | differences(num_rows)) for _ in range(2))
    sentence = verdict(form, strict, lenient, forced, direct)
    assert "reasons better" not in sentence and sentence.endswith(".")
    beats_forced = forced is not None and forced.is_up
    if "is right more often, even than the base that is made to think" in sentence:
        assert lenient.is_up and beats_forced
    if sentence.startswith("The adapter is right more often"):
        assert lenient.is_up and (beats_forced or UNFORCED in sentence)
    if lenient.is_up and forced is not None and not forced.is_up:
        assert sentence.startswith("It learnt when to think")
    if sentence.startswith("It learnt when to think"):
        assert lenient.is_up and forced is not None and not forced.is_up
        assert ("cannot tell whether also" in sentence) == (not forced.is_down and lenient.low <= forced.high)
    if "(base-forced) is right more often" in sentence:
        assert forced is not None and forced.is_down
    if sentence.startswith("It learnt only the tags"):
        assert not lenient.is_up and max(form.low, strict.low) > lenient.high
    if sentence.startswith("It learnt the tags"):
        assert not lenient.is_up and (strict.is_up or form.is_up)
    if sentence.startswith("It got worse"):
        assert lenient.is_down or strict.is_down or form.is_down
    if sentence.startswith(f"{num_rows:,} rows cannot tell"):
        assert not any(each.is_up or each.is_down for each in (form, strict, lenient))
    assert (UNFORCED in sentence) == (forced is None)
    assert ("the base asked to answer directly" in sentence) == (direct is not None and direct.is_down)
