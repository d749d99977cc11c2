"""Questions that reach mathematics, and names that are the same. `tests.support.grading_cases` has the verdicts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.grading.answers import Label
from training.grading.comparison import RULES, compare, same_label, same_name
from training.grading.parsing import read_label


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


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("AB", Label("", ("A", "B"))),
        ("\\overline{AB}", Label("segment", ("A", "B"))),
        ("Line segment AB", Label("segment", ("A", "B"))),
        ("\\angle ABC", Label("angle", ("A", "B", "C"))),
        ("m\\angle B", Label("angle", ("B",))),
        ("\\angle 1", Label("angle", ("1",))),
        ("A'B'", Label("", ("A'", "B'"))),
        ("P_1P_2", Label("", ("P_1", "P_2"))),
        ("point P", Label("point", ("P",))),
        ("A", None),
        ("SAS", None),
        ("IV", None),
        ("ab", None),
        ("triangle 1", None),
        ("AB + CD", None),
    ],
)
def test_labels(text: str, label: Label | None) -> None:
    assert read_label(text) == label


@given(st.permutations("ABCD"), st.integers(1, 4), st.sampled_from(["", "angle", "triangle", "ray", "polygon"]))
def test_a_figure_is_itself(letters: list[str], count: int, figure: str) -> None:
    label = Label(figure, tuple(letters[:count]))
    assert same_label(label, label)
    assert same_label(label, Label("", label.points)) and same_label(Label("", label.points), label)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("x", "x", True),
        ("x", "y", False),
        ("x", "", True),
        ("AB", "BA", True),
        ("AB", "BC", False),
        ("x_1", "x_2", False),
        ("\\alpha", "\\beta", False),
        ("m\\angleABC", "\\angleABC", True),
        ("perimeter", "x", True),
    ],
)
def test_names_of_values(one: str, other: str, same: bool) -> None:
    assert same_name(one, other) is same
    assert same_name(other, one) is same
