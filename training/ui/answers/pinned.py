"""Pinned questions in Adapters: the fold where they are kept, and what two adapters said to them, in a table."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr
from gradio.components import Component

from inference.adapters.catalog import Version
from inference.common.html import escape
from inference.ui.answering import failed
from inference.ui.components import Picture
from training.learn.pinned import MAX_QUESTIONS, Asked, Pinned, PinnedQuestions, PinnedResult, Said
from training.ui.base.context import Context
from training.ui.base.html import iso_html, picture_uri

ASKING = '<p class="lt-quiet" role="status">The pinned questions are being asked…</p>'
PICTURE_PIXELS = 120
"""The longer side of a picture in the list."""
_NONE = (
    '<p class="lt-quiet">None yet. Pin questions that must go on being answered right: with each promotion they are '
    "put to the adapter before and to the new one.</p>"
)
_CLEAR = "() => [null, '', '']"
_CHANGES = {"broke": "bad", "mended": "good", "same": "quiet"}


class PinnedPanel:
    """The fold, and what is asked and kept behind it."""

    def __init__(self, context: Context, buttons: str) -> None:
        """`buttons` is the JavaScript that sends the clicks on buttons in the list."""
        self._context = context
        self.questions = PinnedQuestions(context.settings.home, context.settings.limits)
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
                    gold = gr.Textbox(label="Right answer", max_length=1_000, max_lines=1, elem_id="pinned-gold")
                    self.add = gr.Button("Pin this question", elem_id="pinned-add")
            self.list = gr.HTML(js_on_load=buttons, elem_id="pinned-list")
        self.fields: list[Component] = [picture, question, gold]

    def clear_after(self, added: gr.events.Dependency) -> None:
        """Empty the fields once a question was added."""
        added.success(None, None, self.fields, js=_CLEAR, api_visibility="private")

    def list_html(self) -> str:
        """All pinned questions."""
        found = self.questions.all()
        if not found:
            return _NONE
        items = "".join(map(self._item, found))
        return f'<p class="lt-quiet">{len(found)} of at most {MAX_QUESTIONS}</p><ul class="lt-pinned">{items}</ul>'

    def results(self) -> dict[str, str]:
        """By an adapter's name, what was said when it was asked last, as HTML for its card."""
        return {name: card_html(name, result) for name, result in self.questions.results().items()}

    def found_html(self, before: Asked, new: Asked) -> str:
        """Ask both; the answers in a table, or the reason why there are none, in words."""
        try:
            result = self.questions.ask(self._context.queue, before, new)
        except Exception as error:  # whatever the engine fails with: the adapter is promoted already
            words = escape(failed(error).message, 600)
            return f'<p class="lt-note lt-warn" role="alert">The pinned questions were not answered. {words}</p>'
        return f'<div role="status">{_sentence(result)}</div>{table_html(new.name, result)}'

    def _item(self, one: Pinned) -> str:
        uri = picture_uri(self.questions.picture(one), PICTURE_PIXELS)
        picture = f'<img src="{uri}" alt="">' if uri else '<p class="lt-quiet">The picture cannot be read.</p>'
        question = escape(one.question)
        return (
            f"<li>{picture}<div><p>{question}</p><p class='lt-quiet'>Right answer: <b>{escape(one.gold, 400)}</b></p>"
            f'<p class="lt-own-acts"><button type="button" class="lt-act" data-act="unpin" data-adapter="{one.key}" '
            f'aria-label="Remove the pinned question: {escape(one.question, 100)}">Remove</button></p></div></li>'
        )


def asked_pair(version: Version, versions: Sequence[Version], before: str | None) -> tuple[Asked, Asked]:
    """The adapter to compare with, and the version: beside the served one, and the served one beside the one `before`
    it; without one, beside the base alone."""
    name = before if version.is_served else next((one.name for one in versions if one.is_served), None)
    other = next((one for one in versions if one.name == name), None)
    return Asked(other.name, other.path) if other else Asked("the base alone", None), Asked(version.name, version.path)


def card_html(name: str, result: PinnedResult) -> str:
    """The fold on an adapter's card."""
    words = f"Pinned questions: {result.count('broke')} of {len(result.rows)} broke"
    return (
        f'<details class="lt-fold" data-key="{escape(name, 120)} pinned"><summary>{words}</summary>'
        f"{_sentence(result)}{table_html(name, result)}</details>"
    )


def table_html(name: str, result: PinnedResult) -> str:
    """Each question with both answers."""
    rows = "".join(
        f'<tr><th scope="row">{escape(row.question, 600)}</th><td>{escape(row.gold, 200)}</td>'
        f"{_said_html(row.before)}{_said_html(row.new)}"
        f'<td class="lt-{_CHANGES[row.change]}">{row.change}</td></tr>'
        for row in result.rows
    )
    heads = ("Question", "Right answer", f"Before: {result.before}", f"Now: {name}", "")
    head = "".join(f'<th scope="col">{escape(one, 140) or "Change"}</th>' for one in heads)
    return (
        '<div class="lt-table lt-pinned-table" tabindex="0" role="group" aria-label="Answers to the pinned questions">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _said_html(said: Said) -> str:
    answer = escape(said.answer, 200) or '<span class="lt-quiet">no answer</span>'
    return f"<td>{answer} <small>{'right' if said.right else 'wrong'}</small></td>"


def _sentence(result: PinnedResult) -> str:
    """The counts first."""
    total, right = len(result.rows), sum(row.new.right for row in result.rows)
    return (
        f"<p><b>{result.count('broke')} of {total} broke</b>, {result.count('mended')} mended, against "
        f"{escape(result.before, 120)}; {right} of {total} are right now. Asked {iso_html(result.at)}.</p>"
    )
