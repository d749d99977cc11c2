"""The Ask tab: one picture, one question, one completion that thinks first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from inference.common.errors import UserError
from inference.server.queue import Submission
from inference.server.service import Question, Service
from inference.ui.answering import Exchange, Start
from inference.ui.asking import asker_of
from inference.ui.inputs import Inputs
from inference.ui.panel import Panel
from inference.ui.view import State, View

HINT = (
    "Add a picture, or take one of the examples, and ask about it. The model thinks first; then its answer stands "
    'here.<br><span class="lt-keys">Ctrl + Enter asks, Esc stops.</span>'
)
EVENT: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 32}
"""For events that decode: the page shows how they stand by itself, and the line orders them."""


@dataclass(frozen=True)
class CutOff:
    """What Continue goes on from."""

    prompt: Question
    view: View


def build_ask(service: Service) -> Inputs:
    """The tab's contents and what its buttons do; returns its inputs."""
    with gr.Row(elem_classes="lt-columns"):
        with gr.Column(scale=5, min_width=300, elem_classes="lt-left"):
            inputs = Inputs(service, "ask", "Ask")
        with gr.Column(scale=8, min_width=300, elem_classes="lt-right"):
            with gr.Column(elem_classes="lt-card"):
                panel = Panel("ask-panel", "", HINT)
                resume = gr.Button("Continue", visible=False, elem_id="ask-continue", elem_classes="lt-continue")
    exchange = Exchange(service, [panel], inputs.run, inputs.stop)
    cut_off = gr.State(None, time_to_live=3600)

    def ask_on_page(
        picture: str | None,
        question: str | None,
        expected: str | None,
        adapter: str | None,
        temperature: float | None,
        length: float | None,
        seed: float | None,
        request: gr.Request,
    ) -> Iterator[list[Any]]:
        prompts: list[Question] = []
        asker = asker_of(request)

        def start() -> tuple[Submission, str]:
            service.queue.admit(asker)
            prompts.append(service.read_question(picture, question, expected, adapter, temperature, length, seed))
            return service.queue.submit([prompts[0].request(prompts[0].adapter)], asker), prompts[0].expected

        yield from _run(exchange, start, prompts, request, None)

    def go_on(kept: CutOff | None, request: gr.Request) -> Iterator[list[Any]]:
        asker = asker_of(request)

        def start() -> tuple[Submission, str]:
            service.queue.admit(asker)
            if kept is None:
                raise UserError("There is nothing to continue: it is no longer kept. Ask again.")
            row = kept.prompt.request(kept.prompt.adapter, prefix=kept.view.text)
            return service.queue.submit([row], asker), kept.prompt.expected

        yield from _run(exchange, start, [kept.prompt] if kept else [], request, kept.view if kept else None)

    outputs = [*exchange.outputs, resume, cut_off]
    inputs.run.click(ask_on_page, inputs.prompt, outputs, **EVENT)
    resume.click(go_on, [cut_off], outputs, **EVENT)
    inputs.wire(exchange, [resume, cut_off], [gr.update(visible=False), None])
    return inputs


def _run(
    exchange: Exchange, start: Start, prompts: list[Question], request: gr.Request, earlier: View | None
) -> Iterator[list[Any]]:
    """Updates for the panel, the buttons, Continue and what it needs."""
    for views, updates in exchange.run(start, request, earlier):
        is_cut_off = views[0].state == State.CUT_OFF
        yield [*updates, gr.update(visible=is_cut_off), CutOff(prompts[0], views[0]) if is_cut_off else None]
