"""Numbers as they are written, read exactly."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.grading.numbers import MAX_NUMBER_CHARS, read_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("24", "24"),
        ("-24", "-24"),
        ("+24", "24"),
        ("24.", "24"),
        ("1,234,567", "1234567"),
        (".5", "1/2"),
        ("0.333", "333/1000"),
        ("1/2", "1/2"),
        ("-\\frac{3}{4}", "-3/4"),
        ("\\frac{-3}{4}", "-3/4"),
        ("1 1/2", "3/2"),
        ("-1 1/2", "-3/2"),
        ("1\\frac{1}{2}", "3/2"),
        ("0.\\overline{3}", "1/3"),
        ("0.1\\overline{6}", "1/6"),
        ("2.\\overline{142857}", "15/7"),
        ("1.2e3", "1200"),
        ("1.2 \\times 10^{-3}", "12/10000"),
        ("$5", "5"),
        ("$-5", "-5"),
        ("-$5", "-5"),
        ("seven", "7"),
        ("Twenty-four", "24"),
        ("ninety nine", "99"),
    ],
)
def test_values(text: str, value: str) -> None:
    number = read_number(text)
    assert number and number.value == Fraction(value)


@pytest.mark.parametrize(
    "text",
    ["", "x", "1/0", "\\frac{1}{0}", "23 24", "1 3/2", "24x", "24xyz", "24^2", "24/25/26", "1,23", "1.2.3", "0.333...",
     "24 or 25", "$5 cm", "1e99", "twenty-twenty", "24!", "٣", "9" * (MAX_NUMBER_CHARS + 1), "--", "1 -1/2"],
)  # fmt: skip
def test_what_is_no_number(text: str) -> None:
    assert read_number(text) is None


@given(st.fractions())
def test_every_fraction_is_read_back(value: Fraction) -> None:
    number = read_number(str(value))
    assert len(str(value)) > MAX_NUMBER_CHARS or (number and number.value == value)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9))
def test_every_decimal_is_read_back(value: object) -> None:
    number = read_number(f"{value:,}")
    assert number and number.value == Fraction(str(value))
