"""Names of figures: which name one, and which two are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.grading.answers import Label
from training.grading.labels import read_label, same_label, same_name


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
def test_read(text: str, label: Label | None) -> None:
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
