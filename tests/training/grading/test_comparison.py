"""What is asked of mathematics, and what is decided without it. `tests.support.grading_cases` has the verdicts."""

from __future__ import annotations

import pytest

from training.grading.comparison import RULES, compare


def asked(gold: str, answer: str) -> list[tuple[str, str, str]]:
    """The questions that a comparison asks, when all are affirmed."""
    questions = []

    def affirm(gold: str, answer: str, relation: str) -> bool:
        questions.append((gold, answer, relation))
        return True

    compare(gold, answer, affirm)
    return questions


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("A", "B. 24"),
        ("24", "24.0 cm"),
        ("1/2", "50%"),
        ("2\\sqrt{3}", "2\\sqrt{3}"),
        ("2\\sqrt{3}", "2 \\sqrt 3"),
        ("3\\pi", "3pi"),
        ("(1, 2)", "(1, 3)"),
        ("{1, 2}", "2, 1"),
        ("2:3", "4:6"),
        ("x > 3", "3 < x"),
        ("(0, \\infty)", "(0, 2)"),
        ("blue", "x^2"),
        ("x + 1", "x + 1, x + 2"),
        ("AB", "BA"),
    ],
)
def test_the_fast_path_asks_nothing(gold: str, answer: str) -> None:
    assert asked(gold, answer) == []


@pytest.mark.parametrize(
    ("gold", "answer", "question"),
    [
        ("2\\sqrt{3}", "\\sqrt{12}", ("2\\sqrt{3}", "\\sqrt{12}", "equal")),
        ("1/2", "x", ("\\frac{1}{2}", "x", "equal")),
        ("x + y = 2", "2x + 2y = 4", ("(x+y)-(2)", "(2x + 2y)-(4)", "multiple")),
        ("x + y < 2", "2 > x + y + 0", ("(x + y)-(2)", "(x + y + 0)-(2)", "positive multiple")),
        ("2\\pi cm", "3\\pi m", ("(2\\pi) \\cdot \\frac{1}{100}", "3\\pi", "equal")),
    ],
)
def test_questions(gold: str, answer: str, question: tuple[str, str, str]) -> None:
    assert asked(gold, answer) == [question]


def test_every_side_of_a_chain_is_asked_about() -> None:
    assert asked("\\sqrt{4}", "x = 1 + 1 = 2") == [("\\sqrt{4}", "1 + 1", "equal"), ("\\sqrt{4}", "2", "equal")]


def test_every_kind_has_its_rules() -> None:
    assert all(agree != differ for agree, differ in RULES.values())
