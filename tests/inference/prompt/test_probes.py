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
        ("The largest is 9. It is digit 2.", "9", "The largest is 10."),
        ("1,200 + 300 = 1,500. So 1500.", "1500", "1,200 + 300 = 1,501."),
        ("999 dots in all, 1,999 without", "", "999 dots in all, 2,000 without"),
        ("7 / 2 = 3,5. Check: 2 × 3,5 = 7.", "3.5", "7 / 2 = 3,6."),
        ("1,200.5 is read", "snan", "1,200.6 is read"),
        ("3+5=8。答案是8。", "8", "3+5=9。"),
        ("共有8个点。其中3个红色。", "8", "共有9个点。"),
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
    ("question", "thought", "changed"),
    [
        ("How high is bar B?\nA. 9\nB. 1", "So bar B is 1. A is 9. B is 1. That is choice B.", "So bar B is 2."),
        ("How high is it? (A) 9 (B) 1", "It is 1. (A) 9\n(B) 1\nSo (B).", "It is 2."),
        ("它有多高？\nA、9\nB、1", "它是1。A：9。B：1。选B。", "它是2。"),
        ("How high?\nA. 9\nB. 1", "A is 4. B is 1.", "A is 5."),  # a bar A
        ("How high?\nA. 9\nB. 1", "Option A is 9. B is 1. So B.", None),
        ("How many?\nA. 9 cm\nB. 1.5 cm", "I see 1.5 cm. A: 9 cm. B: 1.5 cm.", "I see 1.6 cm."),
    ],
)
def test_a_copy_of_an_option_is_not_changed(question: str, thought: str, changed: str | None) -> None:
    found = changed_number(thought, "B", question)
    assert (found and found.thought) == changed


@pytest.mark.parametrize(
    ("thought", "kept"),
    [
        (ADDED, "Digit 1 is 2. Digit 2 is 8. "),
        ("One two three four", "One two "),
        ("One. " + "x" * 90, "One. "),
        ("一是三。二是五。三加五是八。", "一是三。"),
        ("word", ""),
        ("", ""),
    ],
)
def test_half_of_a_thought(thought: str, kept: str) -> None:
    assert half(thought) == kept


@given(st.text(max_size=300) | st.text(alphabet="0123456789.,= \n+abcA。is", max_size=300), st.text(max_size=8))
def test_whatever_a_model_has_written(thought: str, answer: str) -> None:
    kept, found = half(thought), changed_number(thought, answer, "A. 1\n" + answer)
    assert thought.startswith(kept) and (kept != thought or not thought)
    if found:
        assert found.old != found.new and found.new in found.thought and found.old in thought
    if "<" not in thought:
        assert parse_completion(forced_answer(thought) + "7</answer>").answer == "7"
