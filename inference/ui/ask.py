"""The Ask tab: a picture or several, one question, one completion that thinks first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from inference.common.errors import UserError
from inference.server.service import Question, Service
from inference.server.submission import Submission
from inference.server.visitors import Visitor
from inference.ui.answering import EVENT, Answering, Frame, Panel
from inference.ui.inputs import Inputs
from inference.ui.view import CompletionState, View

HINT = (
    "Add a picture, or take one of the examples, and ask about it. The model thinks first; then its answer appears "
    'here.<br><span class="lt-keys">Ctrl + Enter asks, Esc stops.</span>'
)


@dataclass(frozen=True)
class CutOff:
    """The question and the completion that Continue goes on from."""

    question: Question
    view: View


def build_ask(service: Service) -> Inputs:
    """Build the tab and wire its buttons; returns its inputs."""
    with gr.Row(elem_classes="lt-columns"):
        with gr.Column(scale=5, min_width=300, elem_classes="lt-left"):
            inputs = Inputs(service, "ask", "Ask")
        with gr.Column(scale=8, min_width=300, elem_classes="lt-right"):
            with gr.Column(elem_classes="lt-card"):
                panel = Panel("ask-panel", "", HINT)
                resume = gr.Button("Continue", visible=False, elem_id="ask-continue", elem_classes="lt-continue")
    answering = Answering(service, [panel], inputs.run, inputs.stop)
    cut_off = gr.State(None, time_to_live=3600)

    def ask_on_page(request: gr.Request, *values: object) -> Iterator[list[object]]:
        def submit(visitor: Visitor) -> tuple[Submission, Question]:
            question = service.read_question(*values)  # type: ignore[arg-type]
            return service.queue.submit([question.request(question.adapter)], visitor), question

        yield from map(_updates, answering.stream(submit, request))

    def go_on(request: gr.Request, former: CutOff | None) -> Iterator[list[object]]:
        def submit(visitor: Visitor) -> tuple[Submission, Question]:
            if former is None:
                raise UserError("There is nothing to continue: the completion is no longer stored. Ask again.")
            again = former.question.request(former.question.adapter, prefix=former.view.text)
            return service.queue.submit([again], visitor), former.question

        yield from map(_updates, answering.stream(submit, request, former.view if former else None))

    outputs = [*answering.outputs, resume, cut_off]
    inputs.run.click(ask_on_page, inputs.question_inputs, outputs, **EVENT)
    resume.click(go_on, [cut_off], outputs, **EVENT)
    inputs.wire(answering, [resume, cut_off], [gr.update(visible=False), None])
    return inputs


def _updates(frame: Frame) -> list[object]:
    """Updates for the panel, the buttons, Continue and its state."""
    view, question = frame.views[0], frame.question
    is_cut_off = view.state == CompletionState.CUT_OFF and question is not None
    return [*frame.updates, gr.update(visible=is_cut_off), CutOff(question, view) if is_cut_off and question else None]
