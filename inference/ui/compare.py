"""The Compare tab: the same question to the base and to the fine-tuned model, in one batch, side by side."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from inference.adapters.record import BASE_NAME
from inference.common.errors import UserError
from inference.common.settings import Settings
from inference.server.service import Question, Service
from inference.server.submission import Submission
from inference.server.visitors import Visitor, is_on_space
from inference.ui.answering import EVENT, Answering, Panel
from inference.ui.compare_words import describe
from inference.ui.inputs import Inputs
from inference.ui.recorded import recorded_html
from inference.ui.view import CompletionState, View

BASE_HINT = "The model without the adapter. Both get the same picture, question and seed, in one batch."
TUNED_HINT = "The same model with the adapter that training made."


@dataclass(frozen=True)
class CompareTab:
    """The tab's parts that change while the app runs."""

    inputs: Inputs
    missing: gr.HTML
    """What is missing for a comparison, and a recorded example; shown in the place of `columns`."""
    columns: gr.Row

    @property
    def states(self) -> list[gr.HTML | gr.Row]:
        """The components that `state_updates` is for."""
        return [self.missing, self.columns]

    def state_updates(self, service: Service) -> list[dict[str, object]]:
        """Updates that show the one or the other."""
        is_missing = lacks_adapter(service)
        return [gr.update(visible=is_missing), gr.update(visible=not is_missing)]


def build_compare(service: Service) -> CompareTab:
    """Build the tab and wire its buttons."""
    is_missing = lacks_adapter(service)
    missing = gr.HTML(missing_html(service), visible=is_missing, js_on_load=None, elem_id="compare-missing")
    with gr.Row(visible=not is_missing, elem_classes="lt-columns") as columns:
        with gr.Column(scale=5, min_width=300, elem_classes="lt-left"):
            inputs = Inputs(service, "compare", "Compare", base_alone=False)
        with gr.Column(scale=8, min_width=300, elem_classes="lt-right"):
            with gr.Row(elem_classes="lt-pair"):
                with gr.Column(min_width=240, elem_classes="lt-card"):
                    base = Panel("compare-base", "Base", BASE_HINT)
                with gr.Column(min_width=240, elem_classes="lt-card"):
                    tuned = Panel("compare-tuned", "Fine-tuned", TUNED_HINT)
            words = gr.HTML(js_on_load=None, elem_classes="lt-words", elem_id="compare-words")
    answering = Answering(service, [base, tuned], inputs.run, inputs.stop)

    def compare_on_page(request: gr.Request, *values: object) -> Iterator[list[object]]:
        def submit(visitor: Visitor) -> tuple[Submission, Question]:
            question = service.read_question(*values)  # type: ignore[arg-type]
            return submit_pair(service, question, visitor), question

        for frame in answering.stream(submit, request):
            engine = service.queue.engine
            base_view, tuned_view = frame.views
            penalty = engine.repetition_penalty if engine else 1.0
            yield [*frame.updates, words_html(base_view, tuned_view, penalty)]

    inputs.run.click(compare_on_page, inputs.question_inputs, [*answering.outputs, words], **EVENT)
    inputs.wire(answering, [words], [""])
    return CompareTab(inputs, missing, columns)


def lacks_adapter(service: Service) -> bool:
    """True if the model is loaded and there is no adapter to compare it with."""
    return service.queue.engine is not None and not service.offer.records


def missing_words(settings: Settings, on_space: bool) -> str:
    """Sentences on what a comparison lacks in this deployment, and who can add it."""
    base = "the starter" if settings.is_starter else settings.base
    owner = "The owner of this Space" if on_space else "Whoever runs this app"
    if settings.training.trainer == "job":
        where = f"as a Job on {settings.training.job_hardware}"
    else:
        where = f"on the Space's own {settings.space.hardware}" if on_space else "on this machine"
    return (
        f"Here {base} answers without an adapter so far, so there is nothing to compare it with. "
        f"{owner} can train one under Train, {where}, or take one from the Hub there, under Adapters. It answers from "
        "then on, without a restart."
    )


def missing_html(service: Service) -> str:
    """The sentences, and the recorded example."""
    words = html.escape(missing_words(service.settings, is_on_space()))
    return (
        f'<section class="lt-missing"><h2>There is no fine-tuned model here yet</h2><p>{words}</p></section>'
        f"{recorded_html()}"
    )


def submit_pair(service: Service, question: Question, visitor: Visitor) -> Submission:
    """Base and fine-tuned model with the same question, as one batch in the queue."""
    if not service.offer.records:
        raise UserError(missing_words(service.settings, is_on_space()))
    if question.adapter is None:
        raise UserError(
            f"{BASE_NAME!r} is not an adapter: Compare shows an adapter beside the base. Choose one under More."
        )
    return service.queue.submit([question.request(None), question.request(question.adapter)], visitor)


def words_html(base: View, tuned: View, penalty: float) -> str:
    """The sentences on the differences, once both have ended and neither failed, and the base's penalty."""
    if (
        base.is_running
        or tuned.is_running
        or {CompletionState.FAILED, CompletionState.IDLE} & {base.state, tuned.state}
    ):
        return ""
    asked = f" Both were asked with the base's repetition penalty, {penalty:g}." if penalty != 1 else ""
    return f'<p class="lt-difference">{html.escape(describe(base, tuned) + asked)}</p>'
