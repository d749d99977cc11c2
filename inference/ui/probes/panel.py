"""The probes under an answer: buttons, and what they find in words, with maps of what each sentence depends on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import gradio as gr

from inference.common.errors import UserError
from inference.common.html import escape
from inference.prompt.image import thumbnail_uri
from inference.server.service import Question, Service
from inference.server.submission import Submission
from inference.server.visitors import Visitor
from inference.ui.answering import EVENT, failed, visitor_of
from inference.ui.probes import asking as probes
from inference.ui.probes.asking import Answered, Dependence, LookProbe, ThoughtProbe, VoteProbe
from inference.ui.view import CompletionState, View

Result = TypeVar("Result")
Calibrated = Callable[[str | None, float], str]
"""From an adapter and a share of votes to a sentence on how often answers with that share were right."""
MAP_PIXELS = 240
"""The longer side of a picture under a map."""
OTHER_PIXELS = 120
"""Of the other picture."""
LEAST_NATS = 0.7
"""A drop below it, which halves the probability, is no dependence."""
NONE = "none"
_NAMES = {
    "half": "the first half of the thought",
    "none": "no thought",
    "other": "the thought about another problem",
    "number": "the thought with one number changed",
}
_LEFT_OUT = {
    "half": "the first half of the thought, which is one word",
    "other": "the thought about another problem, which was answered without one",
    "number": "one number changed, as the thought has none of its own",
}
_THOUGHT_SHOWS = (
    "Asked at temperature 0. An answer that changes with the thought depends on it, unless your first answer was "
    "sampled at a higher temperature. One that stays may not have needed it, or the model found it again. It does not "
    "show how the model came to its first thought."
)
_LOOK_SHOWS = (
    "The darker a part, the less likely the same words become without it. Words that depend on no part may come from "
    "the question, or from the thought before them. A part that is hidden makes a picture that the model never saw in "
    "training, so a map is a hint and no proof."
)
_COST = (
    f"Each asks the model again: “Change the thought” up to {probes.THOUGHT_REQUESTS} times, which counts as "
    f"{probes.num_questions(1, probes.THOUGHT_REQUESTS - 1)} of your questions; “Hide the picture” "
    f"{probes.LOOK_REQUESTS} times, which counts as {probes.num_questions(probes.LOOK_REQUESTS)}; “Ask {probes.VOTES} "
    f"times” counts as {probes.num_questions(probes.VOTES)}."
)
_VOTES_SHOW = "Answers that agree may agree on an error."


@dataclass(frozen=True)
class ProbedAnswer:
    """An answer to probe: the fields of the page that were asked with, and the completion."""

    values: tuple[object, ...]
    answered: Answered


class Probes:
    """The buttons and what they found; make it inside the column of the answer."""

    def __init__(self, service: Service, calibration: Calibrated, name: str = "ask") -> None:
        """`name` begins the element ids."""
        self._service, self._calibration = service, calibration
        with gr.Column(visible=False, elem_id=f"{name}-probes", elem_classes="lt-probes", min_width=240) as self.column:
            self.title = gr.HTML(_title_html(), js_on_load=None)
            with gr.Row(elem_classes="lt-tools"):
                thought, look, votes = (
                    gr.Button(words, size="sm", min_width=0, elem_id=f"{name}-probe-{kind}")
                    for kind, words in {
                        "thought": "Change the thought",
                        "look": "Hide the picture",
                        "votes": f"Ask {probes.VOTES} times",
                    }.items()
                )
            gr.HTML(f'<p class="lt-quiet">{_COST}</p>', js_on_load=None)
            self.found = gr.HTML(js_on_load=None, elem_id=f"{name}-probe-found", elem_classes="lt-probe-found")
        self.answer = gr.State(None, time_to_live=3600)
        self._running: dict[str, object] = {}
        """By browser session the probe whose findings it waits for."""
        self.outputs = [self.column, self.title, self.found, self.answer]
        options: dict[str, Any] = EVENT | {"trigger_mode": "once"}
        for button, probe in ((thought, self._thought), (look, self._look), (votes, self._votes)):
            button.click(self._handler(probe), [self.answer], self.found, **options)

    @property
    def emptied(self) -> list[tuple[Any, object]]:
        """The components with their updates while there is no answer."""
        return list(zip(self.outputs, [gr.update(visible=False), _title_html(), "", None]))

    def updates(self, view: View, values: tuple[object, ...], of: str = "") -> list[object]:
        """Updates for `outputs` once `view` is on the page, asked with these fields of it; `of` names what answered."""
        if view.is_running or not view.stated or view.state is not CompletionState.DONE:
            return [gr.update(visible=False), _title_html(of), "", None]
        answered = Answered(view.text, view.reasoning, view.stated)
        return [gr.update(visible=True), _title_html(of), "", ProbedAnswer(values, answered)]

    def dismiss(self, request: gr.Request) -> None:
        """End a probe of this browser session, whose answer is being replaced; it shows nothing any more."""
        self._running.pop(request.session_hash or "", None)

    def end_with(self, *events: Callable[..., object]) -> None:
        """Let these events of Gradio, which replace the answer, end a probe."""
        for event in events:
            event(self.dismiss, None, None, queue=False, show_progress="hidden", api_visibility="private")

    def _handler(self, probe: Callable[..., Iterator[str]]) -> Callable[..., Iterator[str]]:
        def run(request: gr.Request, answer: ProbedAnswer | None) -> Iterator[str]:
            held: list[Submission] = []
            session, token = request.session_hash or "", object()
            self._running[session] = token
            try:
                for found in self._found(probe, request, answer, held):
                    if self._running.get(session) is not token:
                        return
                    yield found
            finally:
                for submission in held:
                    submission.stop()
                if self._running.get(session) is token:
                    del self._running[session]

        return run

    def _found(
        self,
        probe: Callable[..., Iterator[str]],
        request: gr.Request,
        answer: ProbedAnswer | None,
        held: list[Submission],
    ) -> Iterator[str]:
        try:
            if answer is None:
                raise UserError("The answer is no longer stored. Ask again.")
            visitor = visitor_of(request)
            yield '<p class="lt-quiet lt-asking" role="status">Asking…</p>'
            is_owner = self._service.is_owner(request.cookies)
            question = self._service.read_question(*answer.values, for_owner=is_owner)  # type: ignore[arg-type]
            yield from probe(question, answer.answered, visitor, held.append)
        except Exception as error:  # as for an answer: the page must not go on waiting
            yield f'<p class="lt-note lt-bad" role="alert">{escape(failed(error).message)}</p>'

    def _thought(self, question: Question, answered: Answered, visitor: Visitor, watch: probes.Watch) -> Iterator[str]:
        found = yield from shown(probes.probe_thought(self._service, question, answered, visitor, watch))
        yield thought_html(answered, found)

    def _look(self, question: Question, answered: Answered, visitor: Visitor, watch: probes.Watch) -> Iterator[str]:
        found = yield from shown(probes.probe_look(self._service, question, answered, visitor, watch))
        yield look_html(question, found)

    def _votes(self, question: Question, answered: Answered, visitor: Visitor, watch: probes.Watch) -> Iterator[str]:
        found = yield from shown(probes.probe_votes(self._service, question, answered, visitor, watch))
        answer, votes = found.counts[0]
        words = self._calibration(question.adapter, votes / probes.VOTES) if answer else "None of them gave an answer."
        yield votes_html(found, words)


def _title_html(of: str = "") -> str:
    """The heading, with the name of what answered where there are two."""
    return f"<h2>{f'{escape(of, 120)}: does' if of else 'Does'} the thought matter? Does it look?</h2>"


def shown(steps: Generator[tuple[int, int], None, Result]) -> Generator[str, None, Result]:
    """The progress in words, and the result."""
    while True:
        try:
            done, total = next(steps)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        yield f'<p class="lt-quiet lt-asking" role="status">{done} of {total} requests are answered…</p>'


def thought_html(answered: Answered, found: list[ThoughtProbe]) -> str:
    """The answer to each changed thought."""
    rows = "".join(
        f'<tr><th scope="row">{_NAMES[one.name]}{f" ({escape(one.note)})" if one.note else ""}'
        f"<details><summary>the thought</summary><p>{escape(one.thought) or '(empty)'}</p></details></th>"
        f"<td>{escape(one.answer, 200) or NONE}</td><td>{_as_before(one)}</td></tr>"
        for one in found
    )
    counted = [one for one in found if one.answer and not one.void]
    left_out = [words for name, words in _LEFT_OUT.items() if name not in [one.name for one in found]]
    without = f"Left out: {'; '.join(left_out)}. " if left_out else ""
    same = sum(one.is_same for one in counted)
    said = (
        "None of these tells anything."
        if not counted
        else "The answer stayed the same with every thought: nothing here says that the thought decides it."
        if same == len(counted)
        else f"The answer changed with {len(counted) - same} of {len(counted)} thoughts."
    )
    return (
        f'<table class="lt-probe-table"><caption>The answer was {escape(answered.answer, 200)}. The same question '
        f"with another thought:</caption><thead>"
        f'<tr><th scope="col">given</th><th scope="col">it answers</th><th scope="col">as before?</th></tr></thead>'
        f"<tbody>{rows}</tbody></table><p>{said}</p>"
        f"<p class='lt-quiet'>{without}{_THOUGHT_SHOWS}</p>"
    )


def _as_before(one: ThoughtProbe) -> str:
    if one.void:
        return f"{one.void}, so this tells nothing"
    return "no answer" if not one.answer else "the same" if one.is_same else "another"


def look_html(question: Question, found: LookProbe) -> str:
    """The maps of the answer and of each sentence, and the answers to a blank and to another picture."""
    picture = thumbnail_uri(question.image, MAP_PIXELS)
    maps = "".join(_map_html(one, picture) for one in (*found.thought, found.answer))
    of_several = "Of several pictures the first is hidden; the others stay. " if question.more_images else ""
    told = []
    for text, is_same, is_cut in zip((found.blank, found.swapped), found.is_same, found.is_cut):
        same = "the same" if is_same else "another answer"
        none = "was cut off" if is_cut else "gives no answer"
        told.append(f"answers <b>{escape(text, 200)}</b> ({same})" if text else none)
    other = f'<img class="lt-probe-other" src="{thumbnail_uri(found.other, OTHER_PIXELS)}" alt="the other picture">'
    return (
        f"<p>{of_several}With white paper it {told[0]}, with another picture it {told[1]}. These two were asked at "
        f"temperature 0. The other picture:</p>{other}"
        f'<ol class="lt-maps">{maps}</ol><p class="lt-quiet">{_LOOK_SHOWS}</p>'
    )


def _map_html(one: Dependence, picture: str) -> str:
    most = max(one.drops)
    scale = max(most, LEAST_NATS)
    cells = "".join(f'<i style="--a:{max(0.0, drop) / scale:.2f}"></i>' for drop in one.drops)
    if most < LEAST_NATS:
        words = "depends on no single part" + (", but on the picture" if one.blank > LEAST_NATS else "")
    else:
        row, column = divmod(one.drops.index(most), probes.PARTS)
        words = f"{_factor(most)} as likely without the part in row {row + 1}, column {column + 1}"
    style = f"--parts:{probes.PARTS}"
    return (
        f'<li><div class="lt-map"><img src="{picture}" alt=""><div class="lt-cells" style="{style}">{cells}</div></div>'
        f"<p>{escape(one.text, 300)}</p><p class='lt-quiet'>{words}</p></li>"
    )


def _factor(nats: float) -> str:
    """The share of its probability that is left.

    >>> _factor(0.7), _factor(7.0)
    ('50 %', 'less than 0.1 %')
    """
    share = 100 * 2.718281828**-nats
    return f"{share:.0f} %" if share >= 1 else f"{share:.1f} %" if share >= 0.1 else "less than 0.1 %"


def votes_html(found: VoteProbe, calibration: str) -> str:
    """Each answer with its votes, as bars."""
    bars = "".join(
        f'<li><span>{escape(answer, 200) or NONE}</span><span class="lt-vote" '
        f'style="--share:{votes / probes.VOTES:.3f}"></span><span>{votes} of {probes.VOTES}</span></li>'
        for answer, votes in found.counts
    )
    cut = f"<p>{found.num_cut} of {probes.VOTES} were cut off, which counts as no answer.</p>" if found.num_cut else ""
    return (
        f'<ul class="lt-votes">{bars}</ul>{cut}<p>{escape(calibration)}</p><p class="lt-quiet">Asked at temperature '
        f"{probes.VOTES_TEMPERATURE:g}. {_VOTES_SHOW}</p>"
    )
