"""The Compare tab: the same question to the base and to the fine-tuned model, in one batch, side by side."""

from __future__ import annotations

import html
from collections.abc import Iterator

import gradio as gr

from inference.adapters.record import BASE_NAME
from inference.common.errors import UserError
from inference.server.queue import Submission
from inference.server.service import Question, Service
from inference.server.visitors import Visitor
from inference.ui.answering import EVENT, Answering, Panel
from inference.ui.inputs import Inputs
from inference.ui.view import CompletionState, View

NO_ADAPTER = (
    "There is no fine-tuned model yet, so there is nothing to compare the base with. The owner can train one under "
    "Train, or serve one from the Hub there (Adapters); it answers here without a restart."
)
BASE_HINT = "The model without the adapter. Both get the same picture, question and seed, in one batch."
TUNED_HINT = "The same model with the adapter that training made."
MUCH_LONGER = 1.3
"""A thought is called longer from this ratio of tokens on."""


def build_compare(service: Service) -> Inputs:
    """Build the tab and wire its buttons; returns its inputs."""
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
    answering = Answering(service, [base, tuned], inputs.run, inputs.stop)

    def compare_on_page(request: gr.Request, *values: object) -> Iterator[list[object]]:
        def submit(visitor: Visitor) -> tuple[Submission, Question]:
            question = service.read_question(*values)  # type: ignore[arg-type]
            return submit_pair(service, question, visitor), question

        for frame in answering.stream(submit, request):
            yield [*frame.updates, _words_html(*frame.views)]

    inputs.run.click(compare_on_page, inputs.question_inputs, [*answering.outputs, words], **EVENT)
    inputs.wire(answering, [words], [""])
    return inputs


def submit_pair(service: Service, question: Question, visitor: Visitor) -> Submission:
    """Base and fine-tuned model with the same question, as one batch in the queue."""
    if not service.offer.records:
        raise UserError(NO_ADAPTER)
    if question.adapter is None:
        raise UserError(
            f"{BASE_NAME!r} is not an adapter: Compare shows an adapter beside the base. Choose one under More."
        )
    return service.queue.submit([question.request(None), question.request(question.adapter)], visitor)


def describe(base: View, tuned: View) -> str:
    """One to four plain sentences on the base's completion beside the fine-tuned model's.

    >>> done = CompletionState.DONE
    >>> describe(View(done, "7"), View(done, "<think>3 + 4 = 7.</think> <answer>8</answer>"))[:45]
    'Only the fine-tuned model reasoned in the tag'
    """
    sentences = [_thoughts(base, tuned), _answers(base, tuned), _formats(base, tuned)]
    return " ".join(sentence for sentence in sentences if sentence)


def _words_html(base: View, tuned: View) -> str:
    """The sentences on the differences, once both have ended and neither failed."""
    if (
        base.is_running
        or tuned.is_running
        or {CompletionState.FAILED, CompletionState.IDLE} & {base.state, tuned.state}
    ):
        return ""
    return f'<p class="lt-difference">{html.escape(describe(base, tuned))}</p>'


def _thoughts(base: View, tuned: View) -> str:
    if base.thinking and tuned.thinking:
        base_tokens, tuned_tokens = (view.thought_tokens or view.num_tokens for view in (base, tuned))
        if tuned_tokens > base_tokens * MUCH_LONGER:
            return f"Both reasoned first, the fine-tuned model longer: {tuned_tokens:,} tokens to {base_tokens:,}."
        if base_tokens > tuned_tokens * MUCH_LONGER:
            return f"Both reasoned first, the base longer: {base_tokens:,} tokens to {tuned_tokens:,}."
        return "Both reasoned first, at about the same length."
    if tuned.thinking:
        return "Only the fine-tuned model reasoned in the tags."
    if base.thinking:
        return "Only the base reasoned in the tags."
    return "Neither reasoned in the tags."


def _answers(base: View, tuned: View) -> str:
    if base.verdict is not None and tuned.verdict is not None:
        are_correct = base.verdict.correct, tuned.verdict.correct
        return _of_both(*are_correct, "Both are correct.", "Only the {} is correct.", "Neither is correct.")
    has_ended = [view.state == CompletionState.DONE for view in (base, tuned)]
    if not all(has_ended):
        if not any(has_ended):
            return "Neither came to its end."
        return f"The {'fine-tuned model' if has_ended[0] else 'base'} did not come to its end."
    if base.answer == tuned.answer:
        return f"Both answer {base.answer}." if len(base.answer) <= 40 else "Both give the same answer."
    return "Their answers differ."


def _formats(base: View, tuned: View) -> str:
    if base.state != CompletionState.DONE or tuned.state != CompletionState.DONE:
        return ""
    words = "Both kept the format.", "Only the {} kept the format.", "Neither kept the format."
    return _of_both(base.well_formed, tuned.well_formed, *words)


def _of_both(base: bool, tuned: bool, both: str, one: str, neither: str) -> str:
    """The sentence for both, for only one of the two, or for neither."""
    if base != tuned:
        return one.format("base" if base else "fine-tuned model")
    return both if base else neither
