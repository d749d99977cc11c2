"""Parts are sent when the page does not show them, whatever it says of itself; foreign text is made safe."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.ui.base.html import Shown, dollars, duration, escape, moment


def is_skipped(update):
    return isinstance(update, dict) and set(update) == {"__type__"}


def test_a_part_is_sent_once_and_again_when_it_changes_or_the_page_lost_it():
    first = Shown("")
    assert first.update("log", "a") == "a"
    second = Shown(first.note)
    assert is_skipped(second.update("log", "a")) and second.note == first.note
    third = Shown(second.note)
    assert third.update("log", "b") == "b" and third.update("plots", "a") == "a"
    assert Shown("").update("log", "b") == "b"


def test_a_part_can_be_kept_whatever_it_says():
    shown = Shown("")
    assert not shown.keep("rollouts@one")
    shown.update("rollouts@one", "old")
    held = Shown(shown.note)
    assert held.keep("rollouts@one") and not held.keep("rollouts@two") and held.note == shown.note


@pytest.mark.parametrize("note", [None, 7, ["log"], "x" * 3000, "log:", "\ud800"])
def test_a_page_that_says_nonsense_is_sent_everything(note):
    assert Shown(note).update("log", "a") == "a"


@given(st.text(), st.integers(1, 50))
def test_foreign_text_is_escaped_and_cut(text, most):
    safe = escape(text, most)
    assert not set(safe) & set("<>\"'\x00\x1b\u202e") and len(safe) <= 6 * most + 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (90, "2 min"), (3600, "1 h 00 min"), (4000, "1 h 07 min"), (float("nan"), "unknown")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_money_and_moments():
    assert (dollars(1234.5), dollars(None)) == ("$1,234.50", None)
    assert moment(None) == moment(1e30) == "unknown" and moment(1e9).startswith("2001-09-0")
