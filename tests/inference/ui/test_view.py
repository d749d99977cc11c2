"""The words of a view: figures with units, and a state for every completion."""

from __future__ import annotations

from dataclasses import replace

from inference.ui.view import CompletionState, View, figures, notes_html, status_html, thought_title
from training.grading.grader import grade_lenient

THOUGHT = "<think>3 + 4 = 7.</think> <answer>7</answer>"


def test_figures_have_units() -> None:
    assert figures(163, 3.13) == "3.1 s · 163 tokens · 52 tokens/s"
    assert figures(1, 0.25) == "0.25 s · 1 token · 4 tokens/s"


def test_a_view_tells_its_state() -> None:
    done = View(CompletionState.DONE, THOUGHT, num_tokens=10, seconds=2, thought_tokens=8, thought_seconds=1.6)
    assert thought_title(replace(done, state=CompletionState.THINKING)) == "Thinking…"
    assert thought_title(done) == "Thought for 1.6 s · 8 tokens · 5 tokens/s"
    assert "2.0 s · 10 tokens · 5 tokens/s" in status_html(done)
    assert "2 questions ahead" in status_html(View(CompletionState.WAITING, ahead=2))
    assert "still loading" in status_html(View(CompletionState.WAITING, is_loading=True))
    assert "Continue" in notes_html(replace(done, state=CompletionState.CUT_OFF))
    assert "You stopped" in notes_html(replace(done, state=CompletionState.STOPPED))
    assert "Correct (expected 7)" in notes_html(replace(done, verdict=grade_lenient("7", THOUGHT)))
    wrong = notes_html(replace(done, verdict=replace(grade_lenient("8", THOUGHT), gold="<b>")))
    assert "&lt;b&gt;" in wrong and "<b>" not in wrong
    for state in CompletionState:
        assert f'data-state="{state.value.replace(" ", "-")}"' in status_html(View(state))


def test_an_unknown_picture_is_said_in_the_place_of_a_large_answer() -> None:
    """The sentence has the measured distance; a picture within the limit, or of a base that measures none, has none."""
    done = View(CompletionState.DONE, THOUGHT)
    assert "5.2 times as far" in replace(done, picture_distance=5.2).unknown
    assert replace(done, picture_distance=1.08).unknown == done.unknown == ""
