"""The answers of a tab: views of a completion, Stop and a new picture whenever they come."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest
from PIL import Image

from inference.adapters.live import LiveAdapters
from inference.common.errors import UserError
from inference.common.settings import load_settings
from inference.engine.engine import Engine
from inference.model.request import Request
from inference.server.queue import RequestQueue
from inference.server.service import Question, Service
from inference.server.submission import Submission
from inference.server.visitors import Visitor
from inference.ui.answering import Answering, Panel, failed, watch
from inference.ui.view import CompletionState, View
from tests.support.serving import WAIT_SECONDS, SteeredEngine
from training.grading.grader import grade_lenient

REQUEST = cast(gr.Request, SimpleNamespace(session_hash="a browser session", client=None, headers={}))
IMAGE = Image.new("RGB", (112, 112), "white")
QUESTION = cast(Question, SimpleNamespace(expected=""))


def rows(length: int = 8, **options: Any) -> list[Request]:
    return [Request(IMAGE, "How many circles?", max_new_tokens=length, min_new_tokens=length, **options)]


@pytest.fixture
def answering(engine: Engine) -> Answering:
    settings = load_settings(env={"LOOKTHINK_BASE": "starter"}, has_gpu=False)
    service = Service(settings, lambda: engine, LiveAdapters(settings), grade_lenient, cast(Any, None), [])
    service.queue.wait_loaded()
    with gr.Blocks(analytics_enabled=False):
        return Answering(service, [Panel("panel", "", "Nothing yet.")], gr.Button(), gr.Button())


@pytest.mark.parametrize("act", ["stop", "dismiss"])
@pytest.mark.parametrize("when", ["before the inputs are read", "while they are read", "during the decode"])
def test_stop_and_a_new_picture_end_an_answer_whenever_they_come(answering: Answering, act: str, when: str) -> None:
    def submit(visitor: Visitor) -> tuple[Submission, Question]:
        if when == "while they are read":
            getattr(answering, act)(REQUEST)
        return answering.service.queue.submit(rows(900)), QUESTION

    frames = answering.stream(submit, REQUEST)
    assert next(frames).views[0].state == CompletionState.WAITING
    if when == "before the inputs are read":
        getattr(answering, act)(REQUEST)
    if when == "during the decode":
        while next(frames).views[0].state == CompletionState.WAITING:
            pass
        getattr(answering, act)(REQUEST)
    last = list(frames)[-1].views[0]
    assert last.state == (CompletionState.STOPPED if act == "stop" else CompletionState.IDLE)
    assert last.num_tokens < 900 and (act == "stop" or not last.text)
    assert not answering.is_running(REQUEST)


def test_there_is_nothing_to_dismiss_when_nothing_runs(answering: Answering) -> None:
    assert answering.dismiss(REQUEST) is False


def test_a_failure_keeps_what_was_there_and_shows_only_user_errors() -> None:
    assert failed(UserError("Too long.")).message == "Too long."
    broken = failed(RuntimeError("secret"), View(CompletionState.CUT_OFF, "text so far"))
    assert "secret" not in broken.message and broken.text == "text so far" and broken.state == CompletionState.FAILED


def test_what_breaks_a_decode_is_handed_on_and_the_line_goes_on(engine: Engine) -> None:
    steered = SteeredEngine(engine)
    queue = RequestQueue(lambda: cast(Engine, steered))
    steered.error = UserError("no")
    with pytest.raises(UserError, match="no"):
        list(watch(queue.submit(rows()), "", grade_lenient))
    steered.error = None
    assert [view.state for view in list(watch(queue.submit(rows()), "", grade_lenient))[-1]] == [
        CompletionState.CUT_OFF
    ]


def test_a_continued_completion_adds_up(engine: Engine) -> None:
    queue = RequestQueue(lambda: engine)
    earlier = list(watch(queue.submit(rows(8)), "", grade_lenient))[-1][0]
    [view] = list(watch(queue.submit(rows(4, prefix=earlier.text)), "", grade_lenient, earlier))[-1]
    assert view.num_tokens == 12 and view.seconds > earlier.seconds and view.text.startswith(earlier.text)


def test_whoever_stops_listening_stops_the_job(engine: Engine) -> None:
    queue = RequestQueue(lambda: engine)
    submission = queue.submit(rows(1000))
    views = watch(submission, "", grade_lenient)
    next(views)
    views.close()  # type: ignore[attr-defined]
    assert submission.wait(WAIT_SECONDS) and submission.progress()[0].num_tokens < 1000
