"""What one completion looks like at one moment: its state, its two parts, its figures, and the words for them.

Pure functions over plain data; `panel` puts the result on the page and `endpoints` into JSON.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from inference.prompt.format import parse_completion
from inference.server.service import Verdict


class State(StrEnum):
    """Where a completion stands; the page always says which."""

    IDLE = "idle"
    WAITING = "waiting"
    THINKING = "thinking"
    ANSWERING = "answering"
    DONE = "done"
    CUT_OFF = "cut off"
    STOPPED = "stopped"
    FAILED = "failed"


RUNNING = (State.WAITING, State.THINKING, State.ANSWERING)
_TITLES = {
    State.IDLE: "Ready",
    State.WAITING: "Looking at the picture…",
    State.THINKING: "Working it out…",
    State.ANSWERING: "Answering…",
    State.DONE: "Done",
    State.CUT_OFF: "Cut off",
    State.STOPPED: "Stopped",
    State.FAILED: "Failed",
}


@dataclass(frozen=True)
class View:
    """One completion as the page shows it now."""

    state: State = State.IDLE
    text: str = ""
    """The completion with its tags."""
    ahead: int = 0
    """How many questions are answered before this one, while it waits."""
    is_loading: bool = False
    """True while it waits for the model itself."""
    num_tokens: int = 0
    seconds: float = 0.0
    thought_tokens: int = 0
    """Tokens until the answer began; 0 if there was no thought or it goes on."""
    thought_seconds: float = 0.0
    verdict: Verdict | None = None
    message: str = ""
    """Why it failed, in words for the user; empty where they stand elsewhere."""

    @property
    def thinking(self) -> str:
        return self._parsed.thinking

    @property
    def answer(self) -> str:
        return self._parsed.answer

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
    def is_running(self) -> bool:
        return self.state in RUNNING

    @property
    def _parsed(self) -> Any:
        return parse_completion(self.text, final=not self.is_running)


def figures(tokens: int, seconds: float) -> str:
    """Time, tokens and speed with their units.

    >>> figures(163, 3.13)
    '3.1 s · 163 tokens · 52 tokens/s'
    """
    time = f"{seconds:.2f} s" if seconds < 0.95 else f"{seconds:.1f} s"
    speed = f" · {tokens / seconds:.0f} tokens/s" if seconds else ""
    return f"{time} · {tokens:,} {'token' if tokens == 1 else 'tokens'}{speed}"


def thought_title(view: View) -> str:
    """The label of the thinking panel."""
    if view.state == State.THINKING:
        return "Thinking…"
    if view.thought_seconds:
        return f"Thought for {figures(view.thought_tokens, view.thought_seconds)}"
    return "Thought" if view.answer or view.is_running else "Thought, unfinished"


def status_html(view: View) -> str:
    """State in words, announced to screen readers, and at the end the figures."""
    title = _TITLES[view.state]
    if view.state == State.WAITING and view.is_loading:
        title = "Waiting · the model is still loading"
    elif view.state == State.WAITING and view.ahead:
        title = f"Waiting · {view.ahead} {'question' if view.ahead == 1 else 'questions'} ahead"
    numbers = "" if view.is_running or not view.num_tokens else figures(view.num_tokens, view.seconds)
    slug = view.state.value.replace(" ", "-")
    return (
        f'<div class="lt-status" data-state="{slug}"><span class="lt-state" role="status">'
        f'<span class="lt-dot" aria-hidden="true"></span>{title}</span><span class="lt-figures">{numbers}</span></div>'
    )


def notes_html(view: View) -> str:
    """Below the answer: verdict, format check, and what to do about a completion that did not end by itself."""
    if view.is_running or view.state == State.IDLE or view.state == State.FAILED and not view.message:
        return ""
    if view.state == State.FAILED:
        return f'<div class="lt-notes"><p class="lt-note lt-bad" role="alert">{html.escape(view.message)}</p></div>'
    parts = []
    if view.verdict is not None:
        parts.append(_verdict_html(view.verdict))
    if view.state == State.CUT_OFF:
        parts.append(
            f'<p class="lt-note lt-warn">Cut off: the length limit was reached after {view.num_tokens:,} tokens. '
            "Continue goes on from here; More has a higher limit.</p>"
        )
    elif view.state == State.STOPPED:
        parts.append('<p class="lt-note">You stopped this one. What it had written so far stays.</p>')
    else:
        parts.append(_format_html(view))
    return f'<div class="lt-notes">{"".join(parts)}</div>'


def empty_answer(view: View) -> str:
    """What stands in the answer's place while there is none."""
    if view.state in (State.CUT_OFF, State.STOPPED):
        return "No answer yet."
    return "The model gave no answer." if view.state == State.DONE else ""


def _verdict_html(verdict: Verdict) -> str:
    if verdict.correct:
        return '<p class="lt-badge lt-good"><span aria-hidden="true">✓</span> matches the expected answer</p>'
    expected = html.escape(verdict.gold)
    return f'<p class="lt-badge lt-bad"><span aria-hidden="true">✗</span> not the expected answer, {expected}</p>'


def _format_html(view: View) -> str:
    if view.well_formed:
        return '<p class="lt-note lt-quiet">Format kept: one thought, then one answer.</p>'
    what = "the tags for thought and answer are missing or out of place"
    return f'<p class="lt-note lt-quiet">Format not kept: {what}.</p>'
