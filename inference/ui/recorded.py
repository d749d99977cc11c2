"""A recorded example for Compare, while there is no adapter to compare with: `recorded.json`, shown as a page shows it.

`python -m tests.support.record_example` makes the file: it asks the shipped starter, with and without its adapter, and
keeps picture, question, completions, figures and verdicts as they came.
"""

from __future__ import annotations

import functools
import html
import json
from pathlib import Path

from pydantic import Field

from inference.common.validation import Strict
from inference.ui import markup
from inference.ui.compare_words import describe
from inference.ui.view import CompletionState, View, notes_html, status_html, thought_title

FILE = Path(__file__).with_name("recorded.json")


class RecordedVerdict(Strict):
    """The grader's verdict."""

    correct: bool
    gold: str
    answer: str
    rule: str


class RecordedCompletion(Strict):
    """One completion and its figures."""

    text: str
    num_tokens: int
    seconds: float
    thought_tokens: int
    thought_seconds: float
    verdict: RecordedVerdict

    @property
    def view(self) -> View:
        """As the page shows a completion that has ended."""
        return View(
            CompletionState.DONE,
            self.text,
            num_tokens=self.num_tokens,
            seconds=self.seconds,
            thought_tokens=self.thought_tokens,
            thought_seconds=self.thought_seconds,
            verdict=self.verdict,
        )


class RecordedExample(Strict):
    """The content of the file."""

    made_by: str
    """The command."""
    on: str
    """The day, as 2026-11-22."""
    model: str
    picture: str = Field(pattern=r"^data:image/png;base64,[A-Za-z0-9+/=]+$")
    question: str
    expected: str
    base: RecordedCompletion
    tuned: RecordedCompletion


@functools.cache
def recorded_example() -> RecordedExample:
    """The shipped one."""
    return RecordedExample.model_validate(json.loads(FILE.read_text(encoding="utf-8")))


@functools.cache
def recorded_html() -> str:
    """The example, marked as recorded: picture and question, then base and fine-tuned model side by side."""
    example = recorded_example()
    base, tuned = example.base.view, example.tuned.view
    question = html.escape(example.question)
    return (
        '<figure class="lt-recorded" aria-label="A recorded example">'
        f'<figcaption><span class="lt-badge">Recorded</span> This is how it looks: {html.escape(example.model)}, '
        f"asked on {html.escape(example.on)}. Nothing here is computed now, and another base answers otherwise."
        "</figcaption>"
        f'<div class="lt-recorded-question"><img src="{example.picture}" alt="The picture of the recorded example">'
        f'<div><p class="lt-quiet">Question</p><p>{question}</p></div></div>'
        f'<div class="lt-recorded-pair">{_side("Base", base)}{_side("Fine-tuned", tuned)}</div>'
        f'<p class="lt-difference">{html.escape(describe(base, tuned))}</p></figure>'
    )


@functools.cache
def recorded_answer_html(is_tuned: bool) -> str:
    """The completion with the adapter, or without, marked as recorded; its words come one after the other."""
    example = recorded_example()
    view = (example.tuned if is_tuned else example.base).view
    words = "".join(
        f'<span style="--n:{n}">{html.escape(word)} </span>' for n, word in enumerate(view.reasoning.split())
    )
    thought = f'<p class="lt-recorded-thought">{words}</p>' if words else ""
    return (
        '<figure class="lt-played" aria-label="A recorded answer"><figcaption><span class="lt-badge">Recorded</span> '
        f"{html.escape(example.model)}, asked on {html.escape(example.on)}.</figcaption>"
        f'<div class="lt-recorded-question"><img src="{example.picture}" alt="The picture of the recorded answer">'
        f'<p>{html.escape(example.question)}</p></div>{thought}<p class="lt-played-answer" '
        f'style="--n:{len(view.reasoning.split())}">{html.escape(view.stated)}</p></figure>'
    )


def _side(title: str, view: View) -> str:
    thought = ""
    if view.reasoning:
        thought = (
            f'<div class="lt-recorded-thought"><p class="lt-quiet">{html.escape(thought_title(view))}</p>'
            f"{markup.render(view.reasoning)}</div>"
        )
    return (
        f'<section class="lt-card lt-panel" aria-label="{title}, recorded"><h2 class="lt-panel-title">{title}</h2>'
        f'{status_html(view)}{thought}<div class="lt-answer"><div class="md">{markup.render_answer(view.stated)}</div>'
        f"</div>{notes_html(view)}</section>"
    )
