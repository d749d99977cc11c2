"""The grader, as tables of cases."""

from __future__ import annotations

import threading
import time

import pytest

from training import math_worker
from training.grading import boxed, gold_answer, grade, grade_answer, grade_lenient, last_answer

RIGHT = [
    ("24", "24"),
    ("24", " 24. "),
    ("24", "$24$"),
    ("$24$", "24"),
    ("24", "**24**"),
    ("24", "24.0"),
    ("24", "+24"),
    ("24", "x = 24"),
    ("24", "24 cm"),
    ("24 cm", "24"),
    ("24 cm", "24cm"),
    ("24", "$\\boxed{24}$"),
    ("24", "\\(24\\)"),
    ("1,234", "1234"),
    ("1,234.5", "1234.50"),
    ("$5", "5"),
    ("-3", "−3"),
    ("0", "-0"),
    ("1/2", "0.5"),
    ("1/2", ".5"),
    ("3/6", "1/2"),
    ("\\frac{1}{2}", "\\dfrac{1}{2}"),
    ("50%", "0.5"),
    ("50\\%", "50"),
    ("0.5", "50 %"),
    ("120", "120°"),
    ("120°", "120 degrees"),
    ("120", "120^\\circ"),
    ("2", "2 red circles"),
    ("A", "A"),
    ("A", "a"),
    ("A", "(A)"),
    ("A", "A."),
    ("A", "A. 24"),
    ("A", "(A) 24"),
    ("A", "Option A"),
    ("A", "\\text{A}"),
    ("blue", "Blue."),
    ("the triangle", "triangle"),
    ("Yes", "yes"),
    ("2\\sqrt{3}", "\\sqrt{12}"),
    ("x+1", "1+x"),
    ("(1, 2)", "(1,2)"),
    ("3\\pi", "3π"),
    ("100", "10^2"),
    ("24", "12 + 12 = 24"),
    ("y = 2x + 1", "y=1+2x"),
]
WRONG = [
    ("24", ""),
    ("24", "25"),
    ("24", "-24"),
    ("24", "2.4"),
    ("24", "24 or 25"),
    ("24", "23, 24"),
    ("24", "23 24"),
    ("24", "23; 24"),
    ("24", "$23$ $24$"),
    ("24", "23 = 24"),
    ("24", "\\boxed{23} \\boxed{24}"),
    ("24", "not 24"),
    ("24", "24/25"),
    ("24", "24^2"),
    ("24", "twenty-five"),
    ("24", "A"),
    ("24 cm", "24 m"),
    ("10000000", "10000001"),
    ("1/3", "0.33"),
    ("1/2", "1/0"),
    ("A", "B"),
    ("A", "A or B"),
    ("A", "A B"),
    ("A", "A and B"),
    ("A", "An apple"),
    ("A", "ABCD"),
    ("A", "24"),
    ("blue", "red"),
    ("blue", "blue or red"),
    ("ab", "ba"),
    ("(1, 2)", "(2, 1)"),
    ("x+1", "x-1"),
    ("\\sqrt{2}", "\\sqrt{2}, \\sqrt{3}"),
    ("2\\pi", "\\frac{1}{"),
]


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_right(gold: str, answer: str) -> None:
    verdict = grade_answer(gold, answer)
    assert verdict.correct, verdict


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_wrong(gold: str, answer: str) -> None:
    verdict = grade_answer(gold, answer)
    assert not verdict.correct, verdict


@pytest.mark.parametrize(
    ("solution", "gold"),
    [
        ("<think>x</think>\n\n<answer>A</answer>", "A"),
        ("<think>first \\boxed{3}</think> <answer> 4 </answer>", "4"),
        ("<answer>4</answer>", "4"),
        ("So it is \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("24", "24"),
    ],
)
def test_gold(solution: str, gold: str) -> None:
    assert gold_answer(solution) == gold


SOLUTION = "<think>3 + 4 = 7.</think>\n\n<answer>7</answer>"


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
        ("<think>so <answer>7</answer>", False, True),
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


def test_a_verdict_says_what_was_compared_and_why() -> None:
    verdict = grade("<answer>A</answer>", "<think>The area is 24.</think> <answer>B</answer>")
    assert (verdict.correct, verdict.gold, verdict.answer) == (False, "A", "B")
    assert verdict.rule == "different choice"
    assert grade(SOLUTION, "7").rule == "no answer in tags"


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


def test_boxed_balances_braces() -> None:
    assert boxed("\\boxed{1} \\boxed{\\frac{1}{2}} tail") == "\\frac{1}{2}"
    assert boxed("\\boxed{1") is None
    assert boxed("1") is None


@pytest.mark.parametrize("text", ["(" * 500 + "1" + ")" * 500, "1+" * 1000 + "1", "{" * 5000])
def test_long_or_deep_answers_are_refused_at_once(text: str) -> None:
    started = time.monotonic()
    assert not grade_answer("2", text).correct
    assert time.monotonic() - started < 1


def test_an_endless_comparison_is_cut_off_and_the_next_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    grade_answer("x+1", "1+x")  # the worker is up
    monkeypatch.setattr(math_worker, "TIME_LIMIT_SECONDS", 0.3)
    verdict = grade_answer("x+1", "9^{9^{9^{9}}}+x")
    assert (verdict.correct, verdict.rule) == (False, "took too long to compare")
    monkeypatch.undo()
    assert grade_answer("x+2", "2+x").correct


def test_grading_works_in_a_thread() -> None:
    verdicts: list[bool] = []
    pairs = [("x+3", "3+x"), ("\\sqrt{8}", "2\\sqrt{2}"), ("x+3", "x+4")]
    threads = [threading.Thread(target=lambda p=pair: verdicts.append(grade_answer(*p).correct)) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(verdicts) == [False, True, True]
