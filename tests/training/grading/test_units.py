"""Units: what may be one, and which are the same."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.grading.units import NO_UNIT, PERCENT, find_unit, is_standard, same_dimension, same_quantity


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
def test_any_text(text: str) -> None:
    unit = find_unit(text)
    assert unit is None or same_dimension(unit, unit)
    assert find_unit("") == NO_UNIT != PERCENT
