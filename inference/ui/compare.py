"""The Compare tab: the same question to two models, or to one at two temperatures, in one batch, side by side."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, replace

import gradio as gr

from inference.adapters.record import BASE_NAME
from inference.common.errors import UserError
from inference.common.settings import Settings
from inference.model.request import Request
from inference.server.service import Grade, Question, Service
from inference.server.submission import Submission
from inference.server.visitors import Visitor, is_on_space
from inference.ui.answering import Answering, Panel, panel_title_html
from inference.ui.compare_words import NAMES, describe
from inference.ui.inputs import Inputs, asked_with
from inference.ui.probes.panel import Calibrated, Probes
from inference.ui.recorded import recorded_html
from inference.ui.view import CompletionState, View

LEFT_HINT = "The base, unless you choose another one. Both get the same picture, question and seed, in one batch."
RIGHT_HINT = (
    "The adapter that is served, unless you choose another one. The same on both sides: the left at temperature 0, the "
    "right at the one under More."
)


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


def build_compare(service: Service, calibration: Calibrated = lambda adapter, share: "") -> CompareTab:
    """Build the tab and wire its buttons."""
    is_missing = lacks_adapter(service)
    missing = gr.HTML(missing_html(service), visible=is_missing, js_on_load=None, elem_id="compare-missing")
    with gr.Row(visible=not is_missing, elem_classes="lt-columns") as columns:
        with gr.Column(scale=5, min_width=300, elem_classes="lt-left"):
            inputs = Inputs(service, "compare", "Compare", has_two_sides=True)
        with gr.Column(scale=8, min_width=300, elem_classes="lt-right"):
            with gr.Row(elem_classes="lt-pair"):
                with gr.Column(min_width=240, elem_classes="lt-card"):
                    base = Panel("compare-base", "Left", LEFT_HINT)
                with gr.Column(min_width=240, elem_classes="lt-card"):
                    tuned = Panel("compare-tuned", "Right", RIGHT_HINT)
            words = gr.HTML(js_on_load=None, elem_classes="lt-words", elem_id="compare-words")
            with gr.Row(elem_classes="lt-pair"):
                sides = [Probes(service, calibration, f"compare-{side}") for side in ("base", "tuned")]
    answering = Answering(service, [base, tuned], inputs.run, inputs.stop)

    def compare_on_page(request: gr.Request, left: object, *values: object) -> Iterator[list[object]]:
        names, asked = NAMES, [tuple[object, ...]()] * 2
        for side in sides:
            side.dismiss(request)

        def submit(visitor: Visitor) -> tuple[Submission, Question]:
            nonlocal names, asked
            for_owner = service.is_owner(request.cookies)
            question = service.read_question(*values, for_owner=for_owner)  # type: ignore[arg-type]
            pair = two_requests(question, service.adapter_named(left, for_owner))
            names = names_of(pair)
            asked = [asked_with(values, row.adapter, row.temperature) for row in pair]
            return service.queue.submit(pair, visitor), question

        for frame in answering.stream(submit, request):
            engine = service.queue.engine
            said = ""
            if engine and frame.question:
                left_view, right_view = frame.views
                grade = service.grader_of(frame.question)
                said = words_html(left_view, right_view, engine.repetition_penalty, names, grade)
            titles = [panel_title_html(_capital(name)) for name in names] if frame.question else [gr.skip()] * 2
            of_sides = zip(sides, frame.views, asked, map(_capital, names))
            probed = [update for side, view, own, name in of_sides for update in side.updates(view, own, name)]
            yield [*frame.updates, *titles, said, *probed]

    of_probes = [component for side in sides for component in side.outputs]
    outputs = [*answering.outputs, base.title, tuned.title, words, *of_probes]
    titles = [(base.title, panel_title_html("Left")), (tuned.title, panel_title_html("Right"))]
    emptied = [update for side in sides for update in side.emptied]
    inputs.wire(answering, compare_on_page, outputs, [*titles, (words, ""), *emptied])
    for side in sides:
        side.end_with(*inputs.replacing)
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


def two_requests(question: Question, left: str | None) -> tuple[Request, Request]:
    """The request to the adapter on the left (`None`: the base) and to the question's, which stands on the right.

    Where they are the same, the left one is asked at temperature 0. Raises `UserError` if that is no difference.
    """
    right = question.request(question.adapter)
    if left != question.adapter:
        return question.request(left), right
    if question.temperature == 0:
        name = BASE_NAME if left is None else left
        raise UserError(
            f"Both sides are {name!r} at temperature 0. Choose another one on the left or the right, or set a "
            "temperature above 0 under More: then the left is asked at 0 and the right at that."
        )
    return replace(right, temperature=0.0), right


def names_of(pair: tuple[Request, Request]) -> tuple[str, str]:
    """The names of the two sides in sentences."""
    names = ["the base" if row.adapter is None else row.adapter for row in pair]
    if names[0] == names[1]:
        names = [f"{name} at temperature {row.temperature:g}" for name, row in zip(names, pair)]
    return names[0], names[1]


def words_html(left: View, right: View, penalty: float, names: tuple[str, str], grade: Grade) -> str:
    """The sentences on the differences, once both have ended and neither failed, and the base's penalty."""
    if (
        left.is_running
        or right.is_running
        or {CompletionState.FAILED, CompletionState.IDLE} & {left.state, right.state}
    ):
        return ""
    are_done = left.state == right.state == CompletionState.DONE and left.stated and right.stated
    are_same = grade(left.stated, right.text).correct if are_done else None
    asked = f" Both were asked with the base's repetition penalty, {penalty:g}." if penalty != 1 else ""
    return f'<p class="lt-difference">{html.escape(describe(left, right, names, are_same) + asked)}</p>'


def _capital(name: str) -> str:
    """A side's name as a heading; the name of an adapter stays as it is."""
    return name[0].upper() + name[1:] if name.startswith("the ") else name
