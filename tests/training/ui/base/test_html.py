"""Times and sums of money in words."""

import pytest

from training.ui.base.html import dollars, duration, moment


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (90, "2 min"), (3600, "1 h 00 min"), (4000, "1 h 07 min"), (float("nan"), "unknown")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_money_and_moments():
    assert (dollars(1234.5), dollars(None)) == ("$1,234.50", None)
    assert moment(None) == moment(1e30) == "unknown" and moment(1e9).startswith("2001-09-0")
