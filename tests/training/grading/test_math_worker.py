"""What math-verify is asked and what it replies, in this process; and that the process of its own does the same."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests import ROOT
from training.grading.cleaning import to_latex
from training.grading.math_worker import NO, NO_ANSWER, NO_GOLD, TAKEN, YES, compare


@pytest.mark.parametrize(
    ("gold", "answer", "relation", "reply"),
    [
        ("2\\sqrt{3}", "\\sqrt{12}", "equal", YES),
        ("2\\sqrt{3}", "\\sqrt{11}", "equal", NO),
        ("1/3", "0.333333", "equal", NO),
        ("sqrt(2)", "1.414214", "equal", NO),
        ("2pi", "6.283185307179586", "equal", NO),
        ("0.5x", "x/2", "equal", YES),
        ("(1)(3)", "3", "equal", YES),
        ("2(3)", "6", "equal", YES),
        ("3.14159265358979", "\\pi", "equal", NO),
        ("\\frac{x^2-1}{x-1}", "x+1", "equal", YES),
        ("\\sin^2 x + \\cos^2 x", "1", "equal", YES),
        ("|x|", "\\sqrt{x^2}", "equal", YES),
        ("x + y", "x + z", "equal", NO),
        ("\\sqrt{x} - 1", "2\\sqrt{x} - 2", "multiple", YES),
        ("x - y", "x - z", "multiple", NO),
        ("x - 1", "x + 1", "multiple", NO),
        ("x - 1", "2x - 2", "multiple", YES),
        ("x - 1", "1 - x", "multiple", YES),
        ("x - 1", "1 - x", "positive multiple", NO),
        ("x - 1", "3x - 3", "positive multiple", YES),
        ("x - 1", "x^2 - x", "multiple", NO),
        ("x - 1", "0", "multiple", NO),
        ("0", "x - 1", "multiple", NO),
        ("\\frac{1}{", "1", "equal", NO_GOLD),
        ("1", "\\frac{1}{", "equal", NO_ANSWER),
    ],
)
def test_replies(gold: str, answer: str, relation: str, reply: str) -> None:
    assert compare(to_latex(gold), to_latex(answer), relation) == reply


def test_the_process_replies_line_by_line() -> None:
    questions = [["x+1", "1+x", "equal"], ["x+1", "x", "equal"]]
    lines = "".join(json.dumps(question) + "\n" for question in questions)
    command = [sys.executable, "-m", "training.grading.math_worker"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, cwd=ROOT, timeout=400)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [YES, TAKEN, YES, TAKEN, NO]  # first: ready
    assert done.returncode == 0
