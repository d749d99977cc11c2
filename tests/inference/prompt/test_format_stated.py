"""Reasoning and answer of completions without tags, beside what the grader reads in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.prompt.format import stated_answer
from tests.inference.prompt.test_format import growth
from training.grading.grader import grade_answer, last_answer

STEPS = "Part by part. The known side is 3. 12 / 2 = 6. 6 - 3 = 3. Check: 3 + 3 = 6."
WHOLE = object()
"""The reasoning is the whole text."""
CASES = {
    "7": ("", "7"),
    "It is 7.": ("", "It is 7."),
    "The answer is 7.": ("", "7"),
    "The answer is \\boxed{7}.": ("", "7"),
    "\\boxed{7}": ("", "7"),
    "$\\boxed{\\frac{1}{2}}$": ("", "\\frac{1}{2}"),
    "The answer is $5.": ("", "$5"),
    "The answer is x = 5.": ("", "x = 5"),
    "x = 5": ("", "x = 5"),
    "2-3": ("", "2-3"),
    "3 + 4 = 7.": (WHOLE, "7"),
    "3 × 5 = 15 cm": (WHOLE, "15 cm"),
    "The bars are 3 and 4, so **7**.": (WHOLE, "7"),
    f"{STEPS} The answer is 3.": (STEPS, "3"),
    "In short: 3 × 3 / 2 = 4.5. That is D. The answer is D.": ("In short: 3 × 3 / 2 = 4.5. That is D.", "D"),
    "1. Count.\n2. Add.\n\nAnswer: B. 24": ("1. Count.\n2. Add.", "B. 24"),
    "So 3. **Final answer**: **7**.": ("So 3.", "7"),
    "The answer is 5. Wait, no. The answer is 6.": ("The answer is 5. Wait, no.", "6"),
    "First 3. Then 4. So the total is \\boxed{7}.": (WHOLE, "7"),
    "By Pythagoras. $c = \\sqrt{3^2 + 4^2} = 5$.": (WHOLE, "5"),
    "Bar A is 5. Bar B is 8. So bar B is 8.": (WHOLE, "8"),
    "I see circles. There are 4 circles in total.": ("I see circles.", "There are 4 circles in total."),
    "12 / 2 = 6\n6 - 3 = 3": (WHOLE, "3"),
    "The answer isn't clear. It is 4.": (WHOLE, "4"),
}


@pytest.mark.parametrize("text", CASES)
def test_the_page_and_the_grader_read_the_same_answer(text: str) -> None:
    reasoning, answer = CASES[text]
    assert stated_answer(text) == (text if reasoning is WHOLE else reasoning, answer)
    assert grade_answer(last_answer(text), answer).correct


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("There are 7 bars in it.", ("", "There are 7 bars in it.")),
        ("A. 12 cm and not more", ("", "A. 12 cm and not more")),
        ("The answer is 7. I hope this helps!", ("", "7. I hope this helps!")),
        ("Look: an answer is", ("", "Look: an answer is")),
        ("", ("", "")),
    ],
)
def test_nothing_is_made_up_where_a_text_only_answers(text: str, parts: tuple[str, str]) -> None:
    assert stated_answer(text) == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (STEPS, (STEPS, "")),
        ("Part by part.", ("Part by part.", "")),
        (f"{STEPS} The answer is", (f"{STEPS} The answer is", "")),
        (f"{STEPS} The answer is 3", (STEPS, "3")),
        ("Half of 6. So \\boxed{3", ("Half of 6. So \\boxed{3", "")),
    ],
)
def test_a_text_that_has_not_ended_states_only_what_it_says_is_the_answer(text: str, parts: tuple[str, str]) -> None:
    assert stated_answer(text, has_ended=False) == parts


WORDS = st.sampled_from(
    ["Bar A is 3", "so", ", so", "3 + 4 = 7", "x = 5", "the answer is", "Answer:", "7", "\\boxed{7}", "{", "}", "$"]
    + [".", ". ", "\n", "**", "1.", "=", "\\boxed{", "B", "cm", "is", ":", " "]
)


@given(st.lists(WORDS, max_size=14).map(" ".join), st.booleans())
def test_no_word_is_left_out_and_none_is_added(text: str, has_ended: bool) -> None:
    reasoning, answer = stated_answer(text, has_ended)
    assert reasoning in text and answer in text
    shown = reasoning + answer
    for word in ("Bar A is 3", "cm", "3 + 4", "B"):
        assert (word in text) <= (word in shown)


@pytest.mark.parametrize("has_ended", [True, False])
@pytest.mark.parametrize(
    "unit", ["the answer is ", "so the final ", "\\boxed{", "{", "1 = ", "A. ", "\n ", ". ", ", so ", "a "]
)
def test_eight_times_the_text_takes_about_eight_times_as_long(unit: str, has_ended: bool) -> None:
    assert growth(lambda text: stated_answer(text + "7", has_ended), unit * 1000, unit * 8000) < 24
