"""A completion on the page: its state, the thought that folds away, the answer, and the notes below it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from inference.ui import markup
from inference.ui.view import CompletionState, View, empty_answer, notes_html, status_html, thought_title


class Panel:
    """The components of one completion; make it inside a `gr.Blocks` context."""

    def __init__(self, name: str, title: str, hint: str) -> None:
        """`name` is the element id, `title` the heading if it needs one, `hint` the text before the first question."""
        self._hint = hint
        with gr.Column(elem_id=name, elem_classes="lt-panel", min_width=240):
            if title:
                gr.HTML(f'<h2 class="lt-panel-title">{title}</h2>', js_on_load=None)
            self.status = gr.HTML(status_html(View()), js_on_load=None)
            with gr.Accordion("Thinking…", open=True, visible=False, elem_classes="lt-thought") as self.thought:
                self.thinking = gr.Markdown(latex_delimiters=markup.LATEX_DELIMITERS, elem_classes="lt-thinking")
            self.answer = gr.Markdown(
                self._answer(View()), latex_delimiters=markup.LATEX_DELIMITERS, elem_classes="lt-answer"
            )
            self.notes = gr.HTML(js_on_load=None)
        self.components = [self.status, self.thought, self.thinking, self.answer, self.notes]

    def updates(self, view: View, fold: bool) -> list[object]:
        """Updates of the whole panel for `view`, in the order of `components`.

        The whole panel, because the page skips updates that come faster than it draws. With `fold` the thought is
        opened (while there is no answer) or folded; without, it stays as the user left it.
        """
        thought: dict[str, Any] = {"visible": bool(view.thinking), "label": thought_title(view)}
        if fold:
            thought["open"] = not view.answer
        return [
            status_html(view),
            gr.update(**thought),
            markup.render(view.thinking),
            self._answer(view),
            notes_html(view),
        ]

    def _answer(self, view: View) -> str:
        if view.answer and view.state != CompletionState.IDLE:
            return markup.render_answer(view.answer)
        hint = self._hint if view.state == CompletionState.IDLE else empty_answer(view)
        return f'<p class="lt-hint">{hint}</p>' if hint else ""
