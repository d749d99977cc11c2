"""Times and sums of money in words."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.ui.base.html import duration, moment


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (90, "2 min"), (3600, "1 h 00 min"), (4000, "1 h 07 min"), (float("nan"), "unknown")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_moments():
    assert moment(None) == moment(1e30) == "unknown" and moment(1e9).startswith("2001-09-0")


@given(st.floats(0, 1e5))
def test_a_duration_is_never_off_by_more_than_its_last_digit(hours: float) -> None:
    units = {"s": 1 / 3600, "min": 1 / 60, "h": 1.0}
    words = duration(3600 * hours).split()
    total = sum(float(value) * units[unit] for value, unit in zip(words[::2], words[1::2]))
    assert math.isclose(total, hours, abs_tol=0.51 * units[words[-1]] + 1e-9)
