"""The sentences on the differences of two completions."""

from __future__ import annotations

import html
from dataclasses import replace

import pytest

from inference.ui.compare import words_html
from inference.ui.compare_words import describe
from inference.ui.view import CompletionState, View
from training.grading.grader import grade_lenient

THOUGHT = "<think>3 + 4 = 7.</think> <answer>7</answer>"
RIGHT, WRONG = grade_lenient("7", "7"), grade_lenient("8", "7")
DIRECT, TUNED = (
    View(CompletionState.DONE, "7", num_tokens=2),
    View(CompletionState.DONE, THOUGHT, num_tokens=12, thought_tokens=9),
)


@pytest.mark.parametrize(
    ("base", "tuned", "words"),
    [
        (DIRECT, TUNED, ["Only the fine-tuned model reasoned in the tags", "Both answer 7", "Only the"]),
        (
            replace(DIRECT, text="3 + 4 = 7. The answer is 7."),
            TUNED,
            ["Only the fine-tuned model reasoned in the tags"],
        ),
        (TUNED, TUNED, ["about the same length", "Both kept the format"]),
        (TUNED, replace(TUNED, thought_tokens=90), ["the fine-tuned model longer: 90 tokens to 9"]),
        (DIRECT, replace(TUNED, state=CompletionState.CUT_OFF), ["The fine-tuned model did not come to its end"]),
        (replace(DIRECT, verdict=WRONG), replace(TUNED, verdict=RIGHT), ["Only the fine-tuned model is correct"]),
        (replace(DIRECT, verdict=WRONG), replace(TUNED, verdict=WRONG), ["Neither is correct"]),
    ],
)
def test_differences(base: View, tuned: View, words: list[str]) -> None:
    for word in words:
        assert word in describe(base, tuned)


def test_a_repetition_penalty_of_the_base_is_said() -> None:
    assert "asked with the base's repetition penalty, 1.05." in html.unescape(words_html(DIRECT, TUNED, 1.05))
    assert "penalty" not in words_html(DIRECT, TUNED, 1.0)
    assert words_html(replace(DIRECT, state=CompletionState.THINKING), TUNED, 1.05) == ""
