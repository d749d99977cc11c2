"""Thoughts that end at another answer than the one given, and the many that only look so."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.grading.contradiction import contradiction
from training.starter.problems import iterate_problems
from training.starter.templates import WAYS

ADDED = "Part by part. Digit 1 is 2. Digit 2 is 8. 2 + 8 = 10. 10 + 3 = 13. Check: 13 - 3 = 10."
OPTIONS = "What is the sum?\nChoices:\nA. 10\nB. 13\nC. 14\nD. 3"
CHOSEN = "Part by part. 10 + 3 = 13. Check: 13 - 3 = 10. A is 10. B is 13. That is choice B."

FOUND = [
    (ADDED, "14", "", "The thought ends at 13, the answer is 14."),
    ("At a glance: 13.", "14", "", "The thought ends at 13, the answer is 14."),
    ("In short: 6 + 7 = 13.", "14", "", "The thought ends at 13, the answer is 14."),
    ("In short: bar B is 7.", "8", "", "The thought ends at 7, the answer is 8."),
    ("In short: 2 × (3 + 4) = 14.", "7.5", "", "The thought ends at 14, the answer is 7.5."),
    ("In short: 3 of 8, 3/8.", "5/7", "", ""),
    (ADDED.replace("13", "1,300"), "1,400", "", "The thought ends at 1,300, the answer is 1,400."),
    (CHOSEN, "A", OPTIONS, "The thought ends at B, the answer is A."),
    (CHOSEN, "C", OPTIONS, "The thought ends at B, the answer is C."),
    ("In short: 6 + 7 = 13. That is B.", "(C)", OPTIONS, "The thought ends at B, the answer is (C)."),
    ("6 + 7 = 13.", "C", OPTIONS, "The thought ends at 13, the answer is C."),
    ("So I choose option B.", "14", OPTIONS, "The thought ends at B, the answer is 14."),
    ("Bars are 3 and 4. The answer is 7.", "9", "", "The thought ends at 7, the answer is 9."),
    ("**Answer:** 7", "9", "", "The thought ends at 7, the answer is 9."),
    ("We add them. \\boxed{7}", "9", "", "The thought ends at 7, the answer is 9."),
    ("Then $x = \\boxed{\\frac{1}{2}}$.", "0.7", "", "The thought ends at \\frac{1}{2}, the answer is 0.7."),
    ("The answer is 12 cm.", "15 cm", "", "The thought ends at 12 cm, the answer is 15 cm."),
    ("The answer is 12 cm.", "15", "", "The thought ends at 12 cm, the answer is 15."),
    ("The bars are equal. The answer is no.", "yes", "", "The thought ends at no, the answer is yes."),
    ("The answer is true.", "No", "", "The thought ends at true, the answer is No."),
    ("The answer is red.", "blue", "Is it red or blue?", "The thought ends at red, the answer is blue."),
    ("3 + 4 = 7. This is the sum.", "9", "", "The thought ends at 7, the answer is 9."),
    ("3 + 4 = 7.\nLet me verify: 7 - 4 = 3.", "9", "", "The thought ends at 7, the answer is 9."),
]
NOT_FOUND = [
    (ADDED, "13", ""),
    (ADDED, "10", ""),  # stands in the thought
    (ADDED, "thirteen", ""),
    (ADDED, "13.0", ""),
    (CHOSEN, "B", OPTIONS),
    (CHOSEN, "13", OPTIONS),
    ("6 + 7 = 13.", "B", OPTIONS),  # the thought ends at the text of B
    ("6 + 7 = 13.", "B", "Which one is it, A, B or C?"),  # options in the picture
    ("In short: 6 + 7 = 13. That is B.", "B. 13", OPTIONS),
    ("The answer is 0.5.", "1/2", ""),
    ("The answer is $\\frac{1}{2}$.", "50%", ""),
    ("2 × 3.14159 = 6.28318.", "6.28", ""),
    ("9 / 2 = 4.5.", "5", ""),  # rounded
    ("12345 × 1 = 12345.", "12000", ""),
    ("The answer is 120 cm.", "1.2 m", ""),
    ("3 / 2 = 1.5.", "90 minutes", ""),
    ("I see seven of them. 3 + 5 = 8.", "7", ""),
    ("The answer is 13. Wait, I counted one twice.", "12", ""),
    ("The answer is not 13.", "12", ""),
    ("If the answer is 13, the sum is odd.", "12", ""),
    ("The answer is 13 or 14.", "15", ""),
    ("It is about 13.", "15", ""),
    ("Bar A is 3. Bar B is 4.", "7", ""),  # it stops before it calculates
    ("Let r = 4.", "50.3", ""),
    ("The answer is the capital of France.", "Paris", ""),
    ("The answer is a puppy.", "dog", "What animal is it?"),
    ("There is no red bar. The answer is yes.", "no", ""),
    ("\\boxed{3} and \\boxed{4}", "5", ""),
    ("", "5", ""),
    ("3 + 4 = 7.", "", ""),
    ("3 - 8 = -5.", "5", ""),
]


@pytest.mark.parametrize(("thought", "answer", "problem", "sentence"), FOUND)
def test_a_contradiction_is_found(thought: str, answer: str, problem: str, sentence: str) -> None:
    assert contradiction(thought, answer, problem) == sentence


@pytest.mark.parametrize(("thought", "answer", "problem"), NOT_FOUND)
def test_what_is_none_is_left_alone(thought: str, answer: str, problem: str) -> None:
    assert contradiction(thought, answer, problem) == ""


@given(st.text(max_size=80), st.text(max_size=30) | st.from_regex(r"-?\d{1,4}([./]\d{1,3})?( cm|%)?", fullmatch=True))
def test_a_thought_that_ends_in_the_answer_never_contradicts_it(start: str, answer: str) -> None:
    for end in (f"The answer is {answer}", f"The answer is {answer}."):
        assert contradiction(f"{start} {end}", answer, OPTIONS) == ""


@given(st.text(alphabet="0123456789.=+ABCD\\boxed{}answer is:\n ", max_size=200), st.text(max_size=30))
def test_anything_can_be_read(thought: str, answer: str) -> None:
    assert isinstance(contradiction(thought, answer, OPTIONS), str)


def test_the_starters_own_thoughts_agree_with_their_answers_and_not_with_others() -> None:
    """Of 300 problems in three ways none contradicts its answer; most contradict a number that stands nowhere."""
    stream, rng, found, num = iterate_problems("train", 5), random.Random(1), 0, 0
    for _ in range(300):
        problem = next(stream)
        for way in WAYS:
            assert contradiction(problem.thoughts[way], problem.answer, problem.problem) == "", problem.thoughts[way]
            if problem.answer.isdigit():
                num += 1
                found += bool(contradiction(problem.thoughts[way], str(rng.randint(1000, 2000)), problem.problem))
    assert num > 300 and found / num > 0.9
