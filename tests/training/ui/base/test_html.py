"""Times and sums of money in words."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.ui.base.html import duration, time_html


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (90, "2 min"), (3600, "1 h 00 min"), (4000, "1 h 07 min"), (float("nan"), "unknown")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_time_htmls():
    assert time_html(None) == time_html(1e30) == "unknown"
    assert time_html(1e9) == '<time datetime="2001-09-09T01:46:40Z">2001-09-09 01:46 UTC</time>'


@given(st.floats(0, 1e5))
def test_a_duration_is_never_off_by_more_than_its_last_digit(hours: float) -> None:
    units = {"s": 1 / 3600, "min": 1 / 60, "h": 1.0}
    words = duration(3600 * hours).split()
    total = sum(float(value) * units[unit] for value, unit in zip(words[::2], words[1::2]))
    assert math.isclose(total, hours, abs_tol=0.51 * units[words[-1]] + 1e-9)
