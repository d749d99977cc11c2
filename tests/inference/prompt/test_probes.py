"""Probes of a thought: cut, left out, or with one number changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.prompt.format import parse_completion
from inference.prompt.probes import changed_number, forced_answer, half

ADDED = "Digit 1 is 2. Digit 2 is 8. 2 + 8 = 10. 10 + 3 = 13. Check: 13 - 3 = 10."


@pytest.mark.parametrize(
    ("thought", "answer", "changed"),
    [
        (ADDED, "13", "Digit 1 is 2. Digit 2 is 8. 2 + 8 = 10. 10 + 3 = 14."),
        (ADDED, "B", "Digit 1 is 2. Digit 2 is 8. 2 + 8 = 10. 10 + 3 = 14."),
        ("6 - 4 = 2. Check: 4 + 2 = 6. A is 4. B is 2.", "B", "6 - 4 = 3."),
        ("6 - 4 = 2. 4 + 2 = 6. So blue.", "blue", "6 - 4 = 3."),
        ("6 - 4 = 2. So blue.", "blue", "6 - 4 = 3."),
        ("The legs are 3 and 3. 9 / 2 = 4.5.", "4.5", "The legs are 3 and 3. 9 / 2 = 4.6."),
        ("A is 4.\nB is 2.\nThat is choice B.", "B", "A is 4.\nB is 3."),
        ("There are 1,234 dots and 7 lines.", "7", "There are 1,234 dots and 8 lines."),
        ("x2 is a name, 9 is a number", "", "x2 is a name, 10 is a number"),
        ("It is red.", "red", None),
        ("", "1", None),
    ],
)
def test_a_number_is_changed_and_what_follows_is_cut_off(thought: str, answer: str, changed: str | None) -> None:
    found = changed_number(thought, answer)
    assert (found and found.thought) == changed


@pytest.mark.parametrize("question", ["Which?\nA. 6\nB. 2", "Which?\n(A) 6\n(B) 2", "Which? A: 6\nB: 2\n"])
def test_a_letter_stands_for_its_option(question: str) -> None:
    found = changed_number("6 - 4 = 2. Check: 4 + 2 = 6. So B.", "B", question)
    assert found and found.thought == "6 - 4 = 3."


@pytest.mark.parametrize(
    ("thought", "kept"),
    [
        (ADDED, "Digit 1 is 2. Digit 2 is 8. "),
        ("One two three four", "One two "),
        ("One. " + "x" * 90, "One. "),
        ("word", ""),
        ("", ""),
    ],
)
def test_half_of_a_thought(thought: str, kept: str) -> None:
    assert half(thought) == kept


@given(st.text(max_size=300) | st.text(alphabet="0123456789.,= \n+abc", max_size=300), st.text(max_size=8))
def test_whatever_a_model_has_written(thought: str, answer: str) -> None:
    kept, found = half(thought), changed_number(thought, answer)
    assert thought.startswith(kept) and (kept != thought or not thought)
    if found:
        assert found.old != found.new and found.new in found.thought and found.old in thought
    if "<" not in thought:
        assert parse_completion(forced_answer(thought) + "7</answer>").answer == "7"
