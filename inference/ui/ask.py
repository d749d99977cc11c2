"""The Ask tab: a picture or several, one question, one completion that thinks first, and the history of this visit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import gradio as gr

from inference.adapters.record import BASE_NAME
from inference.common.errors import UserError
from inference.server.service import MAX_SEED, Question, Service
from inference.server.submission import Submission
from inference.server.visitors import Visitor
from inference.ui.answering import EVENT, Answering, Frame, Panel
from inference.ui.inputs import Inputs
from inference.ui.probes.panel import Probes
from inference.ui.recorded import recorded_answer_html
from inference.ui.share.panel import Sharing
from inference.ui.view import CompletionState, View

HINT = (
    "Take an example, or add a picture and ask about it. The model thinks first; then its answer appears here."
    '<br><span class="lt-keys">Ctrl + Enter asks, Esc stops, Ctrl + V pastes a picture.</span>'
)
STARTER = (
    '<aside class="lt-notice lt-starter" aria-label="About the model that answers"><p>'
    '<span class="lt-long">A small starter model answers. It reads handwritten digits, bar charts, labelled rectangles '
    'and triangles, and coloured shapes; nothing else.</span><span class="lt-short">A small model: it reads pictures '
    'like these.</span></p><button type="button" class="lt-close" aria-label="Close this notice">×</button></aside>'
)
ADAPTER_FIELD = 3
"""The place of the adapter in `Inputs.question_inputs`."""
AGAIN_TEMPERATURE = 0.7
"""At temperature 0 another seed changes nothing, so Ask again takes this one."""
_KEEP = "(...values) => { window.lookthinkHistory?.keep(values); }"
_RESTORE = "() => window.lookthinkHistory.restored(%s)"
_HISTORY_JS = """
window.lookthinkHistory?.show(element, () => trigger('select', {}));
"""


@dataclass(frozen=True)
class CutOff:
    """The question and the completion that Continue goes on from."""

    question: Question
    view: View
    values: tuple[object, ...]
    """The fields of the page that were asked with."""


def build_ask(
    service: Service,
    licence_words: Callable[[], str] = str,
    calibration: Callable[[str | None, float], str] = lambda adapter, share: "",
) -> Inputs:
    """Build the tab and wire its buttons; returns its inputs. `licence_words` are for whoever shares an answer.

    `calibration` as in `Probes`.
    """
    if service.settings.is_starter:
        gr.HTML(STARTER, js_on_load=None)
    with gr.Row(elem_classes="lt-columns"):
        with gr.Column(scale=5, min_width=300, elem_classes="lt-left"):
            inputs = Inputs(service, "ask", "Ask")
        with gr.Column(scale=8, min_width=300, elem_classes="lt-right"):
            with gr.Column(elem_classes="lt-card"):
                panel = Panel("ask-panel", "", HINT, lambda: recorded_answer_html(service.offer.served is not None))
                with panel.tools:
                    again = _tool("Ask again", "ask-again")
                    resume = _tool("Continue", "ask-continue")
                sharing = Sharing(service, panel, licence_words) if service.shares.settings.allowed else None
            probes = Probes(service, calibration)
    history = gr.HTML(js_on_load=_HISTORY_JS, elem_id="ask-history")
    answering = Answering(service, [panel], inputs.run, inputs.stop)
    cut_off = gr.State(None, time_to_live=3600)
    shared = sharing.outputs if sharing else []
    outputs = [*answering.outputs, *shared, *probes.outputs, again, resume, cut_off]

    def _updates(frame: Frame, values: Sequence[object]) -> list[object]:
        own = sharing.updates(frame.views[0], frame.question) if sharing else []
        probed = probes.updates(frame.views[0], tuple(values))
        return [*frame.updates, *own, *probed, *_tool_updates(frame, tuple(values))]

    def ask_on_page(request: gr.Request, *values: object) -> Iterator[list[object]]:
        probes.dismiss(request)

        def submit(visitor: Visitor) -> tuple[Submission, Question]:
            for_owner = service.is_owner(request.cookies)
            question = service.read_question(*values, for_owner=for_owner)  # type: ignore[arg-type]
            return service.queue.submit([question.request(question.adapter)], visitor), question

        for frame in answering.stream(submit, request):
            if frame.question is not None:  # the adapter by name, so that a promotion changes nothing
                values = (*values[:ADAPTER_FIELD], frame.question.adapter or BASE_NAME, *values[ADAPTER_FIELD + 1 :])
            yield _updates(frame, values)

    def ask_again(request: gr.Request, *values: object) -> Iterator[list[object]]:
        *before, temperature, length, seed, others = values
        temperature = temperature or AGAIN_TEMPERATURE
        seed = seed + 1 if isinstance(seed, int) and 0 <= seed < MAX_SEED else 1
        for updates in ask_on_page(request, *before, temperature, length, seed, others):
            yield [*updates, temperature, seed]

    def go_on(request: gr.Request, former: CutOff | None) -> Iterator[list[object]]:
        def submit(visitor: Visitor) -> tuple[Submission, Question]:
            if former is None:
                raise UserError("There is nothing to continue: the completion is no longer stored. Ask again.")
            again = former.question.request(former.question.adapter, prefix=former.view.text)
            return service.queue.submit([again], visitor), former.question

        for frame in answering.stream(submit, request, former.view if former else None):
            yield _updates(frame, former.values if former else ())

    hidden = gr.update(visible=False)
    emptied = [*(sharing.emptied if sharing else []), *probes.emptied, (again, hidden), (resume, hidden)]
    asked = inputs.wire(answering, ask_on_page, outputs, emptied)
    asked.append(again.click(ask_again, inputs.asked, [*outputs, inputs.temperature, inputs.seed], **EVENT))
    asked.append(resume.click(go_on, [cut_off], outputs, **EVENT))
    kept = [*inputs.question_inputs, *panel.texts, *([sharing.record] if sharing else [])]
    for ended in asked:
        ended.then(None, kept, None, js=_KEEP, api_visibility="private")
    shown = [*inputs.question_inputs, *panel.texts, panel.thought, panel.copy, again, resume, probes.column, *shared]
    history.select(None, None, shown, js=_RESTORE % json.dumps(bool(sharing)), api_visibility="private")
    if sharing:
        sharing.wire(inputs.question_inputs, [again, resume, probes.column])
    return inputs


def _tool(text: str, elem_id: str) -> gr.Button:
    return gr.Button(text, visible=False, size="sm", min_width=0, elem_id=elem_id)


def _tool_updates(frame: Frame, values: tuple[object, ...]) -> list[object]:
    """Updates for Ask again, Continue and its state."""
    view, question = frame.views[0], frame.question
    has_ended = not view.is_running and view.state != CompletionState.IDLE
    is_cut_off = view.state == CompletionState.CUT_OFF and question is not None
    stored = CutOff(question, view, values) if is_cut_off and question else None
    return [gr.update(visible=has_ended and question is not None), gr.update(visible=is_cut_off), stored]
