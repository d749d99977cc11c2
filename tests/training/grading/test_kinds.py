"""Answers to golds of every kind, degenerate answers, golds as data have them, and what problems add."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.grading import math_pool
from training.grading.attack import DEGENERATE
from training.grading.grader import check_gold, gold_answer, gold_fault, grade, grade_many

SUPPORT = Path(__file__).parents[2] / "support"
TABLE = SUPPORT / "grading_cases.csv"
KINDS = json.loads((SUPPORT / "grading_kinds.json").read_text())
"""Golds of every kind: `right` and `wrong` answers to each, and those to which no degenerate answer is right."""
RIGHT_BY_GOLD, WRONG_BY_GOLD, DEGENERATE_GOLDS = KINDS["right"], KINDS["wrong"], KINDS["not_degenerate"]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine is not a wrong answer."""
    monkeypatch.setattr(math_pool, "TIME_LIMIT_SECONDS", 100.0)


def wrap(answer: str) -> str:
    has_tags = "<answer>" in answer or "<think>" in answer
    return answer if has_tags else f"<think>I look.</think><answer>{answer}</answer>"


def test_the_table() -> None:
    with TABLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    verdicts = grade_many([(row["gold"], wrap(row["answer"])) for row in rows])
    wrong = [(row, v.rule) for row, v in zip(rows, verdicts) if v.correct != (row["expected"] == "1")]
    assert len(rows) > 800 and not wrong


@pytest.mark.parametrize("gold", RIGHT_BY_GOLD)
def test_every_way_to_write_a_right_answer(gold: str) -> None:
    answers = [gold_answer(gold), *RIGHT_BY_GOLD[gold]]
    verdicts = grade_many([(gold, wrap(answer)) for answer in answers])
    assert not [(answer, v.rule) for answer, v in zip(answers, verdicts) if not v.correct]


@pytest.mark.parametrize("gold", WRONG_BY_GOLD)
def test_wrong_answers(gold: str) -> None:
    answers = WRONG_BY_GOLD[gold]
    verdicts = grade_many([(gold, wrap(answer)) for answer in answers])
    assert not [(answer, v.rule) for answer, v in zip(answers, verdicts) if v.correct]


@pytest.mark.parametrize("gold", DEGENERATE_GOLDS)
def test_no_degenerate_answer_is_right(gold: str) -> None:
    verdicts = grade_many([(gold, wrap(answer)) for answer in DEGENERATE])
    assert not [answer for answer, v in zip(DEGENERATE, verdicts) if v.correct]


QUESTION = "How long is AB?\nChoices:\nA. 10 cm\nB. 12 cm\nC. 14 cm\nD. both A and B"
ANIMAL = "Which animal is it? (A) cat (B) dog (C) bird (D) none of these"


@pytest.mark.parametrize(
    ("problem", "gold", "right", "wrong"),
    [
        (QUESTION, "B", ["B", "b", "B. 12 cm", "12 cm", "(B) 12 cm", "12"], ["A. 12 cm", "B. 14 cm", "10 cm", "C"]),
        (QUESTION, "12 cm", ["B", "b", "12 cm", "B. 12 cm"], ["A", "A. 12 cm", "C. 14 cm"]),
        (QUESTION, "D", ["D", "both A and B", "D. both A and B"], ["A and B", "A", "B"]),
        (ANIMAL, "b", ["b", "dog", "B. dog", "It is a dog."], ["cat", "B. cat", "none of these"]),
        (ANIMAL, "D", ["D", "None of these"], ["A", "cat", "0"]),
        ("Which? A. I only B. I and II D. None", "B", ["I and II", "II and I"], ["I or II", "I only"]),
        ("Which? (A) red (B) none", "B", ["B", "none"], ["0", "red"]),
        ("下列哪个正确？A．5 B．7 C．9", "B", ["B", "7", "B．7", "故选：B"], ["5", "A．7", "7 or 9"]),
        ("What is the ratio of boys to girls?", "3:20", ["3:20", "6:40", "3/20", "3 to 20"], ["20:3"]),
        ("What time is it?", "3:20", ["3:20", "3:20 PM"], ["6:40", "3/20"]),
    ],
)
def test_problems_give_options_and_ask_for_ratios(problem: str, gold: str, right: list[str], wrong: list[str]) -> None:
    for answer in right + wrong:
        verdict = grade(gold, wrap(answer), problem)
        assert verdict.correct is (answer in right), (answer, verdict)


@pytest.mark.parametrize(
    ("solution", "gold"),
    [
        ("3 + 4 = 7\n#### 7", "7"),
        ("We add. Final Answer: 7", "7"),
        ("We add. Answer: 7", "7"),
        ("We add. **Answer:** 7", "7"),
        ("The answer is C.", "C"),
        ("<SUMMARY>a</SUMMARY><CONCLUSION> 7 </CONCLUSION>", "7"),
        ('{"answer": 7}', "7"),
        ('{"answer": "7 cm", "why": "x"}', "7 cm"),
        ("答案：7", "7"),
        ("The roots are $\\boxed{2}$ and $\\boxed{3}$.", "2, 3"),
        (7, "7"),
        (2.50, "2.5"),
        (["7"], "7"),
    ],
)
def test_golds_as_data_have_them(solution: object, gold: str) -> None:
    assert gold_answer(solution) == gold and not gold_fault(solution)
    assert grade_many([(solution, f"<answer>{gold}</answer>")])[0].correct


@pytest.mark.parametrize("solution", [None, [], ["2", "3"], True, {"a": 1}, "", "word " * 60, "x" * 500, "\\frac{1}{"])
def test_golds_that_cannot_be_graded_say_why(solution: object) -> None:
    assert gold_fault(solution)


@pytest.mark.parametrize("solution", [None, ["2", "3"], True, ""])
def test_without_a_gold_there_is_no_verdict(solution: object) -> None:
    verdict = grade(solution, "<answer>7</answer>")
    assert not verdict.correct and not verdict.is_graded and verdict.rule


@pytest.mark.parametrize(
    ("gold", "answer", "tolerance", "is_right"),
    [
        ("22.3", "22.34", 0.0, False),
        ("22.3", "22.34", 0.01, True),
        ("22.3", "23", 0.01, False),
        ("100", "105", 0.05, True),
        ("100", "106", 0.05, False),
        ("50%", "51%", 0.05, True),
        ("1 m", "104 cm", 0.05, True),
        ("0", "0.01", 0.05, False),
        ("3:00", "3:01", 0.05, False),
    ],
)
def test_tolerance_is_relative_and_off_by_default(gold: str, answer: str, tolerance: float, is_right: bool) -> None:
    assert grade(gold, f"<answer>{answer}</answer>", tolerance=tolerance).correct is is_right


DRESSES = ["{}", "${}$", "\\boxed{{{}}}", "**{}**", "The answer is {}.", "Final Answer: {}"]
golds = st.sampled_from([*RIGHT_BY_GOLD, *DEGENERATE_GOLDS])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    gold=golds,
    dress=st.sampled_from(["{}", "${}$", "\\boxed{{{}}}", "**{}**", "The answer is {}.", "Final Answer: {}"]),
)
def test_every_gold_is_right_in_every_ordinary_dress(gold: str, dress: str) -> None:
    text = gold_answer(gold)
    if "$" in text and "$" in dress:  # money in dollar signs
        return
    verdict = grade(gold, f"<answer>{dress.format(text)}</answer>")
    assert verdict.correct, verdict


@pytest.mark.parametrize(
    ("gold", "is_readable"), [("2\\sqrt{3}", True), ("\\frac{1}{0}", False), ("7", True), ("blue", True)]
)
def test_golds_are_checked_against_other_words(gold: str, is_readable: bool) -> None:
    assert check_gold(gold).correct is is_readable
