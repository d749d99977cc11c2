"""The endpoints for `gradio_client`: `/ask` and `/compare`. Their names, parameters and results stay as they are.

client = Client("http://127.0.0.1:7860")
client.predict(image=handle_file("chart.png"), question="How high is bar B?", api_name="/ask")["answer"]
for result in client.submit(image="data:image/png;base64,…", question="How high is bar B?", api_name="/ask"):
    print(result["thinking"])     # as it grows; `state` says how far it is
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from inference.server.service import Question, Service
from inference.server.submission import Submission
from inference.server.visitors import Visitor
from inference.ui.answering import error_title, failed, visitor_of, watch
from inference.ui.compare import submit_pair
from inference.ui.components import MorePictures, Picture
from inference.ui.view import CompletionState, View

ASK_DOC = (
    "Asks one question about a picture. Returns a JSON object: thinking, answer, text (the completion with its tags), "
    "truncated (true if the token limit cut it off), num_tokens, seconds, tokens_per_second, well_formed (true if the "
    "format was kept), verdict (null without expected_answer or without an answer, else correct, expected, answer and "
    "rule), warning (a sentence if the picture is unlike all that the model knows, else null), adapter (null for the "
    "base), temperature, seed. adapter: a name, 'base' for the base alone, or null for the served one. temperature 0 "
    "is greedy. more_images: pictures after the first, in their order; the question may say where each of all pictures "
    "stands by as many marks <image>, else they come before it. A picture may also be a text, a data URI. The result "
    "streams: it comes again as it grows, and state is waiting, thinking or answering until it is done or cut off."
)
COMPARE_DOC = (
    "Asks base and fine-tuned model the same question in one batch. Takes the parameters of /ask and returns "
    '{"base": {…}, "tuned": {…}}, each as /ask gives it.'
)
Json = dict[str, object]
_DIRECT = re.compile(r"/gradio_api/(?:run|api)/")


def build_endpoints(service: Service) -> None:
    """Add both to the page, on invisible components."""
    with gr.Column(visible=False):
        inputs = [  # `read_question` does the checking
            Picture(type="filepath", label="image"),
            gr.Textbox(label="question", value=None),
            gr.Textbox(label="expected_answer", value=None),
            gr.Textbox(label="adapter", value=None),
            gr.Number(service.settings.limits.default_new_tokens, label="max_new_tokens"),
            gr.Number(0.0, label="temperature"),
            gr.Number(0, label="seed"),
            MorePictures(value=None, file_count="multiple", type="filepath", label="more_images"),
        ]
        result = gr.JSON(label="result")
        ask_button, compare_button = gr.Button(), gr.Button()

    def submit_one(question: Question, visitor: Visitor) -> Submission:
        return service.queue.submit([question.request(question.adapter)], visitor)

    def ask_result(views: list[View], question: Question) -> Json:
        return _as_json(views[0], question.adapter, question)

    def compare_result(views: list[View], question: Question) -> Json:
        return {"base": _as_json(views[0], None, question), "tuned": _as_json(views[1], question.adapter, question)}

    ask = _endpoint(service, submit_one, ask_result)
    compare = _endpoint(service, lambda question, visitor: submit_pair(service, question, visitor), compare_result)
    unlimited: dict[str, Any] = {"concurrency_limit": None}  # our queue orders and limits them
    ask_button.click(ask, inputs, result, api_name="ask", api_description=ASK_DOC, **unlimited)
    compare_button.click(compare, inputs, result, api_name="compare", api_description=COMPARE_DOC, **unlimited)


def _endpoint(
    service: Service,
    submit: Callable[[Question, Visitor], Submission],
    result: Callable[[list[View], Question], Json],
) -> Callable[..., Iterator[Json]]:
    """A handler with the parameters of an endpoint, whose names clients use; it yields the result as it grows."""

    def call(
        request: gr.Request,
        image: str | None,
        question: str | None,
        expected_answer: object = None,
        adapter: object = None,
        max_new_tokens: object = None,
        temperature: object = None,
        seed: object = None,
        more_images: list[str] | None = None,
    ) -> Iterator[Json]:
        try:
            visitor = visitor_of(request)
            with service.queue.admit(visitor):
                checked = service.read_question(
                    image, question, expected_answer, adapter, temperature, max_new_tokens, seed, more_images
                )
                submission = submit(checked, visitor)
            views: list[View] = []
            for views in watch(submission, checked.expected, service.grader_of(checked)):
                if _takes_a_stream(request):
                    yield result(views, checked)
            if not _takes_a_stream(request):
                yield result(views, checked)
        except Exception as error:  # of anything but a `UserError` the client learns only that it broke
            raise gr.Error(failed(error).message, title=error_title(error), print_exception=False) from None

    return call


def _takes_a_stream(request: gr.Request) -> bool:
    """False for a call without Gradio's queue (`/run/ask`), which is answered with the first result alone."""
    return request.request is None or not _DIRECT.search(request.request.url.path)


def _as_json(view: View, adapter: str | None, question: Question) -> Json:
    verdict = view.verdict
    return {
        "state": view.state.value,
        "thinking": view.thinking,
        "answer": view.answer,
        "text": view.text,
        "truncated": view.state == CompletionState.CUT_OFF,
        "num_tokens": view.num_tokens,
        "seconds": round(view.seconds, 4),
        "tokens_per_second": round(view.tokens_per_second, 2),
        "well_formed": view.well_formed,
        "verdict": None
        if verdict is None
        else {"correct": verdict.correct, "expected": verdict.gold, "answer": verdict.answer, "rule": verdict.rule},
        "warning": view.unknown or None,
        "adapter": adapter,
        "temperature": question.temperature,
        "seed": question.seed,
    }
