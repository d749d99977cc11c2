"""The problems for bases other than the starter: of a size that such models know, with answers that fit."""

from __future__ import annotations

import random
import re

import pytest

from training.grading.grader import grade_lenient
from training.starter.everyday import EVERYDAY_KINDS, everyday_problem


@pytest.mark.parametrize("kind", EVERYDAY_KINDS)
def test_problems_of_a_kind_are_made_by_a_seed_and_differ(kind: str) -> None:
    problems = [everyday_problem(kind, random.Random(seed)) for seed in range(40)]
    again = everyday_problem(kind, random.Random(7))
    assert again.image.tobytes() == problems[7].image.tobytes() and again.answer == problems[7].answer
    assert len({problem.image.tobytes() for problem in problems}) >= 30
    assert len({problem.answer for problem in problems}) > 3, "the question alone does not give the answer"
    for problem in problems:
        assert 600 <= min(problem.image.size) and max(problem.image.size) <= 1000 and problem.image.mode == "RGB"
        assert problem.problem.rstrip().endswith(("?", ".")) and re.fullmatch(r"\d+(\.\d\d|:\d\d)?", problem.answer)
        assert grade_lenient(f"<answer>{problem.answer}</answer>", f"It is {problem.answer}.").correct


def test_a_letter_that_the_font_lacks_is_not_drawn() -> None:
    """Missing glyphs are drawn as a box."""
    from PIL import ImageFont

    from training.starter import everyday

    font, box = ImageFont.load_default(40), ImageFont.load_default(40).getmask("\u0378")
    words = (*everyday._GOODS, *everyday._CITIES, *everyday._STREETS, *everyday._PLACES, *everyday._MONTHS, "x:.+°")
    for letter in sorted(set("".join(words))):
        assert letter == " " or bytes(font.getmask(letter)) != bytes(box), letter
