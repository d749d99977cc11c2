"""Completions to verdicts, with the real grader: strict, lenient, direct, and what a majority is."""

from __future__ import annotations

import pytest

from training.evaluation.evaluation_grading import judge, majority_votes
from training.evaluation.report import Outcome
from training.evaluation.resume import Said

SOLUTION = "<think>3 + 4 = 7.</think>\n\n<answer>7</answer>"


@pytest.mark.parametrize(
    ("text", "is_direct", "form", "strict", "lenient"),
    [
        ("<think>3 + 4 = 7.</think> <answer>7</answer>", False, True, True, True),
        ("<think>3 + 4 = 7.</think> <answer>8</answer>", False, True, False, False),
        ("There are 3 and 4. 3 + 4 = 7.", False, False, False, True),
        ("<think>It is 7.", False, False, False, True),
        ("7", False, False, False, True),
        ("7", True, False, True, True),
        ("7.0", True, False, True, True),
        ("8", True, False, False, False),
        ("7 or 8", True, False, False, False),
        ("", True, False, False, False),
        ("", False, False, False, False),
    ],
)
def test_judge(text: str, is_direct: bool, form: bool, strict: bool, lenient: bool) -> None:
    (found,) = judge([SOLUTION], [Said(text, 5, True)], is_direct)
    assert found == Outcome(form, strict, lenient, 5, True, text)


def test_order_is_kept_and_the_same_text_may_come_again() -> None:
    texts = ["<answer>7</answer>", "<answer>8</answer>", "<answer>7</answer>", "so 7"]
    solutions = [SOLUTION, SOLUTION, "<answer>8</answer>", SOLUTION]
    found = judge(solutions, [Said(text, 1, False) for text in texts], False)
    assert [(o.strict, o.lenient) for o in found] == [(True, True), (False, False), (False, False), (False, True)]


@pytest.mark.parametrize(
    ("answers", "right"),
    [
        (["1/2", "0.5", "0.7", "0.7", "\\frac{1}{2}"], True),  # three of one value, in three dresses
        (["0.7", "0.7", "0.7", "1/2", "0.5"], False),
        (["1/2", "0.7"], True),  # as many votes: the first
        (["0.7", "1/2"], False),
        (["", "", "", "0.5"], True),  # who says nothing has no vote
        (["", ""], False),
        (["0.5"], True),
    ],
)
def test_majority(answers: list[str], right: bool) -> None:
    said = [Said(f"<think>Look.</think><answer>{answer}</answer>" if answer else "", 5, False) for answer in answers]
    row = judge(["<answer>1/2</answer>"] * len(said), said, False)
    assert majority_votes([row]) == [right]
