"""Pinned questions: the fold where they are kept, and what two adapters said with a promotion, as HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import gradio as gr
from gradio.components import Component
from PIL import Image

from inference.adapters.catalog import Version
from inference.common.errors import UserError
from inference.common.files import Json
from inference.common.html import escape
from inference.server.service import Question
from inference.ui.components import Picture
from inference.ui.view import CompletionState, View
from training.admin.access import Caller
from training.evaluation.measures.outside import ability_figures
from training.grading.grader import last_answer
from training.learn.asking import PromotionAsker, counts
from training.learn.pinned import MAX_QUESTIONS, Asked, Pinned, PinnedQuestions, PinnedRow, Said
from training.learn.promoted import ALONE, Answers
from training.ui.base.context import Context
from training.ui.base.guard import HIDDEN, Guard
from training.ui.base.html import iso_html, picture_uri

PICTURE_PIXELS = 120
"""The longer side of a picture in the list."""
_NONE = (
    '<p class="lt-quiet">None yet. Pin questions that must go on being answered right: with each promotion they are '
    "put to the adapter before and to the new one.</p>"
)
MAX_GOLD_CHARS = 1_000
_NO_ANSWER = (gr.update(visible=False), "", "", None)
_CLEAR = "() => [null, '', '']"
_CHANGES = {"broke": "bad", "not asked": "warn", "mended": "good", "same": "quiet"}


class PinnedPanel:
    """The fold, and what is asked and kept behind it."""

    def __init__(self, context: Context, buttons: str) -> None:
        """`buttons` is the JavaScript that sends the clicks on buttons in the list."""
        self.questions = context.asker.promoted.questions
        with gr.Accordion("Pinned questions", open=False, elem_id="adapters-pinned", elem_classes="lt-more"):
            with gr.Row(elem_classes="lt-columns"):
                with gr.Column(scale=5, min_width=240):
                    picture = Picture(
                        type="filepath", label="Picture", sources=["upload", "clipboard"], elem_id="pinned-picture"
                    )
                with gr.Column(scale=8, min_width=240):
                    question = gr.Textbox(
                        label="Question",
                        lines=3,
                        max_length=context.settings.limits.max_question_chars,
                        elem_id="pinned-question",
                    )
                    gold = gr.Textbox(
                        label="Right answer", max_length=MAX_GOLD_CHARS, max_lines=1, elem_id="pinned-gold"
                    )
                    self.add = gr.Button("Pin this question", elem_id="pinned-add")
            self.list = gr.HTML(js_on_load=buttons, elem_id="pinned-list")
        self.fields: list[Component] = [picture, question, gold]

    def clear_after(self, added: gr.events.Dependency) -> None:
        """Empty the fields once a question was added."""
        added.success(None, None, self.fields, js=_CLEAR, api_visibility="private")

    def list_html(self) -> str:
        """All pinned questions."""
        try:
            found = self.questions.all()
        except UserError as error:
            return f'<p class="lt-note lt-bad" role="alert">{escape(error, 600)}</p>'
        if not found:
            return _NONE
        items = "".join(map(self._item, found))
        return f'<p class="lt-quiet">{len(found)} of at most {MAX_QUESTIONS}</p><ul class="lt-pinned">{items}</ul>'

    def _item(self, one: Pinned) -> str:
        uri = picture_uri(self.questions.picture(one), PICTURE_PIXELS)
        picture = f'<img src="{uri}" alt="">' if uri else '<p class="lt-quiet">The picture cannot be read.</p>'
        question = escape(one.question, 4_000)
        return (
            f"<li>{picture}<div><p>{question}</p><p class='lt-quiet'>Right answer: <b>{escape(one.gold, 400)}</b></p>"
            f'<p class="lt-own-acts"><button type="button" class="lt-act" data-act="unpin" data-adapter="{one.key}" '
            f'aria-label="Remove the pinned question: {escape(one.question, 100)}">Remove</button></p></div></li>'
        )


class PinAnswer:
    """Pins the question that was just answered, under its answer in Ask; only the owner sees it, and can."""

    def __init__(self, questions: PinnedQuestions, guard: Guard, is_owner: Callable[[Mapping[str, str]], bool]) -> None:
        """`is_owner` tells by the cookies of a request; `guard` checks again when the button is pressed."""
        self._questions, self._is_owner = questions, is_owner
        with gr.Column(visible=False, elem_id="ask-pin") as column:
            gr.HTML(
                "<h2>Must this go on being answered right?</h2><p>Pinned, the question is put to every adapter that is "
                "promoted. Type its right answer; the expected one, or else the model's, stands there already.</p>",
                js_on_load=None,
            )
            with gr.Row(elem_classes="lt-tools"):
                gold = gr.Textbox(
                    label="Right answer", max_length=MAX_GOLD_CHARS, max_lines=1, min_width=160, elem_id="ask-pin-gold"
                )
                button = gr.Button("Pin", size="sm", min_width=0, elem_id="ask-pin-button")
            said = gr.HTML(js_on_load=None, elem_id="ask-pin-said")
        answered = gr.State(None, time_to_live=3600)
        self.outputs: list[Component] = [column, gold, said, answered]  # type: ignore[list-item]
        button.click(guard(self._pin), [answered, gold], said, trigger_mode="once", **HIDDEN)

    @property
    def emptied(self) -> list[tuple[Component, object]]:
        """The components with their updates while there is no answer."""
        return list(zip(self.outputs, _NO_ANSWER))

    def updates(self, request: gr.Request, view: View, question: Question | None) -> list[object]:
        """Updates for `outputs` once `view` is on the page; hidden for visitors, and where there are more pictures."""
        has_ended = view.state is CompletionState.DONE and question is not None and not question.more_images
        if not has_ended or not self._is_owner(request.cookies):
            return list(_NO_ANSWER)
        assert question is not None, "see above"
        gold = question.expected or last_answer(view.text)
        return [gr.update(visible=True), gold[:MAX_GOLD_CHARS], "", (question.image, question.question)]

    def _pin(self, caller: Caller, answered: tuple[Image.Image, str] | None, gold: object) -> str:
        if answered is None:
            raise UserError("The question is no longer stored. Ask it again, and pin it then.")
        self._questions.add(*answered, gold)
        num = len(self._questions.all())
        words = f"Pinned: {num} of at most {MAX_QUESTIONS}. They stand under Train → Adapters."
        return f'<p class="lt-note lt-good" role="status">{words}</p>'


def asked_pair(version: Version, versions: Sequence[Version], before: str | None) -> tuple[Asked, Asked]:
    """The adapter to compare with, and the version: beside the served one, and the served one beside the one `before`
    it; without one, beside the base alone."""
    name = before if version.is_served else next((one.name for one in versions if one.is_served), None)
    other = next((one for one in versions if one.name == name), None)
    return Asked(other.name, other.path) if other else Asked(ALONE, None), Asked(version.name, version.path)


class Told:
    """The answers that belong to promotions, as HTML: for the page after one, for the cards, and for a run's result."""

    def __init__(self, asker: PromotionAsker) -> None:
        self._asker = asker

    @property
    def is_running(self) -> bool:
        """True while answers are to come."""
        return self._asker.is_running

    def newest_html(self) -> str:
        """The state of the questions that are being asked, or else the answers to those that were asked last here."""
        asker = self._asker
        if name := asker.waiting:
            return (
                f'<p class="lt-note lt-warn" role="status">{escape(name, 120)} is not asked the pinned questions yet: '
                "the model does not answer just now. They are asked by themselves as soon as it does.</p>"
            )
        if asker.is_running:
            whom = escape(asker.asking, 120) or "The new adapter"
            words = f"{whom} is being asked what the one before it was asked, so that you see what broke…"
            return f'<p class="lt-quiet" role="status">{words}</p>{self._report(asker.asking)}'
        return self._report(asker.last)

    def cards(self, versions: Sequence[Version]) -> dict[str, str]:
        """By an adapter's name a fold with what was said when it was asked last."""
        results = self._asker.promoted.results()
        found = {one.name: (results[one.name], one.path) for one in versions if one.name in results}
        return {name: self._card(name, *about) for name, about in found.items()}

    def of(self, name: str) -> str:
        """The answers of an adapter when it was asked last; empty if it never was."""
        is_next = name in (self._asker.asking, self._asker.waiting)
        return self.newest_html() if is_next else self._report(name)

    def _report(self, name: str) -> str:
        answers = self._asker.promoted.results().get(name)
        if answers is None:
            return ""
        path = self._asker.promoted.folder(name)
        report = report_html(name, answers, self._asker.promoted.outside_of(Asked(name, path)))
        return f'<div role="status">{report}</div>' if report else ""

    def _card(self, name: str, answers: Answers, path: Path) -> str:
        report = report_html(name, answers, self._asker.promoted.outside_of(Asked(name, path)))
        if not report:
            return ""
        words = f"Pinned questions: {answers.count('broke')} of {len(answers.rows)} broke"
        if not answers.rows:
            words = "Pinned questions: not asked" if answers.trouble else "Outside the reward"
        return (
            f'<details class="lt-fold" data-key="{escape(name, 120)} pinned"><summary>{words}</summary>{report}'
            "</details>"
        )


def report_html(name: str, answers: Answers, outside: Json | None) -> str:
    """The counts, what broke first, each question with both answers, and what changed outside the reward."""
    parts = []
    if answers.trouble:
        parts.append(
            f'<p class="lt-note lt-warn">The pinned questions were not answered. {escape(answers.trouble, 600)} The '
            "button &ldquo;Ask the pinned questions&rdquo; on the adapter's card asks again.</p>"
        )
    elif answers.rows:
        broke, _, rest = counts(name, answers).partition(",")
        parts.append(f"<p><b>{broke}</b>,{escape(rest, 400)}. Asked {iso_html(answers.at)}.</p>")
        parts.append(table_html(name, answers))
    if outside is not None:
        sentence = escape(outside.get("sentence", ""), 1_000)
        parts.append(f"<p><b>Against the base.</b> {sentence}</p>{_outside_html(outside)}")
    elif answers.outside_trouble:
        parts.append(
            f'<p class="lt-quiet">Outside the reward it was not asked. {escape(answers.outside_trouble, 600)}</p>'
        )
    elif not answers.is_done:
        parts.append('<p class="lt-quiet">What else changed, outside the reward, is asked next…</p>')
    return "".join(parts)


def table_html(name: str, answers: Answers) -> str:
    """Each question with both answers, what broke first; on a phone each is a block."""
    heads = ("Change", "Question", "Right answer", f"Answer of {answers.before}", f"Answer of {name}")
    rows = "".join(_row_html(row, heads) for row in answers.ordered())
    head = "".join(f'<th scope="col">{escape(one, 140)}</th>' for one in heads)
    return (
        '<div class="lt-table lt-pinned-table" tabindex="0" role="group" aria-label="Answers to the pinned questions">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row_html(row: PinnedRow, heads: Sequence[str]) -> str:
    labels = [escape(one, 140) for one in heads]
    if row.trouble:
        said = f'<td colspan="2" data-head="Why">{escape(row.trouble, 600)}</td>'
    else:
        said = _said_html(row.before, labels[3]) + _said_html(row.new, labels[4])
    return (
        f'<tr><td class="lt-{_CHANGES[row.change]}">{row.change}</td><th scope="row">{escape(row.question, 600)}</th>'
        f'<td data-head="{labels[2]}">{escape(row.gold, 200)}</td>{said}</tr>'
    )


def _said_html(said: Said | None, label: str) -> str:
    answer = (said and escape(said.answer, 200)) or '<span class="lt-quiet">no answer</span>'
    return f'<td data-head="{label}">{answer} <small>{"right" if said and said.right else "wrong"}</small></td>'


def _outside_html(outside: Json) -> str:
    figures = ability_figures(outside)
    rows = "".join(
        f'<tr><th scope="row">It {escape(ability)}</th><td data-head="Base">{base}</td>'
        f'<td data-head="This adapter">{adapter}</td><td data-head="Change in points">{change}</td>'
        f'<td data-head="Rows">{num_rows}</td></tr>'
        for ability, num_rows, base, adapter, change in figures
    )
    heads = ("Outside the reward", "Base", "This adapter", "Change in points", "Rows")
    head = "".join(f'<th scope="col">{one}</th>' for one in heads)
    return (
        '<div class="lt-table lt-pinned-table" tabindex="0" role="group" aria-label="Outside the reward"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        if figures
        else ""
    )
