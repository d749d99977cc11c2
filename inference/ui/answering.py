"""A question on its way from a tab or an endpoint to the queue and back as a stream of views of its completions."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from inference.common.errors import Busy, UserError
from inference.common.logs import failure
from inference.server.service import Grade, Question, Service
from inference.server.submission import Progress, Submission
from inference.server.visitors import Visitor, is_on_space, visitor_id_of
from inference.ui import markup
from inference.ui.view import (
    CompletionState,
    View,
    empty_answer,
    notes_html,
    status_html,
    thought_title_html,
    unknown_html,
)

SECONDS_BETWEEN_VIEWS = 0.06
"""The shortest time between two updates of a page."""
Submit = Callable[[Visitor], tuple[Submission, Question]]
"""Reads the inputs and puts the question into the queue. May raise `UserError`."""
EVENT: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
"""Options of events that ask the model: the page shows their progress itself; our queue orders and limits them."""


class Panel:
    """The components of one completion; make it inside a `gr.Blocks` context."""

    def __init__(self, name: str, title: str, hint: str, example: Callable[[], str] = str) -> None:
        """`name` is the element id, `title` the heading if it needs one, `hint` the text before the first question.

        `example` returns HTML that stands below the hint.
        """
        self._hint, self._example = hint, example
        with gr.Column(elem_id=name, elem_classes="lt-panel", min_width=240):
            self.title = gr.HTML(panel_title_html(title), visible=bool(title), js_on_load=None)
            self.status = gr.HTML(status_html(View()), js_on_load=None)
            with gr.Column(visible=False, elem_classes="lt-thought", min_width=0) as self.thought:
                self.thought_title = gr.HTML(thought_title_html(View()), js_on_load=None)
                self.thinking = gr.Markdown(latex_delimiters=markup.LATEX_DELIMITERS, elem_classes="lt-thinking")
            self.answer = gr.Markdown(
                self._answer(View()), latex_delimiters=markup.LATEX_DELIMITERS, elem_classes="lt-answer"
            )
            self.notes = gr.HTML(example(), js_on_load=None)
            with gr.Row(elem_classes="lt-tools") as self.tools:
                self.copy = gr.Button("Copy", visible=False, size="sm", min_width=0, elem_classes="lt-copy")
        self.texts = [self.status, self.thought_title, self.thinking, self.answer, self.notes]
        self.components = [*self.texts, self.thought, self.copy]

    def updates(self, view: View) -> list[object]:
        """Updates of the whole panel for `view`, in the order of `components`.

        The whole panel, because the page skips updates that come faster than it draws.
        """
        return [
            status_html(view),
            thought_title_html(view),
            markup.render(view.reasoning),
            self._answer(view),
            self._example() if view.state == CompletionState.IDLE else notes_html(view),
            gr.update(visible=bool(view.reasoning)),
            gr.update(visible=bool(view.stated) and not view.is_running),
        ]

    def _answer(self, view: View) -> str:
        if view.stated and view.state != CompletionState.IDLE:
            return (
                unknown_html(view) + markup.render(view.stated) if view.unknown else markup.render_answer(view.stated)
            )
        hint = self._hint if view.state == CompletionState.IDLE else empty_answer(view)
        return f'<p class="lt-hint">{hint}</p>' if hint else ""


def panel_title_html(title: str) -> str:
    """The heading of a panel."""
    return f'<h2 class="lt-panel-title">{html.escape(title)}</h2>'


@dataclass(frozen=True)
class Frame:
    """One update of a tab."""

    views: Sequence[View]
    updates: list[object]
    """For `Answering.outputs`."""
    question: Question | None = None
    """`None` while the inputs are read, and after a failure."""


class Answering:
    """The answers under way in one tab, by browser session, and the tab's panels and buttons."""

    def __init__(self, service: Service, panels: Sequence[Panel], run: gr.Button, stop: gr.Button) -> None:
        self.service, self._panels = service, tuple(panels)
        self._answers: dict[str, _Answer] = {}
        self.outputs = [component for panel in panels for component in panel.components] + [run, stop]

    def is_running(self, request: gr.Request) -> bool:
        """True if this browser session waits for an answer in this tab."""
        return _session(request) in self._answers

    def stop(self, request: gr.Request) -> None:
        """Stop this browser session's answer, if there is one."""
        answer = self._answers.get(_session(request))
        if answer is not None:
            answer.stop()

    def dismiss(self, request: gr.Request) -> bool:
        """Stop it and let the panels end up empty; False if there is no answer under way."""
        answer = self._answers.get(_session(request))
        if answer is not None:
            answer.is_dismissed = True
            answer.stop()
        return answer is not None

    def clear(self) -> list[object]:
        """Updates for `outputs` that empty the panels."""
        return self._updates([View()] * len(self._panels))

    def stream(self, submit: Submit, request: gr.Request, earlier: View | None = None) -> Iterator[Frame]:
        """Frames as often as a page can show them; a failure is the last one."""
        session = _session(request)
        self.stop(request)
        self._answers[session] = answer = _Answer()
        try:
            waiting = [View(CompletionState.WAITING, text=earlier.text if earlier else "")] * len(self._panels)
            yield Frame(waiting, self._updates(waiting))
            visitor = visitor_of(request)
            with self.service.queue.admit(visitor):
                submission, question = submit(visitor)
            answer.take(submission)
            for views in watch(submission, question.expected, self.service.grader_of(question), earlier):
                if answer.is_dismissed:
                    break
                judged = [self._with_contradiction(view, question) for view in views]
                yield Frame(judged, self._updates(judged), question)
            if answer.is_dismissed and self._answers.get(session) is answer:
                yield Frame([View()] * len(self._panels), self.clear())
        except Exception as error:  # whatever it was, the page must not go on waiting
            view = failed(error, earlier)
            views = [view, *[replace(view, message="")] * (len(self._panels) - 1)]  # the first panel says it
            yield Frame(views, self._updates(views))
        finally:
            if self._answers.get(session) is answer:
                self._answers.pop(session, None)

    def _with_contradiction(self, view: View, question: Question) -> View:
        """A completion that has ended by itself, with the sentence if its two parts contradict each other."""
        if view.state is not CompletionState.DONE:
            return view
        return replace(view, contradiction=self.service.contradiction(view.reasoning, view.stated, question.question))

    def _updates(self, views: Sequence[View]) -> list[object]:
        is_running = any(view.is_running for view in views)
        panels = [update for panel, view in zip(self._panels, views) for update in panel.updates(view)]
        return [*panels, gr.update(interactive=not is_running), gr.update(interactive=is_running)]


def watch(submission: Submission, expected: str, grade: Grade, earlier: View | None = None) -> Iterator[list[View]]:
    """Views of a submission's completions as they change, until all have ended; the last ones carry the verdicts.

    `earlier` is the cut-off view that Continue goes on from; its tokens and seconds count too. A consumer that stops
    iterating stops the submission. Raises the error that ended the submission, if there was one.
    """
    shown: list[View] = []
    try:
        while True:
            has_ended = submission.wait(SECONDS_BETWEEN_VIEWS if shown else 0)
            waiting = View(CompletionState.WAITING, ahead=submission.ahead, is_loading=submission.is_loading)
            asked = [replace(waiting, temperature=row.temperature, seed=row.seed) for row in submission.requests]
            views = [_view(progress, view, has_ended, earlier) for progress, view in zip(submission.progress(), asked)]
            if submission.error is not None:
                raise submission.error
            if views != shown:
                shown = views
                yield views
            if has_ended:
                break
    finally:
        submission.stop()
    graded = [_with_verdict(view, expected, grade) for view in views]
    if graded != views:
        yield graded


def failed(error: Exception, earlier: View | None = None) -> View:
    """The view of a completion that an error ended; the user reads the message of a `UserError`, and no other.

    The text of `earlier` stays.
    """
    message = str(error)
    if not isinstance(error, UserError):
        failure("A completion failed.", error)
        message = "Something broke on our side. Ask again; the failure has been logged."
    return replace(earlier or View(), state=CompletionState.FAILED, message=message)


def error_title(error: Exception) -> str:
    """The heading of the toast."""
    if isinstance(error, Busy):
        return "Busy just now"
    return "This cannot be asked" if isinstance(error, UserError) else "Something broke"


def visitor_of(request: gr.Request) -> Visitor:
    """The visitor and the session of a call, as of now."""
    peer = request.client.host if request.client else None
    visitor_id = visitor_id_of(peer, request.headers.get("x-forwarded-for"), is_on_space())
    return Visitor(visitor_id, _session(request))


class _Answer:
    """One press of a button, from the reading of the inputs to the last update."""

    def __init__(self) -> None:
        self._submission: Submission | None = None
        """`None` while the inputs are read."""
        self._is_stopped = False
        self.is_dismissed = False
        """True if its picture was replaced: the panels then end up empty."""

    def stop(self) -> None:
        """Stop the submission, or the one that is about to come."""
        self._is_stopped = True
        if self._submission is not None:
            self._submission.stop()

    def take(self, submission: Submission) -> None:
        """Set the submission; of this method and `stop`, whichever comes later stops it."""
        self._submission = submission
        if self._is_stopped:
            submission.stop()


def _session(request: gr.Request) -> str:
    return request.session_hash or ""


def _view(progress: Progress, waiting: View, has_ended: bool, earlier: View | None) -> View:
    view = replace(
        waiting,
        text=progress.text,
        num_tokens=progress.num_tokens,
        seconds=progress.seconds,
        thought_tokens=progress.thought_tokens,
        thought_seconds=progress.thought_seconds,
        picture_distance=progress.picture_distance,
    )
    if earlier is not None:
        view = _joined(earlier, view)
    return replace(view, state=_state(view, progress, has_ended))


def _state(view: View, progress: Progress, has_ended: bool) -> CompletionState:
    completion = progress.completion
    if completion is not None and not completion.stopped:
        return CompletionState.CUT_OFF if completion.truncated else CompletionState.DONE
    if completion is not None or has_ended:
        return CompletionState.STOPPED
    if not progress.num_tokens:
        return CompletionState.WAITING
    has_answer = replace(view, state=CompletionState.THINKING).stated
    return CompletionState.ANSWERING if has_answer else CompletionState.THINKING


def _joined(earlier: View, view: View) -> View:
    """A continued completion with the figures of both parts."""
    thought_tokens, thought_seconds = earlier.thought_tokens, earlier.thought_seconds
    if not thought_seconds and view.thought_seconds:
        thought_tokens = earlier.num_tokens + view.thought_tokens
        thought_seconds = earlier.seconds + view.thought_seconds
    return replace(
        view,
        num_tokens=earlier.num_tokens + view.num_tokens,
        seconds=earlier.seconds + view.seconds,
        thought_tokens=thought_tokens,
        thought_seconds=thought_seconds,
    )


def _with_verdict(view: View, expected: str, grade: Grade) -> View:
    """A completion with an answer, compared with the expected one, if there is one.

    A completion that was cut off or stopped has an answer only if the answer's tag is closed.
    """
    if not expected.strip() or not view.answer or not (view.state == CompletionState.DONE or view.answer_tagged):
        return view
    return replace(view, verdict=grade(expected, view.text))
