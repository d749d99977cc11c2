"""The grader, as tables of cases (`tests.support.grading_cases`), and what must hold for any text."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.grading_cases import RIGHT, WRONG, Cases
from training.grading import grader as grading
from training.grading import math_pool as grading_pool
from training.grading import math_worker
from training.grading.cleaning import MAX_ANSWER_CHARS
from training.grading.grader import (
    boxed,
    gold_answer,
    grade,
    grade_answer,
    grade_lenient,
    grade_many,
    last_answer,
    options_of,
)

SOLUTION = "<think>3 + 4 = 7.</think>\n\n<answer>7</answer>"


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine is not a wrong answer."""
    monkeypatch.setattr(grading_pool, "TIME_LIMIT_SECONDS", 100.0)


def rows(cases: Cases) -> Iterator[object]:
    for kind, pairs in cases.items():
        for gold, answer in pairs:
            yield pytest.param(gold, answer, id=f"{kind}: {gold} | {answer}"[:90].encode("unicode_escape").decode())


def test_the_table_is_large() -> None:
    assert sum(map(len, RIGHT.values())) >= 150 and sum(map(len, WRONG.values())) >= 150


@pytest.mark.parametrize(("gold", "answer"), list(rows(RIGHT)))
def test_right(gold: str, answer: str) -> None:
    verdict = grade_answer(gold, answer)
    assert verdict.correct, verdict


@pytest.mark.parametrize(("gold", "answer"), list(rows(WRONG)))
def test_wrong(gold: str, answer: str) -> None:
    verdict = grade_answer(gold, answer)
    assert not verdict.correct, verdict


@pytest.mark.parametrize("gold", sorted({gold for pairs in RIGHT.values() for gold, _ in pairs}))
def test_every_gold_equals_itself_and_no_list_with_it_scores(gold: str) -> None:
    assert grade_answer(gold, gold).correct
    assert grade_answer(gold, f"\\boxed{{{gold}}}").correct
    for other in ("17", "C", "purple"):
        assert not grade_answer(gold, f"{other} or {gold}").correct
        if gold not in ("Yes", "yes", "No", "no", "True", "B. 24"):  # these may go on after a comma
            assert not grade_answer(gold, f"{gold}, {other}").correct


@pytest.mark.parametrize(
    ("solution", "gold"),
    [
        ("<think>x</think>\n\n<answer>A</answer>", "A"),
        ("<think>first \\boxed{3}</think> <answer> 4 </answer>", "4"),
        ("<answer>4</answer>", "4"),
        ("<answer>3</answer> <answer>4</answer>", "4"),
        ("So it is \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("24", "24"),
        (" 24 </answer>", "24 </answer>"),
    ],
)
def test_gold(solution: str, gold: str) -> None:
    assert gold_answer(solution) == gold


@pytest.mark.parametrize(
    ("completion", "strict", "lenient"),
    [
        ("<think>It is 7.</think> <answer>7</answer>", True, True),
        ("<answer>7</answer>", True, True),
        ("<answer>7</answer> <answer>7</answer>", True, True),
        ("<answer>6</answer> <answer>7</answer>", False, True),
        ("<answer>7</answer> <answer>6</answer>", False, False),
        ("<think>7</think> <answer>6</answer>", False, False),
        ("<think>It is <answer>7</answer></think>", False, True),
        ("<think><answer>7</think> <answer>7</answer>", True, True),
        ("<think>so <answer>7</answer>", False, True),
        ("<answer>7</answer> <answer>8", False, True),
        ("<answer>7</answer> 8</answer>", False, True),
        ("<answer>7", False, True),
        ("<answer></answer>", False, False),
        ("3 + 4 = 7. The answer is 7.", False, True),
        ("7", False, True),
        ("7 <answer>8", False, False),
        ("", False, False),
    ],
)
def test_completions(completion: str, strict: bool, lenient: bool) -> None:
    assert grade(SOLUTION, completion).correct is strict
    assert grade_lenient(SOLUTION, completion).correct is lenient
    assert grade_many([(SOLUTION, completion)]) == [grade(SOLUTION, completion)]


@pytest.mark.parametrize(
    ("gold", "answer", "rule"),
    [
        ("A", "B", "different choice"),
        ("A", "A or B", "not one choice"),
        ("24", "24.0", "equal numbers"),
        ("24", "23 or 24", "several values where one is expected"),
        ("\\frac{1}{", "2", math_worker.NO_GOLD),
        ("2\\pi", "\\frac{1}{", math_worker.NO_ANSWER),
        ("24", "", "no answer"),
        ("", "24", "no expected answer"),
        ("AB", "BA", "names the same"),
        ("(1, 2)", "(2, 1)", "different in order, brackets or values"),
        ("x+1", "1+x", "equal mathematics"),
        ("x+1", "9^{9^{9^9}}", "too large to compare"),
        ("x+1", "(" * 40 + "x" + ")" * 40, "too deep to compare"),
        ("x+1", "x" * 1000, "too long to compare"),
    ],
)
def test_the_rule_says_what_decided(gold: str, answer: str, rule: str) -> None:
    assert grade_answer(gold, answer).rule == rule


def test_a_verdict_says_what_was_compared_and_why() -> None:
    verdict = grade("<answer>A</answer>", "<think>The area is 24.</think> <answer>$\\boxed{B}$</answer>")
    assert (verdict.correct, verdict.gold, verdict.answer) == (False, "A", "B")
    assert grade(SOLUTION, "7").rule == "no answer in tags"
    assert grade(SOLUTION, "<answer>7").rule == "an answer tag is not closed"
    assert grade(SOLUTION, "<answer>7</answer><answer>8</answer>").rule == "several different answers"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("7", "7"),
        ("B", "B"),
        ("blue", "blue"),
        ("3 + 4 = 7.", "7"),
        ("There are 3 circles. That is choice C.", "C"),
        ("The answer is 2. No: the answer is 3.", "3"),
        ("The answer is: B", "B"),
        ("Answer: 4", "4"),
        ("The answer is \\boxed{12}", "12"),
        ("<think>a is 3</think>\n7", "7"),
        ("<think>a</think> The perimeter is 24 cm.", "24"),
        ("<think>3 + 4 = 7.</think>", "7"),
        ("<think>1</think><answer>7", "7"),
        ("The fraction of them is 3/7.", "3/7"),
        ("It comes to about 3.5 in all", "3.5"),
        ("", ""),
    ],
)
def test_last_answer(text: str, answer: str) -> None:
    assert last_answer(text) == answer


@pytest.mark.parametrize(
    ("problem", "letters"),
    [
        ("Which?\nA. red\nB. blue\nD. grey", "ABD"),
        ("Which?\nA. red\nC. blue", "AC"),
        ("Which? A. red B. blue D. grey", "AB"),
        ("Which?\nA. red\nB. blue\nA. again", ""),
        ("Which?\nB. red\nC. blue", ""),
    ],
)
def test_options_may_have_a_gap_where_each_has_a_line(problem: str, letters: str) -> None:
    assert "".join(options_of(problem)) == letters
    if letters == "ABD":
        assert grade("D", "<answer>grey</answer>", problem).correct
        assert not grade("D", "<answer>blue</answer>", problem).correct


def test_boxed_balances_braces() -> None:
    assert boxed("\\boxed{1} \\boxed{\\frac{1}{2}} tail") == "\\frac{1}{2}"
    assert boxed("\\boxed{1") is None
    assert boxed("1") is None


def test_many_at_once_are_graded_as_one_by_one() -> None:
    pairs = [(gold, f"<answer>{answer}</answer>") for pairs in RIGHT.values() for gold, answer in pairs[:3]]
    pairs += [(gold, f"<answer>{answer}</answer>") for pairs in WRONG.values() for gold, answer in pairs[:3]]
    pairs += [("7", "7"), *pairs[:5]]
    assert grade_many(pairs) == [grade(*pair) for pair in pairs]
    assert grade_many([]) == []
    assert grade_many(pairs, "lenient") == [grade_lenient(*pair) for pair in pairs]
    assert grade_many(pairs, "direct") == [grade_answer(gold_answer(gold), said) for gold, said in pairs]


BOMBS = [
    "<answer>" * 12_000,
    "</answer>" * 12_000 + "<answer>" * 12_000,
    "<answer></answer>" * 6_000,
    "</think><answer>" * 7_000,
    "<think>" * 15_000,
    "\\boxed{" * 15_000,
    "(" * 100_000,
    "{" * 50_000 + "}" * 50_000,
    "1" * 100_000,
    "1," * 50_000,
    "1,111" * 20_000,
    " " * 100_000 + "x",
    "1" + " " * 100_000 + "/",
    "answer is " * 10_000,
    "is " * 33_000,
    "a " * 50_000,
    "$" * 100_000,
    "**" * 50_000,
    "\\text{" * 16_000,
    "^" * 100_000,
    "=" * 100_000,
    "A. " * 33_000,
    "\x00\x1b[31m\ud800" * 10_000,
    "\\frac{" * 1_000 + "1" + "}{2}" * 1_000,
    "(" * 2_000 + "1" + ")" * 2_000,
    "9^" * 50_000,
]


@pytest.mark.parametrize("cap", [100_000, MAX_ANSWER_CHARS - 20])
@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: ascii(bomb[:12]))
def test_no_text_takes_long(bomb: str, cap: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In CPU time of this process, which a busy machine does not stretch; the workers, left out here, have limits."""
    monkeypatch.setattr(grading, "math_equal", lambda *question: False)
    text = bomb[:cap]
    started = time.process_time()
    for completion in (text, f"<answer>{text}</answer>", f"<think>x</think>{text}", f"<answer>7{text}7</answer>"):
        for gold in ("7", "A", "x + 1", "yes", "blue", "(1, 2)", "2, 3", "2:3", "y = 2x + 1", "AB"):
            assert not grade(gold, completion).correct
            grade_lenient(gold, completion)
            gold_answer(completion)
        grade(completion, "<answer>7</answer>")
    assert time.process_time() - started < 3


anything = st.one_of(
    st.text(max_size=60),
    st.text(alphabet="0123456789+-*/^=<>()[]{}.,:;$%°\\ ABCabcxyπ√±∠", max_size=40),
    st.lists(
        st.sampled_from("\\frac{ } \\sqrt{ \\boxed{ \\text{ = < \\le : , ; or and is not 1 2.5 x A".split()),
        max_size=12,
    ).map(" ".join),
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(gold=anything, answer=anything)
def test_no_text_raises(gold: str, answer: str) -> None:
    verdict = grade_answer(gold, answer)
    assert isinstance(verdict.correct, bool) and verdict.rule and verdict.is_graded
    assert len(verdict.gold) <= 200 and len(verdict.answer) <= 200
    grade(gold, answer)
    grade_lenient(gold, answer)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(gold=anything)
def test_any_gold_equals_itself(gold: str) -> None:
    verdict = grade_answer(gold, gold)
    assert verdict.correct or verdict.rule == "no answer", verdict


numbers = st.fractions(max_denominator=1000).map(str)
points = st.tuples(numbers, numbers).map(lambda p: f"({p[0]}, {p[1]})")
sets = st.lists(numbers, min_size=2, max_size=4, unique=True).map(lambda items: "{" + ", ".join(items) + "}")
ratios = st.tuples(st.integers(1, 50), st.integers(1, 50)).map(lambda r: f"{r[0]}:{r[1]}")
labels = st.permutations("PQRST").map(lambda letters: "".join(letters[:3]))
plain = st.one_of(numbers, points, sets, ratios, labels, st.sampled_from(["A", "B", "yes", "no", "blue", "x > 3"]))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=plain, other=plain)
def test_exact_kinds_are_symmetric(one: str, other: str) -> None:
    """Choices apart, which a gold asks for and an answer may dress."""
    assert grade_answer(one, other).correct == grade_answer(other, one).correct


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=st.fractions(), other=st.fractions())
def test_numbers_are_compared_exactly(one: object, other: object) -> None:
    assert grade_answer(str(one), str(other)).correct == (one == other)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 50), min_size=2, max_size=8), st.data())
def test_a_list_of_candidates_is_wrong(candidates: list[int], data: st.DataObject) -> None:
    gold = data.draw(st.sampled_from(candidates))
    joint = data.draw(st.sampled_from([", ", "; ", " or ", " and ", "\n", " ", " | ", ",\\ ", "$, $"]))
    assert not grade_answer(str(gold), joint.join(map(str, candidates))).correct


def test_an_endless_comparison_is_cut_off_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    grade_answer("x+1", "1+x")  # the workers are up
    monkeypatch.setattr(grading_pool, "TIME_LIMIT_SECONDS", 0.5)
    with caplog.at_level(logging.WARNING, logger="training.grading.grader"):
        verdict = grade_answer("x+1", "9^{9^9}+x")
    assert (verdict.correct, verdict.rule) == (False, grading_pool.NO_TIME)
    assert grading_pool.NO_TIME in caplog.text
    assert "9^{9^9}" not in caplog.text, "the answer may be a visitor's"
