"""The verdict's sentence, as a table: what gained and lost how many of 480 rows, and what is said of it."""

from __future__ import annotations

import pytest

from training.evaluation.statistics import PairedDifference, paired_difference, smallest_difference
from training.evaluation.verdict import verdict

NUM_ROWS = 480
Changed = tuple[int, int]


def changed(gained_lost: Changed, num_rows: int = NUM_ROWS) -> PairedDifference:
    gained, lost = gained_lost
    same = num_rows - gained - lost
    return paired_difference(
        [True] * gained + [False] * (lost + same), [False] * gained + [True] * lost + [False] * same
    )


CASES: list[tuple[Changed, Changed, Changed, Changed | None, str]] = [
    # format,  strict,    lenient,  lenient less base-direct, what is said
    (
        (373, 0),
        (210, 7),
        (90, 41),
        (150, 20),
        "The adapter reasons better: on the same 480 rows lenient accuracy rose by 10.2",
    ),
    (
        (0, 0),
        (0, 0),
        (60, 20),
        None,
        "The adapter reasons better: on the same 480 rows lenient accuracy rose by 8.3 points (",
    ),
    ((0, 90), (10, 100), (60, 20), None, "The adapter reasons better"),  # the lenient difference decides
    ((373, 0), (210, 7), (20, 18), None, "It learnt the tags, not to reason: strict accuracy rose by 42.3 points ("),
    ((373, 0), (5, 4), (20, 18), None, "It learnt the tags, not to reason: the format rose by 77.7 points ("),
    (
        (373, 0),
        (40, 15),
        (60, 45),
        None,
        "It learnt the tags, and 480 rows cannot tell whether also to reason: strict ",
    ),
    (
        (30, 4),
        (0, 0),
        (60, 45),
        None,
        "It learnt the tags, and 480 rows cannot tell whether also to reason: the format ",
    ),
    ((0, 0), (0, 0), (20, 60), None, "It got worse: on the same 480 rows lenient accuracy fell by 8.3 points ("),
    ((373, 0), (210, 7), (20, 60), None, "although strict accuracy rose by 42.3 points"),
    ((0, 0), (20, 60), (20, 18), None, "It got worse at stating its answer in the tags: strict accuracy fell by 8.3"),
    ((0, 50), (2, 3), (20, 18), None, "It got worse at the tags: the format fell by 10.4 points"),
    (
        (0, 0),
        (0, 0),
        (20, 18),
        None,
        "480 rows cannot tell: lenient accuracy changed by +0.4 points, -2.2 to +3.0, and so many",
    ),
    ((0, 0), (0, 0), (0, 0), None, "480 rows cannot tell: lenient accuracy changed by +0.0 points"),
    (
        (373, 0),
        (210, 7),
        (90, 41),
        (20, 60),
        "; the base asked to answer directly is right more often, by 8.3 points (",
    ),
]


@pytest.mark.parametrize(("form", "strict", "lenient", "direct", "said"), CASES)
def test_verdict(form: Changed, strict: Changed, lenient: Changed, direct: Changed | None, said: str) -> None:
    smallest = smallest_difference(NUM_ROWS, sum(lenient) / NUM_ROWS)
    sentence = verdict(changed(form), changed(strict), changed(lenient), changed(direct) if direct else None, smallest)
    assert said in sentence
    assert sentence.endswith(".") and sentence.count(". ") == 0, "one sentence"
    assert ("answer directly" in sentence) == (direct == (20, 60))


def test_what_did_not_move_comes_with_what_could_have_been_shown() -> None:
    lenient, smallest = changed((20, 18)), smallest_difference(NUM_ROWS, 38 / NUM_ROWS)
    assert smallest is not None
    said = verdict(changed((373, 0)), changed((210, 7)), lenient, None, smallest)
    assert f"480 rows could have shown {100 * smallest:.1f})" in said
    form, strict, lenient = (changed(pair, 4) for pair in ((4, 0), (2, 0), (2, 1)))
    few = verdict(form, strict, lenient, None, smallest_difference(4, 0.75))
    assert "4 rows cannot tell" in few and "too few to show any" in few


def test_interval_and_test_must_agree() -> None:
    """30 gained and 16 lost are off zero by the interval and not by the exact test: nothing is claimed."""
    unsure = changed((30, 16), 500)
    assert unsure.low > 0 and unsure.p_value > 0.05 and not unsure.is_up
    assert "cannot tell" in verdict(unsure, unsure, unsure, None, 0.04)
