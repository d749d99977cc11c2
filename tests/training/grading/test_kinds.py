"""Kinds of answers, as a table."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.grading.kinds import KINDS, answer_kind

TABLE = {
    "letter": ["A", "A.", "(b)", "A. 24", "Option C", "\\boxed{D}", "(B) the red one"],
    "yes/no": ["Yes", "no.", "True"],
    "integer": ["24", "-3", "1,234", "$24$", "\\boxed{7}", "+ 5", "24."],
    "decimal": ["0.5", "-.25", "1,234.5", "$3.14$"],
    "fraction": ["3/4", "1 1/2", "\\frac{3}{4}", "-\\dfrac{1}{2}", "2\\frac{1}{3}"],
    "percent": ["50%", "12.5 \\%", "5 percent"],
    "degrees": ["40°", "40^\\circ", "40^{\\circ}", "40 degrees"],
    "quantity": ["24 cm", "12 cm^2", "24cm", "$5", "3.5 kg", "12 \\text{ cm}", "€ 4.50"],
    "equation": ["x = 24", "x < 3", "y \\leq 4", "AB = CD"],
    "several values": ["(1, 2)", "3, 4", "3:4", "{1, 2, 3}", "[0, 1)", "2; 5"],
    "expression": ["2\\sqrt{3}", "x^2+1", "3π", "x", "2x", "4 - a", "\\pi"],
    "words": ["isosceles triangle", "the red one", "AB", "a, b and c"],
    "empty": ["", "  ", "$ $"],
}


@pytest.mark.parametrize(("kind", "gold"), [(kind, gold) for kind, golds in TABLE.items() for gold in golds])
def test_table(kind: str, gold: str) -> None:
    assert answer_kind(gold) == kind


def test_the_table_has_every_kind() -> None:
    assert list(TABLE) != [] and set(TABLE) == set(KINDS)


@given(st.text(max_size=200))
def test_anything_has_a_kind(gold: str) -> None:
    assert answer_kind(gold) in KINDS


@pytest.mark.parametrize("gold", ["1," * 50_000, "1" * 50_000, "(" * 50_000, "\\frac{" * 9_000, "- 1 1/" * 9_000])
def test_hostile_golds_take_no_time(gold: str) -> None:
    started = time.process_time()
    answer_kind(gold)
    assert time.process_time() - started < 1
