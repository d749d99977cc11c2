"""The state of one completion on the page, its two parts, its figures, and the words for them.

Pure functions over plain data; `answering` puts the result on the page and `api` into JSON.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from inference.model.known_pictures import unknown_warning
from inference.prompt.format import FEW_WORDS, TAGS, ParsedCompletion, parse_completion, stated_answer
from inference.server.service import Verdict


class CompletionState(StrEnum):
    """The states of a completion; the page always shows one."""

    IDLE = "idle"
    WAITING = "waiting"
    THINKING = "thinking"
    ANSWERING = "answering"
    DONE = "done"
    CUT_OFF = "cut off"
    STOPPED = "stopped"
    FAILED = "failed"


RUNNING = (CompletionState.WAITING, CompletionState.THINKING, CompletionState.ANSWERING)
_TITLES = {
    CompletionState.IDLE: "Ready",
    CompletionState.WAITING: "Looking at the picture…",
    CompletionState.THINKING: "Thinking…",
    CompletionState.ANSWERING: "Answering…",
    CompletionState.DONE: "Done",
    CompletionState.CUT_OFF: "Cut off",
    CompletionState.STOPPED: "Stopped",
    CompletionState.FAILED: "Failed",
}


@dataclass(frozen=True)
class View:
    """One completion as the page shows it now."""

    state: CompletionState = CompletionState.IDLE
    text: str = ""
    """The completion with its tags."""
    ahead: int = 0
    """Questions answered before this one, while it waits."""
    is_loading: bool = False
    """True while it waits for the model to be loaded."""
    num_tokens: int = 0
    seconds: float = 0.0
    thought_tokens: int = 0
    """Tokens until the answer began; 0 if there was no thought or it goes on."""
    thought_seconds: float = 0.0
    picture_distance: float | None = None
    """Of the picture from those that the base knows, in units of the limit; `None` where that is unknown."""
    temperature: float = 0.0
    seed: int = 0
    verdict: Verdict | None = None
    contradiction: str = ""
    """A sentence on a thought and an answer that contradict each other; else empty."""
    message: str = ""
    """The error in words for the user; empty if another panel shows it."""

    @property
    def thinking(self) -> str:
        """The text between the tags; the page shows `reasoning`."""
        return self._parsed.thinking

    @property
    def answer(self) -> str:
        """The answer by the tags; the page shows `stated`."""
        return self._parsed.answer

    @property
    def reasoning(self) -> str:
        """All that stands before the answer, between the tags or without them."""
        return self._parts[0]

    @property
    def stated(self) -> str:
        """The answer; of a text without tags, what it states last."""
        return self._parts[1]

    @property
    def reasons_in_tags(self) -> bool:
        """True if there is reasoning and it stands in its tags."""
        return bool(self.thinking) and ("<think>" in self.text or "</think>" in self.text)

    @property
    def well_formed(self) -> bool:
        return self._parsed.well_formed

    @property
    def answer_tagged(self) -> bool:
        return self._parsed.answer_tagged

    @property
    def tokens_per_second(self) -> float:
        return self.num_tokens / self.seconds if self.seconds else 0.0

    @property
    def unknown(self) -> str:
        """A sentence where the picture is unlike all that the base knows; else empty."""
        return unknown_warning(self.picture_distance)

    @property
    def is_running(self) -> bool:
        return self.state in RUNNING

    @cached_property
    def _parsed(self) -> ParsedCompletion:
        return parse_completion(self.text, final=not self.is_running)

    @cached_property
    def _parts(self) -> tuple[str, str]:
        """Reasoning and answer. While a text without tags has few words, it may become either and is neither."""
        if any(tag in self.text for tag in TAGS):
            return self.thinking, self.answer
        if self.is_running and len(self.answer.split()) <= FEW_WORDS:
            return "", ""
        return stated_answer(self.answer, self.state == CompletionState.DONE)


def figures(tokens: int, seconds: float) -> str:
    """Time, tokens and speed with their units.

    >>> figures(163, 3.13)
    '3.1 s · 163 tokens · 52 tokens/s'
    """
    time = f"{seconds:.2f} s" if seconds < 0.95 else f"{seconds:.1f} s"
    speed = f" · {tokens / seconds:.0f} tokens/s" if seconds else ""
    return f"{time} · {tokens:,} {'token' if tokens == 1 else 'tokens'}{speed}"


def thought_title_html(view: View) -> str:
    """The title of the reasoning, and the button that the page shows where it is long."""
    return (
        f'<div class="lt-thought-title"><span>{thought_title(view)}</span><button type="button" class="lt-unfold">'
        '<span class="lt-all">Show all</span><span class="lt-less">Show less</span></button></div>'
    )


def thought_title(view: View) -> str:
    """The title of the reasoning."""
    if view.reasoning and not view.reasons_in_tags:
        return "Reasoning (without the tags)"
    if view.state == CompletionState.THINKING:
        return "Thinking…"
    if view.thought_seconds:
        return f"Thought for {figures(view.thought_tokens, view.thought_seconds)}"
    return "Thought" if view.stated or view.is_running else "Thought, unfinished"


def status_html(view: View) -> str:
    """The state in words, announced to screen readers, and the figures once the completion has ended."""
    title = _TITLES[view.state]
    if view.state == CompletionState.WAITING and view.is_loading:
        title = "Waiting · the model is still loading"
    elif view.state == CompletionState.WAITING and view.ahead:
        title = f"Waiting · {view.ahead} {'question' if view.ahead == 1 else 'questions'} ahead"
    numbers = "" if view.is_running or not view.num_tokens else figures(view.num_tokens, view.seconds)
    slug = view.state.value.replace(" ", "-")
    return (
        f'<div class="lt-status" data-state="{slug}"><span class="lt-state" role="status">'
        f'<span class="lt-dot" aria-hidden="true"></span>{title}</span><span class="lt-figures">{numbers}</span></div>'
    )


def notes_html(view: View, can_continue: bool = True) -> str:
    """The lines below the answer: verdict, format check, what to do if the completion did not end by itself, the seed.

    `data-answer` has the answer as it was written, for the button that copies it. `can_continue`: Continue is on the
    page.
    """
    if view.is_running or view.state == CompletionState.IDLE:
        return ""
    if view.state == CompletionState.FAILED:
        error = f'<p class="lt-note lt-bad" role="alert">{html.escape(view.message)}</p>'
        return f'<div class="lt-notes">{error}</div>' if view.message else ""
    verdict = "" if view.verdict is None else _verdict_html(view.verdict)
    if view.state == CompletionState.CUT_OFF:
        remedy = "Press Continue to go on from here, or raise" if can_continue else "To have more, raise"
        note = (
            f'<p class="lt-note lt-warn">Cut off: the length limit was reached after {view.num_tokens:,} tokens. '
            f"{remedy} the limit under More.</p>"
        )
    elif view.state == CompletionState.STOPPED:
        note = '<p class="lt-note">You stopped this one. The text so far stays.</p>'
    elif view.well_formed:
        note = '<p class="lt-note lt-quiet">Format kept: one thought, then one answer.</p>'
    else:
        note = (
            '<p class="lt-note lt-quiet">Format not kept: the tags for thought and answer are missing or out of '
            "place.</p>"
        )
    if view.contradiction:
        note = f'<p class="lt-note lt-warn">{html.escape(view.contradiction)} They contradict each other.</p>{note}'
    if view.temperature:
        note += f'<p class="lt-note lt-quiet">Sampled at temperature {view.temperature:g} with seed {view.seed}.</p>'
    return f'<div class="lt-notes" data-answer="{html.escape(view.stated)}">{verdict}{note}</div>'


def unknown_html(view: View) -> str:
    """The sentence on an unknown picture, which stands where a known one has its answer, and a lead to the answer."""
    return f'<p class="lt-unknown">{html.escape(view.unknown)}</p><p class="lt-hint">It answers all the same:</p>'


def empty_answer(view: View) -> str:
    """The hint in the answer's place while there is no answer."""
    if view.state in (CompletionState.CUT_OFF, CompletionState.STOPPED):
        return "No answer yet."
    return "The model gave no answer." if view.state == CompletionState.DONE else ""


def _verdict_html(verdict: Verdict) -> str:
    sign, words, kind = ("✓", "Correct", "good") if verdict.correct else ("✗", "Not correct", "bad")
    expected = html.escape(verdict.gold)
    return f'<p class="lt-badge lt-{kind}"><span aria-hidden="true">{sign}</span> {words} (expected {expected})</p>'
