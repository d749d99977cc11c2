"""Parts are sent when the page does not show them, whatever it says of itself."""

import pytest

from training.ui.base.context import Part, Shown


def is_skipped(update):
    return isinstance(update, dict) and set(update) == {"__type__"}


def test_a_part_is_sent_once_and_again_when_it_changes_or_the_page_lost_it():
    first = Shown("")
    assert first.updates("watch", ["a"]) == ["a"]
    second = Shown(first.note)
    assert is_skipped(second.updates("watch", ["a"])[0]) and second.note == first.note
    third = Shown(second.note)
    assert third.updates("watch", ["b", "a"]) == ["b", "a"]
    assert Shown("").updates("watch", ["b"]) == ["b"]


def test_a_held_part_stays_until_its_subject_changes():
    def held(text, about):
        return Part(text, about, is_held=True)

    shown = Shown("")
    assert shown.updates("watch", [held("old", "one")]) == ["old"], "the page shows nothing yet"
    again = Shown(shown.note)
    assert is_skipped(again.updates("watch", [held("new", "one")])[0]) and again.note == shown.note
    assert again.updates("watch", [Part("new", "one", is_held=False)]) == ["new"]
    assert again.updates("watch", [held("other", "two")]) == ["other"]


@pytest.mark.parametrize("note", [None, 7, ["log"], "x" * 5000, "watch.0=", "\ud800"])
def test_a_page_that_says_nonsense_is_sent_everything(note):
    assert Shown(note).updates("watch", ["a"]) == ["a"]
