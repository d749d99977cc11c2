"""How an answer is read, kind by kind; and how it is cut into parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.grading.answers import (
    Answer,
    Choice,
    Equality,
    Formula,
    Label,
    Quantity,
    Ratio,
    Relation,
    Sequence,
    Values,
    Words,
)
from training.grading.parsing import choice_letter, is_formula, parse, split_list, split_relation, split_top


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("A", Choice),
        ("(b) 24", Choice),
        ("a", Formula),
        ("24 cm", Quantity),
        ("$5", Quantity),
        ("The area is 24", Quantity),
        ("2\\sqrt{3} cm", Formula),
        ("|x|", Formula),
        ("a - b", Formula),
        ("not 24", Words),
        ("blue", Words),
        ("", Words),
        ("AB", Label),
        ("SAS", Words),
        ("IV", Words),
        ("(1, 2)", Sequence),
        ("[1, 2)", Sequence),
        ("x > 3", Sequence),
        ("{1, 2}", Values),
        ("1, 2", Values),
        ("1 or 2", Values),
        ("\\pm 2", Values),
        ("2:3", Ratio),
        ("x = 2", Equality),
        ("12 + 12 = 24", Equality),
        ("x + y \\le 4", Relation),
        ("1, " * 20 + "1", Words),
    ],
)
def test_kinds(text: str, kind: type[Answer]) -> None:
    assert isinstance(parse(text), kind), parse(text)


@pytest.mark.parametrize(
    ("text", "letter"),
    [("A", "A"), ("h", "H"), ("I", "I"), ("(c) x", "C"), ("A or B", None), ("A.5", None), ("Option d", "D")],
)
def test_choice_letters(text: str, letter: str | None) -> None:
    assert choice_letter(text) == letter


@pytest.mark.parametrize("text", ["x", "2x+1", "\\frac{a}{b}", "sin(x)", "\\log_2 8", "24!", "(x+1)^2", "1,234x"])
def test_formulas(text: str) -> None:
    assert is_formula(text)


@pytest.mark.parametrize("text", ["", "xy", "23 24", "a = b", "x, y", "24?", "not 24", "2 apples", "1..2", "≡2"])
def test_what_is_no_formula(text: str) -> None:
    assert not is_formula(text)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("1, 2", ["1", "2"]),
        ("1,2", ["1", "2"]),
        ("1,234", ["1,234"]),
        ("1,234, 5", ["1,234", "5"]),
        ("1, 2, and 3", ["1", "2", "3"]),
        ("either 1 or 2", ["1", "2"]),
        ("(1, 2), (3, 4)", ["(1, 2)", "(3, 4)"]),
        ("[1, 2) \\cup (3, 4]", ["[1, 2)", "(3, 4]"]),
        ("sand", ["sand"]),
        (", 1", [", 1"]),
        ("", [""]),
    ],
)
def test_lists(text: str, items: list[str]) -> None:
    assert split_list(text) == items


def test_relations() -> None:
    assert split_relation("1 < x \\le 3") == (["<", "\\le"], ["1", "x", "3"])
    assert split_relation("f(x = 1)") == ([], ["f(x = 1)"])
    assert split_relation("\\left") == ([], ["\\left"])


@given(st.text(alphabet="ab,()[]{} ", max_size=40))
def test_parts_lose_nothing_but_separators(text: str) -> None:
    assert ",".join(split_top(text, ",")).replace(" ", "") == text.replace(" ", "")
