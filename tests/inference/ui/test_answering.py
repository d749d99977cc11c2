"""The runs of a tab: Stop and a new picture, whenever they come."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest
from PIL import Image

from inference.adapters.live import LiveAdapters
from inference.common.settings import load_settings
from inference.engine.engine import Engine
from inference.model.request import Request
from inference.server.queue import Submission
from inference.server.service import Service
from inference.ui.answering import Exchange
from inference.ui.panel import Panel
from inference.ui.view import State
from training.grading.grader import grade_lenient

REQUEST = cast(gr.Request, SimpleNamespace(session_hash="a browser session"))
ROW = Request(Image.new("RGB", (112, 112), "white"), "How many circles?", max_new_tokens=900, min_new_tokens=900)


@pytest.fixture
def exchange(engine: Engine) -> Exchange:
    settings = load_settings(env={"LOOKTHINK_BASE": "starter"}, has_gpu=False)
    service = Service(settings, lambda: engine, LiveAdapters(settings), grade_lenient, cast(Any, None), [])
    service.queue.wait_loaded()
    with gr.Blocks(analytics_enabled=False):
        return Exchange(service, [Panel("panel", "", "Nothing yet.")], gr.Button(), gr.Button())


def _start(exchange: Exchange) -> tuple[Submission, str]:
    return exchange._service.queue.submit([ROW]), ""


@pytest.mark.parametrize("act", ["stop", "dismiss"])
@pytest.mark.parametrize("when", ["before the inputs are read", "while they are read", "during the decode"])
def test_stop_and_a_new_picture_end_a_run_whenever_they_come(exchange: Exchange, act: str, when: str) -> None:
    def start() -> tuple[Submission, str]:
        if when == "while they are read":
            getattr(exchange, act)(REQUEST)
        return _start(exchange)

    run = exchange.run(start, REQUEST)
    assert next(run)[0][0].state == State.WAITING
    if when == "before the inputs are read":
        getattr(exchange, act)(REQUEST)
    if when == "during the decode":
        while next(run)[0][0].state == State.WAITING:
            pass
        getattr(exchange, act)(REQUEST)
    last = list(run)[-1][0][0]
    assert last.state == (State.STOPPED if act == "stop" else State.IDLE)
    assert last.num_tokens < 900 and (act == "stop" or not last.text)
    assert not exchange.is_running(REQUEST)


def test_there_is_nothing_to_dismiss_when_nothing_runs(exchange: Exchange) -> None:
    assert exchange.dismiss(REQUEST) is False
