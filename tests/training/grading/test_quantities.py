"""Numbers as they are written, read exactly; what may be a unit, and which units are the same."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.grading.quantities import (
    MAX_NUMBER_CHARS,
    NO_UNIT,
    PERCENT,
    find_unit,
    is_standard,
    read_number,
    same_dimension,
    same_quantity,
)


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


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("cm", "centimetres"),
        ("CM.", "cm"),
        ("cm^2", "square centimeters"),
        ("cm^{2}", "sq. cm"),
        ("m^3", "cubic metres"),
        ("cm squared", "cm^2"),
        ("km/h", "kilometres per hour"),
        ("feet", "ft"),
        ("inches", "in"),
        ("degrees", "°"),
        ("percent", "%"),
        ("per cent", "%"),
        ("dollars", "$"),
        ("hours", "hr"),
        ("red circles", "red circle"),
    ],
)
def test_spellings(text: str, other: str) -> None:
    assert find_unit(text) == find_unit(other) is not None


@pytest.mark.parametrize(
    "text",
    ["x", "ab", "or so", "not", "24", "cm or m", "square kg", "cm^4", "sq cm^2", "is wrong", "m/", "a/b", "+1", "pi"],
)
def test_what_is_no_unit(text: str) -> None:
    assert find_unit(text) is None


def test_what_stands_at_once_after_a_number() -> None:
    standard = [is_standard(unit) for text in ("cm", "km/h", "m^2", "%", "apples") if (unit := find_unit(text))]
    assert standard == [True, True, True, True, False]


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        ((1, "m"), (100, "cm"), True),
        ((1, "m^2"), (100, "cm^2"), False),
        ((1, "l"), (1000, "cm^3"), True),
        ((12, "in"), (1, "ft"), True),
        ((24, "cm"), (24, ""), True),
        ((24, ""), (24, "cm"), True),
        ((24, "cm"), (24, "s"), False),
        ((50, "%"), ("1/2", ""), True),
        (("1/2", ""), (50, "%"), True),
        ((50, "%"), (50, ""), True),
        ((50, "%"), (5, ""), False),
        ((50, "%"), (50, "cm"), False),
        ((2, "circles"), (2, "red circles"), True),
        ((2, "blue circles"), (2, "red circles"), False),
    ],
)
def test_quantities(gold: tuple[str | int, str], answer: tuple[str | int, str], same: bool) -> None:
    units = [find_unit(unit) for _, unit in (gold, answer)]
    assert units[0] and units[1]
    assert same_quantity(Fraction(gold[0]), units[0], Fraction(answer[0]), units[1]) is same


@given(st.text(max_size=40))
def test_any_text_as_a_unit(text: str) -> None:
    unit = find_unit(text)
    assert unit is None or same_dimension(unit, unit)
    assert find_unit("") == NO_UNIT != PERCENT
