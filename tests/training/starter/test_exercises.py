"""Drills: every answer is right, and stands among its options once."""

import random
import re

from inference.prompt.format import is_well_formed, parse_completion
from training.grading.grader import grade_answer
from training.starter.exercises import drill


def test_drills_are_right() -> None:
    rng, chosen = random.Random(3), 0
    for _ in range(500):
        question, completion = drill(rng)
        assert is_well_formed(completion)
        parsed = parse_completion(completion)
        options = dict(re.findall(r"^([A-D])\. (.+)$", question, re.MULTILINE))
        answer = options[parsed.answer] if options else parsed.answer
        chosen += bool(options)
        assert len(set(options.values())) == len(options)
        if term := re.search(r"What is (.+)\?", question):
            left, sign, right = term[1].split(" ")
            value = {"+": int(left) + int(right), "-": int(left) - int(right), "×": int(left) * int(right)}
            assert grade_answer(str(value.get(sign, int(left) / int(right) if sign == "/" else None)), answer).correct
        else:
            assert f"Which choice is {answer}?" in question
    assert 150 < chosen < 450
