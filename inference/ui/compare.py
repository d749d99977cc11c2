"""The Compare tab: the same question to the base and to the fine-tuned model, in one batch, side by side."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import gradio as gr

from inference.adapters.record import BASE_NAME
from inference.common.errors import UserError
from inference.server.queue import Submission
from inference.server.service import Question, Service
from inference.server.visitors import Visitor
from inference.ui.answering import Exchange
from inference.ui.ask import EVENT
from inference.ui.asking import asker_of
from inference.ui.differences import describe
from inference.ui.inputs import Inputs
from inference.ui.panel import Panel
from inference.ui.view import State, View

NO_ADAPTER = (
    "There is no fine-tuned model yet, so there is nothing to compare the base with. Train one with make train; "
    "its adapter then answers here."
)
BASE_HINT = "The model as it came. Both get the same picture, question and seed, in one batch."
TUNED_HINT = "The same model with the adapter that training made; where there is none yet, make train makes one."


def build_compare(service: Service) -> Inputs:
    """The tab's contents and what its buttons do; returns its inputs."""
    with gr.Row(elem_classes="lt-columns"):
        with gr.Column(scale=5, min_width=300, elem_classes="lt-left"):
            inputs = Inputs(service, "compare", "Compare", base_alone=False)
        with gr.Column(scale=8, min_width=300, elem_classes="lt-right"):
            with gr.Row(elem_classes="lt-pair"):
                with gr.Column(min_width=240, elem_classes="lt-card"):
                    base = Panel("compare-base", "Base", BASE_HINT)
                with gr.Column(min_width=240, elem_classes="lt-card"):
                    tuned = Panel("compare-tuned", "Fine-tuned", TUNED_HINT)
            words = gr.HTML(js_on_load=None, elem_classes="lt-words", elem_id="compare-words")
    exchange = Exchange(service, [base, tuned], inputs.run, inputs.stop)

    def compare_on_page(
        picture: str | None,
        question: str | None,
        expected: str | None,
        adapter: str | None,
        temperature: float | None,
        length: float | None,
        seed: float | None,
        request: gr.Request,
    ) -> Iterator[list[Any]]:
        asker = asker_of(request)

        def start() -> tuple[Submission, str]:
            service.queue.admit(asker)
            prompt = service.read_question(picture, question, expected, adapter, temperature, length, seed)
            return submit_pair(service, prompt, asker), prompt.expected

        for views, updates in exchange.run(start, request):
            yield [*updates, _words_html(*views)]

    inputs.run.click(compare_on_page, inputs.prompt, [*exchange.outputs, words], **EVENT)
    inputs.wire(exchange, [words], [""])
    return inputs


def submit_pair(service: Service, prompt: Question, asker: Visitor) -> Submission:
    """Base and fine-tuned model with the same prompt, as one batch in the line."""
    if not service.offer.records:
        raise UserError(NO_ADAPTER)
    if prompt.adapter is None:
        raise UserError(f"{BASE_NAME!r} is no adapter: Compare sets one beside the base. Choose one under More.")
    return service.queue.submit([prompt.request(None), prompt.request(prompt.adapter)], asker)


def _words_html(base: View, tuned: View) -> str:
    """The sentences on the differences, once both have ended and neither failed."""
    if base.is_running or tuned.is_running or {State.FAILED, State.IDLE} & {base.state, tuned.state}:
        return ""
    return f'<p class="lt-difference">{html.escape(describe(base, tuned))}</p>'
