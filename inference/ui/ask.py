"""The Ask tab: a picture or several, one question, one completion that thinks first, and the history of this visit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import gradio as gr
from gradio.components import Component

from inference.common.errors import UserError
from inference.server.service import MAX_SEED, Question, Service
from inference.server.submission import Submission
from inference.server.visitors import Visitor
from inference.ui.answering import EVENT, Answering, Frame, Panel
from inference.ui.inputs import Emptied, Inputs, asked_with
from inference.ui.probes.panel import Calibrated, Probes
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


class UnderAnswer(Protocol):
    """A part under an answer that has ended by itself, which the training half builds."""

    @property
    def outputs(self) -> Sequence[Component]: ...
    @property
    def emptied(self) -> Emptied:
        """The components with their updates while there is no answer."""
        ...

    def updates(self, request: gr.Request, view: View, question: Question | None) -> list[object]:
        """Updates for `outputs` once `view` is on the page."""
        ...


def build_ask(
    service: Service,
    licence_words: Callable[[], str] = str,
    calibration: Calibrated = lambda adapter, share: "",
    build_under: Callable[[], UnderAnswer] | None = None,
) -> Inputs:
    """Build the tab and wire its buttons; returns its inputs. `licence_words` are for whoever shares an answer.

    `build_under` builds what stands below the probes, in their column.
    """
    if service.settings.is_starter:
        gr.HTML(STARTER, js_on_load=None)
    return _Ask(service, licence_words, calibration, build_under).inputs


class _Ask:
    """The inputs, the panel of the answer, what stands under it, and the history."""

    def __init__(
        self,
        service: Service,
        licence_words: Callable[[], str],
        calibration: Calibrated,
        build_under: Callable[[], UnderAnswer] | None,
    ) -> None:
        self._service = service
        with gr.Row(elem_classes="lt-columns"):
            with gr.Column(scale=5, min_width=300, elem_classes="lt-left"):
                self.inputs = Inputs(service, "ask", "Ask")
            with gr.Column(scale=8, min_width=300, elem_classes="lt-right"):
                with gr.Column(elem_classes="lt-card"):
                    panel = Panel("ask-panel", "", HINT, lambda: recorded_answer_html(service.offer.served is not None))
                    with panel.tools:
                        self._again = _tool("Ask again", "ask-again")
                        self._resume = _tool("Continue", "ask-continue")
                    is_sharing = service.shares.settings.allowed
                    self._sharing = Sharing(service, panel, licence_words) if is_sharing else None
                self._probes = Probes(service, calibration)
                with self._probes.column:
                    self._under = build_under() if build_under else None
        self._history = gr.HTML(js_on_load=_HISTORY_JS, elem_id="ask-history")
        self._answering = Answering(service, [panel], self.inputs.run, self.inputs.stop)
        self._cut_off = gr.State(None, time_to_live=3600)
        self._wire(panel)

    def _wire(self, panel: Panel) -> None:
        inputs, sharing, again, resume = self.inputs, self._sharing, self._again, self._resume
        shared = sharing.outputs if sharing else []
        below = [*self._probes.outputs, *(self._under.outputs if self._under else [])]
        outputs = [*self._answering.outputs, *shared, *below, again, resume, self._cut_off]
        hidden = gr.update(visible=False)
        emptied = [*(sharing.emptied if sharing else []), *self._probes.emptied]
        emptied += [*(self._under.emptied if self._under else []), (again, hidden), (resume, hidden)]
        asked = inputs.wire(self._answering, self.ask_on_page, outputs, emptied)
        asked.append(again.click(self.ask_again, inputs.asked, [*outputs, inputs.temperature, inputs.seed], **EVENT))
        asked.append(resume.click(self.go_on, [self._cut_off], outputs, **EVENT))
        kept = [*inputs.question_inputs, *panel.texts, *([sharing.record] if sharing else [])]
        for ended in asked:
            ended.then(None, kept, None, js=_KEEP, api_visibility="private")
        column, history = self._probes.column, self._history
        self._probes.end_with(*inputs.replacing, history.select, *([sharing.opened] if sharing else []))
        shown = [*inputs.question_inputs, *panel.texts, panel.thought, panel.copy, again, resume, column, *shared]
        history.select(None, None, shown, js=_RESTORE % json.dumps(bool(sharing)), api_visibility="private")
        if sharing:
            sharing.wire(inputs.question_inputs, [again, resume, column])

    def ask_on_page(self, request: gr.Request, *values: object) -> Iterator[list[object]]:
        self._probes.dismiss(request)
        service = self._service

        def submit(visitor: Visitor) -> tuple[Submission, Question]:
            for_owner = service.is_owner(request.cookies)
            question = service.read_question(*values, for_owner=for_owner)  # type: ignore[arg-type]
            return service.queue.submit([question.request(question.adapter)], visitor), question

        for frame in self._answering.stream(submit, request):
            if frame.question is not None:
                values = asked_with(values, frame.question.adapter, frame.question.temperature)
            yield self._updates(request, frame, values)

    def ask_again(self, request: gr.Request, *values: object) -> Iterator[list[object]]:
        *before, temperature, length, seed, others = values
        temperature = temperature or AGAIN_TEMPERATURE
        seed = seed + 1 if isinstance(seed, int) and 0 <= seed < MAX_SEED else 1
        for updates in self.ask_on_page(request, *before, temperature, length, seed, others):
            yield [*updates, temperature, seed]

    def go_on(self, request: gr.Request, former: CutOff | None) -> Iterator[list[object]]:
        def submit(visitor: Visitor) -> tuple[Submission, Question]:
            if former is None:
                raise UserError("There is nothing to continue: the completion is no longer stored. Ask again.")
            again = former.question.request(former.question.adapter, prefix=former.view.text)
            return self._service.queue.submit([again], visitor), former.question

        for frame in self._answering.stream(submit, request, former.view if former else None):
            yield self._updates(request, frame, former.values if former else ())

    def _updates(self, request: gr.Request, frame: Frame, values: Sequence[object]) -> list[object]:
        view, question = frame.views[0], frame.question
        own = self._sharing.updates(view, question) if self._sharing else []
        probed = self._probes.updates(view, tuple(values))
        probed += self._under.updates(request, view, question) if self._under else []
        return [*frame.updates, *own, *probed, *_tool_updates(frame, tuple(values))]


def _tool(text: str, elem_id: str) -> gr.Button:
    return gr.Button(text, visible=False, size="sm", min_width=0, elem_id=elem_id)


def _tool_updates(frame: Frame, values: tuple[object, ...]) -> list[object]:
    """Updates for Ask again, Continue and its state."""
    view, question = frame.views[0], frame.question
    has_ended = not view.is_running and view.state != CompletionState.IDLE
    is_cut_off = view.state == CompletionState.CUT_OFF and question is not None
    stored = CutOff(question, view, values) if is_cut_off and question else None
    return [gr.update(visible=has_ended and question is not None), gr.update(visible=is_cut_off), stored]
