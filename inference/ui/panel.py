"""A completion on the page: its state, the thought that folds away, the answer, and what is to be said of it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from inference.ui import markup
from inference.ui.view import State, View, empty_answer, notes_html, status_html, thought_title


class Panel:
    """The components of one completion; make it inside a `gr.Blocks` context."""

    def __init__(self, name: str, title: str, hint: str) -> None:
        """`name` is the element id, `title` the heading if it needs one, `hint` what stands there at first."""
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

    def updates(self, view: View, before: View | None) -> list[Any]:
        """What turns the page from `before` (`None`: whatever it shows) into `view`, in the order of `components`."""
        new = self._contents(view)
        old = self._contents(before) if before is not None else [None] * len(new)
        changed = [value if value != earlier else gr.skip() for value, earlier in zip(new, old)]
        changed[1] = self._thought_update(view, before)
        return changed

    def _contents(self, view: View) -> list[str]:
        thinking = markup.render(view.thinking)
        return [status_html(view), thought_title(view), thinking, self._answer(view), notes_html(view)]

    def _answer(self, view: View) -> str:
        if view.state == State.IDLE:
            return f'<p class="lt-hint">{self._hint}</p>'
        if view.answer:
            return markup.render_answer(view.answer)
        missing = empty_answer(view)
        return f'<p class="lt-hint">{missing}</p>' if missing else ""

    def _thought_update(self, view: View, before: View | None) -> Any:
        """The thought opens when it begins and folds when the answer does; between, it stays as the user left it."""
        change: dict[str, Any] = {}
        if before is None or bool(before.thinking) != bool(view.thinking):
            change = {"visible": bool(view.thinking), "open": not view.answer}
        elif view.answer and not before.answer:
            change = {"open": False}
        if view.thinking and (change or before is None or thought_title(before) != thought_title(view)):
            change["label"] = thought_title(view)
        return gr.update(**change) if change else gr.skip()
