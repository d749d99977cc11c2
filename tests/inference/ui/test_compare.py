"""The sentences on the differences of two completions: each holds of both."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inference.model.request import Request
from inference.ui.compare import names_of, words_html
from inference.ui.compare_words import NAMES, SHORT_CHARS, describe
from inference.ui.view import CompletionState, View
from training.grading.grader import grade_lenient

THOUGHT = "<think>3 + 4 = 7.</think> <answer>7</answer>"
RIGHT, WRONG = grade_lenient("7", "7"), grade_lenient("8", "7")
DIRECT, TUNED = View(CompletionState.DONE, "7"), View(CompletionState.DONE, THOUGHT)
UNTAGGED = View(CompletionState.DONE, "3 + 4 = 7. The answer is 7.")
HALF = View(CompletionState.DONE, "1/2")
CUT = View(CompletionState.CUT_OFF, "<think>First I look at")
STOPPED = View(CompletionState.STOPPED, "<think>First I look at")
EMPTY = View(CompletionState.DONE, "")
ONLY_TUNED = "Only the fine-tuned model reasoned, in the tags; the base answered without it."
KEPT = "Only the fine-tuned model kept the format."
CASES: dict[str, tuple[View, View, str]] = {
    "direct beside tagged": (DIRECT, TUNED, f"{ONLY_TUNED} Both answer 7. {KEPT}"),
    "untagged reasoning beside tagged": (
        UNTAGGED,
        TUNED,
        "Both reasoned, the base without the tags and the fine-tuned model in the tags, at about the same length. "
        f"Both answer 7. {KEPT}",
    ),
    "both the same": (
        TUNED,
        TUNED,
        "Both reasoned, in the tags, at about the same length. Both answer 7. Both kept the format.",
    ),
    "a longer thought": (
        TUNED,
        replace(TUNED, text="<think>3 and 4. 3 + 4 = 7. Check: 7 - 4 = 3.</think> <answer>7</answer>"),
        "Both reasoned, in the tags; the fine-tuned model at more length, 14 words to 5. Both answer 7. Both kept the "
        "format.",
    ),
    "both direct": (
        DIRECT,
        replace(DIRECT, text="8"),
        "Both answered without reasoning. They answer 7 and 8. Neither kept the format.",
    ),
    "cut off": (
        DIRECT,
        CUT,
        f"{ONLY_TUNED} The fine-tuned model was cut off.",
    ),
    "one cut off, one stopped": (
        CUT,
        STOPPED,
        "Both reasoned, in the tags, at about the same length. The base was cut off and the fine-tuned model was "
        "stopped.",
    ),
    "both stopped": (STOPPED, STOPPED, "Both reasoned, in the tags, at about the same length. Both were stopped."),
    "empty": (EMPTY, TUNED, f"Only the fine-tuned model reasoned, in the tags. The base gave no answer. {KEPT}"),
    "both empty": (EMPTY, EMPTY, "Both gave no answer. Neither kept the format."),
    "one right": (
        replace(DIRECT, verdict=WRONG),
        replace(TUNED, verdict=RIGHT),
        f"{ONLY_TUNED} Only the fine-tuned model is correct. {KEPT}",
    ),
    "both right": (
        replace(UNTAGGED, verdict=RIGHT),
        replace(UNTAGGED, verdict=RIGHT),
        "Both reasoned, without the tags, at about the same length. Both are correct. Neither kept the format.",
    ),
    "both wrong, the same": (
        replace(DIRECT, verdict=WRONG),
        replace(TUNED, verdict=WRONG),
        f"{ONLY_TUNED} Neither is correct. Both answer 7. {KEPT}",
    ),
    "both wrong, not the same": (
        replace(HALF, verdict=WRONG),
        replace(DIRECT, verdict=WRONG),
        "Both answered without reasoning. Neither is correct. Neither kept the format.",
    ),
    "one is graded": (
        replace(CUT, verdict=None),
        replace(TUNED, verdict=RIGHT),
        "Both reasoned, in the tags, at about the same length. The base was cut off. The fine-tuned model is correct.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_differences(case: str) -> None:
    left, right, words = CASES[case]
    assert describe(left, right) == words


def test_the_same_answer_in_another_form_is_found_by_the_grader() -> None:
    other = replace(HALF, text="0.5")
    assert "Both give the same answer, written 1/2 and 0.5." in words_html(HALF, other, 1.0, NAMES, grade_lenient)
    assert "Their answers differ: 1/2 and 7." in words_html(HALF, DIRECT, 1.0, NAMES, grade_lenient)


def test_a_repetition_penalty_of_the_base_is_said() -> None:
    said = words_html(DIRECT, TUNED, 1.05, NAMES, grade_lenient)
    assert "asked with the base's repetition penalty, 1.05." in html.unescape(said)
    assert "penalty" not in words_html(DIRECT, TUNED, 1.0, NAMES, grade_lenient)
    assert words_html(replace(DIRECT, state=CompletionState.THINKING), TUNED, 1.05, NAMES, grade_lenient) == ""


def has_ended(view: View, *states: CompletionState) -> bool:
    return view.state in states


def answered(view: View) -> bool:
    return view.state == CompletionState.DONE and bool(view.stated) and not view.reasoning


WHO = r"(?P<who>Base|Tuned|Both|Neither)"
Claim = Callable[[View], bool]
CLAIMS: list[tuple[str, Claim]] = [
    (rf"{WHO} reasoned, in the tags\b", lambda view: bool(view.reasoning) and view.reasons_in_tags),
    (rf"{WHO} reasoned, without the tags\b", lambda view: bool(view.reasoning) and not view.reasons_in_tags),
    (rf"{WHO} answered without (?:it|reasoning)", answered),
    (rf"{WHO} (?:was|were) cut off", lambda view: has_ended(view, CompletionState.CUT_OFF)),
    (rf"{WHO} (?:was|were) stopped", lambda view: has_ended(view, CompletionState.STOPPED)),
    (rf"{WHO} gave no answer", lambda view: view.state == CompletionState.DONE and not view.stated),
    (rf"{WHO} (?:is|are) correct", lambda view: view.verdict is not None and view.verdict.correct),
    (rf"{WHO} is not correct", lambda view: view.verdict is not None and not view.verdict.correct),
    (rf"{WHO} kept the format", lambda view: view.well_formed),
    (rf"{WHO} in the tags\b", lambda view: view.reasons_in_tags),
    (rf"{WHO} without the tags\b", lambda view: bool(view.reasoning) and not view.reasons_in_tags),
]
"""Of whom a sentence speaks, and what it says of a view."""
LENGTHS = re.compile(r"(?P<who>Base|Tuned) at more length, (?P<most>\d+) words to (?P<least>\d+)")
TEXTS = st.sampled_from(
    [
        THOUGHT,
        "7",
        "",
        "3 + 4 = 7.",
        "It is 7.",
        "<think>First",
        "<think></think>7",
        "7 because. I see. So it is 8.",
        "1/2",
        "0.5",
    ]
    + ["Look. <answer>7</answer>", "<think>3 and 4, then 3 + 4 = 7. Check: 7 - 4 = 3.</think><answer>8</answer>"]
)
ENDED = st.sampled_from([CompletionState.DONE, CompletionState.CUT_OFF, CompletionState.STOPPED])


@st.composite
def views(draw: st.DrawFn) -> View:
    view = View(draw(ENDED), draw(TEXTS))
    is_graded = view.answer and (view.state == CompletionState.DONE or view.answer_tagged) and draw(st.booleans())
    return replace(view, verdict=grade_lenient(draw(st.sampled_from(["7", "8"])), view.text)) if is_graded else view


@given(views(), views(), st.sampled_from([None, "by the grader"]))
def test_each_sentence_holds_of_both(left: View, right: View, compared: str | None) -> None:
    are_same = grade_lenient(left.stated, right.text).correct if compared and left.stated and right.stated else None
    said = describe(left, right, ("Base", "Tuned"), are_same)
    of = {"Base": [left], "Tuned": [right], "Both": [left, right], "Neither": []}
    unread = said
    for pattern, holds in CLAIMS:
        for match in re.finditer(rf"(?P<only>Only )?{pattern}", said):
            spoken = of[match["who"]]
            assert all(map(holds, spoken)), match[0]
            assert (
                not (match["only"] or match["who"] == "Neither")
                or sum(map(holds, (left, right))) == len(spoken)
                or ("reasoned" in match[0] and sum(bool(view.reasoning) for view in (left, right)) == 1)
            ), match[0]
            unread = unread.replace(match[0], "")
    if longer := LENGTHS.search(said):
        one, other = (left, right) if longer["who"] == "Base" else (right, left)
        assert [len(view.reasoning.split()) for view in (one, other)] == [int(longer["most"]), int(longer["least"])]
        assert int(longer["most"]) > int(longer["least"])
        unread = unread.replace(longer[0], "")
    if same := re.search(r"Both answer (.+?)\. |Both give the same answer(, written .+? and .+?)?\.", f"{said} "):
        assert left.stated == right.stated or are_same
        assert same[1] is None or left.stated == right.stated == same[1] and len(same[1]) <= SHORT_CHARS
        unread = unread.replace(same[0].strip(), "")
    if other := re.search(r"(?:They answer|Their answers differ:) (.+?) and (.+?)\. ", f"{said} "):
        assert (other[1], other[2]) == (left.stated, right.stated) and left.stated != right.stated and not are_same
        unread = unread.replace(other[0].strip(), "")
    rest = re.sub(r"at about the same length|Both reasoned|and|[,;. ]", "", unread)
    assert rest == "", f"a sentence that nobody checks: {rest!r} of {said!r}"


def asked(adapter: str | None, temperature: float = 0.0) -> Request:
    return Request(Image.new("RGB", (28, 28)), "How many?", adapter=adapter, temperature=temperature)


def test_sides_are_called_what_they_are() -> None:
    assert names_of((asked(None), asked("mine"))) == ("the base", "mine")
    assert names_of((asked(None), asked(None, 0.7))) == ("the base at temperature 0", "the base at temperature 0.7")
    assert names_of((asked("a"), asked("b"))) == ("a", "b")
