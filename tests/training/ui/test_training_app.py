"""The verdict that the page shows."""

from __future__ import annotations

import pytest

from training.ui.training_app import grade_expected

QUESTION = "How long is it?\nA. 10 cm\nB. 12 cm\nC. 14 cm"


@pytest.mark.parametrize(
    ("expected", "completion", "is_correct"),
    [
        ("B", "<think>r</think><answer>12 cm</answer>", True),
        ("12 cm", "<think>r</think><answer>B</answer>", True),
        ("B", "I think it is 12 cm.", True),
        ("B", "<think>r</think><answer>10 cm</answer>", False),
        ("12 cm", "<think>r</think><answer>A</answer>", False),
    ],
)
def test_the_options_of_a_question_are_known_to_the_verdict(expected: str, completion: str, is_correct: bool) -> None:
    assert grade_expected(expected, completion, QUESTION).correct is is_correct
