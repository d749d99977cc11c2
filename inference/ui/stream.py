"""From a job in the line to views of its completions, at the pace a page can show."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from dataclasses import replace

from inference.common.errors import UserError
from inference.server.queue import Progress, Submission
from inference.server.service import Grade
from inference.ui.view import State, View

PACE_SECONDS = 0.06
"""A page is told what is new at most this often."""
_log = logging.getLogger(__name__)


def watch(job: Submission, expected: str, grade: Grade, earlier: View | None = None) -> Iterator[list[View]]:
    """The views of a job's rows as they change, until all have ended; the last ones carry the verdicts.

    `earlier` is the cut-off view that a Continue goes on from; its tokens and seconds count too. Whoever stops
    listening stops the job. Raises what ended the job, if that was an error.
    """
    shown: list[View] = []
    try:
        while True:
            ended = job.wait(PACE_SECONDS if shown else 0)
            place = View(State.WAITING, ahead=job.ahead, is_loading=job.is_loading)
            views = [_view(progress, place, ended, earlier) for progress in job.progress()]
            if job.error is not None:
                raise job.error
            if views != shown:
                shown = views
                yield views
            if ended:
                break
    finally:
        job.stop()
    judged = [_with_verdict(view, expected, grade) for view in views]
    if judged != views:
        yield judged


def failed(error: Exception, earlier: View | None = None) -> View:
    """The view of a completion that an error ended; the user reads a `UserError`, and only that.

    What an `earlier` view had come to stays.
    """
    message = str(error)
    if not isinstance(error, UserError):
        where = "".join(traceback.format_tb(error.__traceback__))
        _log.error("A completion failed with %s:\n%s", type(error).__name__, where)  # its message may quote the user
        message = "Something broke on our side. Ask again; the failure has been logged."
    return replace(earlier or View(), state=State.FAILED, message=message)


def _view(progress: Progress, place: View, ended: bool, earlier: View | None) -> View:
    view = replace(
        place,
        text=progress.text,
        num_tokens=progress.num_tokens,
        seconds=progress.seconds,
        thought_tokens=progress.thought_tokens,
        thought_seconds=progress.thought_seconds,
    )
    if earlier is not None:
        view = _joined(earlier, view)
    return replace(view, state=_state(view, progress, ended))


def _state(view: View, progress: Progress, ended: bool) -> State:
    completion = progress.completion
    if completion is not None and not completion.stopped:
        return State.CUT_OFF if completion.truncated else State.DONE
    if completion is not None or ended:
        return State.STOPPED
    if not progress.num_tokens:
        return State.WAITING
    parsed = replace(view, state=State.THINKING)
    return State.ANSWERING if parsed.answer else State.THINKING


def _joined(earlier: View, view: View) -> View:
    """The figures of a continued completion: those of both parts."""
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
    """A completion that gave its answer is compared with the expected one, if there is one.

    One that was cut off or stopped has given it only if the answer's tag is closed.
    """
    if not expected.strip() or not view.answer or not (view.state == State.DONE or view.answer_tagged):
        return view
    return replace(view, verdict=grade(expected, view.text))
