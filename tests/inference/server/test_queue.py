"""Places in the line: who may have one, and how one becomes free. An engine that never comes keeps all waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from inference.common.errors import Busy, UserError
from inference.common.settings import DEFAULT_LIMITS
from inference.model.request import Row
from inference.server.queue import Line, LineState
from inference.server.visitors import Asker
from inference.ui.stream import watch
from tests.support.serving import WAIT_SECONDS
from training.grading.grader import grade_lenient

ROWS = [Row(Image.new("RGB", (28, 28)), "How many?")]


@pytest.fixture
def line() -> Iterator[Line]:
    """One whose engine is still loading, and then fails to."""
    ready = threading.Event()

    def load() -> Any:
        ready.wait()
        raise UserError("no engine in /a/secret/folder")

    made = Line(load, DEFAULT_LIMITS.model_copy(update={"max_waiting": 3, "questions_at_once": 2}))
    made.fail = ready.set  # type: ignore[attr-defined]
    yield made
    ready.set()


def test_stop_frees_every_place_while_the_engine_loads(line: Line) -> None:
    jobs = [line.submit(ROWS) for _ in range(4)]
    assert [job.ahead for job in jobs] == [0, 1, 2, 3]
    for job in jobs:
        job.stop()
        assert job.wait(0) and job.error is None
    assert line.num_waiting == 0
    line.submit(ROWS)


def test_a_visitor_has_some_places_and_others_have_theirs(line: Line) -> None:
    for session in ("a", "b"):
        line.submit(ROWS, Asker("one", session))
    for take in (lambda: line.admit(Asker("one", "c")), lambda: line.submit(ROWS, Asker("one", "c"))):
        with pytest.raises(Busy, match="2 questions of yours"):
            take()
    line.submit(ROWS, Asker("two", "d"))
    line.submit(ROWS, Asker("three", "e"))
    with pytest.raises(Busy, match="3 questions are waiting or being answered already; try again in a minute"):
        line.admit(Asker("four", "f"))


def test_a_minute_has_so_many_questions() -> None:
    line = Line(lambda: threading.Event().wait(), DEFAULT_LIMITS.model_copy(update={"questions_per_minute": 3}))  # type: ignore[arg-type,return-value]
    for _ in range(3):
        line.admit(Asker("one"))
    with pytest.raises(Busy, match="3 questions in a minute"):
        line.admit(Asker("one"))
    line.admit(Asker("two"))


def test_whoever_leaves_frees_the_place(line: Line) -> None:
    first, second = line.submit(ROWS, Asker("one", "page")), line.submit(ROWS, Asker("one", "other page"))
    line.left("page")
    assert first.wait(0) and not second.wait(0) and second.ahead == 0
    late = line.submit(ROWS, Asker("one", "page", since=0.0))  # asked before the page was closed
    assert late.wait(0)
    line.left("")
    assert not line.submit(ROWS, Asker("one", "page")).wait(0)  # the page was opened again


def test_who_waits_for_an_engine_that_does_not_come_is_told(line: Line) -> None:
    job = line.submit(ROWS)
    assert line.state is LineState.LOADING
    line.fail()  # type: ignore[attr-defined]
    with pytest.raises(Busy, match="could not be loaded") as told:
        list(watch(job, "", grade_lenient))
    assert "secret" not in str(told.value)
    with pytest.raises(UserError, match="no engine"):
        line.wait_loaded(WAIT_SECONDS)
    assert line.state is LineState.FAILED
    with pytest.raises(Busy):
        line.admit(Asker("one"))


def test_a_line_that_closes_tells_everybody(line: Line) -> None:
    job = line.submit(ROWS)
    line.close("Come back later.")
    with pytest.raises(Busy, match="Come back later"):
        list(watch(job, "", grade_lenient))
    with pytest.raises(Busy, match="Come back later"):
        line.submit(ROWS)
    assert line.state is LineState.STOPPING
