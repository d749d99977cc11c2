"""The endpoints for `gradio_client`: `/ask` and `/compare`. Their names, parameters and results stay as they are.

client = Client("http://127.0.0.1:7860")
client.predict(image=handle_file("chart.png"), question="How high is bar B?", api_name="/ask")["answer"]
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from inference.server.queue import Submission
from inference.server.service import Service
from inference.server.visitors import Visitor
from inference.ui.asking import asker_of, error_title
from inference.ui.compare import submit_pair
from inference.ui.components import Picture
from inference.ui.stream import failed, watch
from inference.ui.view import State, View

ASK_DOC = (
    "Asks one question about a picture. Returns a JSON object: thinking, answer, text (the completion with its tags), "
    "truncated (true if the token limit cut it off), num_tokens, seconds, tokens_per_second, well_formed (true if the "
    "format was kept), verdict (null without expected_answer or without an answer, else correct, expected, answer and "
    "rule), adapter (null for the base), temperature, seed. adapter: a name, 'base' for the base alone, or null for "
    "the served one. temperature 0 is greedy."
)
COMPARE_DOC = (
    "Asks base and fine-tuned model the same question in one batch. Takes the parameters of /ask and returns "
    '{"base": {…}, "tuned": {…}}, each as /ask gives it.'
)


def build_endpoints(service: Service) -> None:
    """Add both to the page, on components that nobody sees."""
    with gr.Column(visible=False):
        inputs = _components(service)
        result = gr.JSON(label="result")
        ask_button, compare_button = gr.Button(), gr.Button()

    def ask(
        request: gr.Request,
        image: Any,
        question: Any,
        expected_answer: Any = None,
        adapter: Any = None,
        max_new_tokens: Any = None,
        temperature: Any = None,
        seed: Any = None,
    ) -> dict[str, Any]:
        values = (image, question, expected_answer, adapter, temperature, max_new_tokens, seed)
        return _guarded(_ask, service, asker_of(request), *values)

    def compare(
        request: gr.Request,
        image: Any,
        question: Any,
        expected_answer: Any = None,
        adapter: Any = None,
        max_new_tokens: Any = None,
        temperature: Any = None,
        seed: Any = None,
    ) -> dict[str, Any]:
        values = (image, question, expected_answer, adapter, temperature, max_new_tokens, seed)
        return _guarded(_compare, service, asker_of(request), *values)

    ask_button.click(ask, inputs, result, api_name="ask", api_description=ASK_DOC, concurrency_limit=8)
    compare_button.click(compare, inputs, result, api_name="compare", api_description=COMPARE_DOC, concurrency_limit=8)


def _components(service: Service) -> list[Any]:
    """One component a parameter; what `read_question` checks is not checked by them."""
    return [
        Picture(type="filepath", label="image"),
        gr.Textbox(label="question", value=None),
        gr.Textbox(label="expected_answer", value=None),
        gr.Textbox(label="adapter", value=None),
        gr.Number(service.settings.limits.default_new_tokens, label="max_new_tokens"),
        gr.Number(0.0, label="temperature"),
        gr.Number(0, label="seed"),
    ]


def _ask(service: Service, asker: Visitor, *values: Any) -> dict[str, Any]:
    service.queue.admit(asker)
    prompt = service.read_question(*values)
    [view] = _result(service, service.queue.submit([prompt.request(prompt.adapter)], asker), prompt.expected)
    return _as_json(view, prompt.adapter, prompt.temperature, prompt.seed)


def _compare(service: Service, asker: Visitor, *values: Any) -> dict[str, Any]:
    service.queue.admit(asker)
    prompt = service.read_question(*values)
    base, tuned = _result(service, submit_pair(service, prompt, asker), prompt.expected)
    return {
        "base": _as_json(base, None, prompt.temperature, prompt.seed),
        "tuned": _as_json(tuned, prompt.adapter, prompt.temperature, prompt.seed),
    }


def _result(service: Service, job: Submission, expected: str) -> list[View]:
    """The last views of a job."""
    *_, views = watch(job, expected, service.grade)
    return views


def _as_json(view: View, adapter: str | None, temperature: float, seed: int) -> dict[str, Any]:
    verdict = view.verdict
    return {
        "thinking": view.thinking,
        "answer": view.answer,
        "text": view.text,
        "truncated": view.state == State.CUT_OFF,
        "num_tokens": view.num_tokens,
        "seconds": round(view.seconds, 4),
        "tokens_per_second": round(view.tokens_per_second, 2),
        "well_formed": view.well_formed,
        "verdict": None
        if verdict is None
        else {"correct": verdict.correct, "expected": verdict.gold, "answer": verdict.answer, "rule": verdict.rule},
        "adapter": adapter,
        "temperature": temperature,
        "seed": seed,
    }


def _guarded(work: Any, *values: Any) -> dict[str, Any]:
    """A client reads a `UserError`'s message; of anything else it learns only that it broke."""
    try:
        return work(*values)
    except Exception as error:  # whatever it was, the client gets words, and the log no question
        raise gr.Error(failed(error).message, title=error_title(error), print_exception=False) from None
