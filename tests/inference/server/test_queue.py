"""Places in the line: who may have one, and how one becomes free. An engine that never comes keeps all waiting."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from PIL import Image

from inference.common.errors import Busy, UserError
from inference.common.settings import DEFAULT_LIMITS, STARTER
from inference.engine.engine import Engine
from inference.model.request import Request
from inference.server.queue import EngineState, RequestQueue, Submission
from inference.server.visitors import Visitor
from inference.ui.stream import watch
from tests.support.samples import problems
from tests.support.serving import WAIT_SECONDS
from training.grading.grader import grade_lenient

ROWS = [Request(Image.new("RGB", (28, 28)), "How many?")]


@pytest.fixture
def line() -> Iterator[RequestQueue]:
    """One whose engine is still loading, and then fails to."""
    ready = threading.Event()

    def load() -> Any:
        ready.wait()
        raise UserError("no engine in /a/secret/folder")

    made = RequestQueue(load, DEFAULT_LIMITS.model_copy(update={"max_waiting": 3, "questions_at_once": 2}))
    made.fail = ready.set  # type: ignore[attr-defined]
    yield made
    ready.set()


def test_stop_frees_every_place_while_the_engine_loads(line: RequestQueue) -> None:
    jobs = [line.submit(ROWS) for _ in range(4)]
    assert [job.ahead for job in jobs] == [0, 1, 2, 3]
    for job in jobs:
        job.stop()
        assert job.wait(0) and job.error is None
    assert line.num_waiting == 0
    line.submit(ROWS)


def test_a_visitor_has_some_places_and_others_have_theirs(line: RequestQueue) -> None:
    for session in ("a", "b"):
        line.submit(ROWS, Visitor("one", session))
    for take in (lambda: line.admit(Visitor("one", "c")), lambda: line.submit(ROWS, Visitor("one", "c"))):
        with pytest.raises(Busy, match="2 questions of yours"):
            take()
    line.submit(ROWS, Visitor("two", "d"))
    line.submit(ROWS, Visitor("three", "e"))
    with pytest.raises(Busy, match="3 questions are waiting or being answered already; try again in a minute"):
        line.admit(Visitor("four", "f"))


def test_a_minute_has_so_many_questions() -> None:
    line = RequestQueue(lambda: threading.Event().wait(), DEFAULT_LIMITS.model_copy(update={"questions_per_minute": 3}))  # type: ignore[arg-type,return-value]
    for _ in range(3):
        line.admit(Visitor("one"))
    with pytest.raises(Busy, match="3 questions in a minute"):
        line.admit(Visitor("one"))
    line.admit(Visitor("two"))


def test_whoever_leaves_frees_the_place(line: RequestQueue) -> None:
    first, second = line.submit(ROWS, Visitor("one", "page")), line.submit(ROWS, Visitor("one", "other page"))
    line.disconnect("page")
    assert first.wait(0) and not second.wait(0) and second.ahead == 0
    late = line.submit(ROWS, Visitor("one", "page", asked_at=0.0))  # asked before the page was closed
    assert late.wait(0)
    line.disconnect("")
    assert not line.submit(ROWS, Visitor("one", "page")).wait(0)  # the page was opened again


def test_who_waits_for_an_engine_that_does_not_come_is_told(line: RequestQueue) -> None:
    job = line.submit(ROWS)
    assert line.state is EngineState.LOADING
    line.fail()  # type: ignore[attr-defined]
    with pytest.raises(Busy, match="could not be loaded") as told:
        list(watch(job, "", grade_lenient))
    assert "secret" not in str(told.value)
    with pytest.raises(UserError, match="no engine"):
        line.wait_loaded(WAIT_SECONDS)
    assert line.state is EngineState.FAILED
    with pytest.raises(Busy):
        line.admit(Visitor("one"))


def test_a_line_that_closes_tells_everybody(line: RequestQueue) -> None:
    job = line.submit(ROWS)
    line.close("Come back later.")
    with pytest.raises(Busy, match="Come back later"):
        list(watch(job, "", grade_lenient))
    with pytest.raises(Busy, match="Come back later"):
        line.submit(ROWS)
    assert line.state is EngineState.STOPPING


LENGTH = 3


class Gate:
    """A real engine behind a line; the tower tells how many pictures each of its passes has, and may be held up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passes: list[int] = []
        self.may_load, self.may_encode, self.encodes = threading.Event(), threading.Event(), threading.Event()
        self.may_encode.set()
        self.engine = Engine.load(STARTER)
        encode = self.engine.family.encode

        def noted(batch: Sequence[Any]) -> Any:
            self.passes.append(len(batch))
            self.encodes.set()
            assert self.may_encode.wait(WAIT_SECONDS)
            return encode(batch)

        monkeypatch.setattr(self.engine.family, "encode", noted)
        self.line = RequestQueue(self._load)

    def _load(self) -> Engine:
        assert self.may_load.wait(WAIT_SECONDS)
        return self.engine

    def together(self, rows: Sequence[Request]) -> list[Submission]:
        """Questions that wait for the engine, which comes then."""
        jobs = [self.line.submit([row]) for row in rows]
        self.may_load.set()
        return jobs


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    yield made
    made.may_load.set()
    made.may_encode.set()
    made.line.close("The test is over.")


def rows() -> list[Request]:
    options: dict[str, Any] = {"max_new_tokens": LENGTH, "min_new_tokens": LENGTH}
    return [Request(p.image.convert("RGB"), p.problem, **options) for p in problems(4, seed=21)]


def num_tokens(job: Submission) -> int | None:
    assert job.wait(WAIT_SECONDS)
    completion = job.progress()[0].completion
    return completion.num_tokens if completion is not None else None


def test_pictures_of_questions_that_begin_together_are_one_pass(gate: Gate) -> None:
    jobs = gate.together(rows())
    assert [num_tokens(job) for job in jobs] == [LENGTH] * 4 and gate.passes == [4]


@pytest.mark.parametrize("place", [0, 2])
def test_a_broken_picture_is_told_to_its_asker_alone(gate: Gate, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor refuses it, wherever it stands among them."""
    asked = rows()
    process, broken = gate.engine.family.process, asked[place].image

    def refuses(image: Any) -> Any:
        if image is broken:
            raise OSError("broken pixels")
        return process(image)

    monkeypatch.setattr(gate.engine.family, "process", refuses)
    jobs = gate.together(asked)
    found = [num_tokens(job) for job in jobs]
    assert found == [None if i == place else LENGTH for i in range(4)]
    assert [str(job.error) for job in jobs if job.error] == ["broken pixels"] and jobs[place].error


def test_a_pass_that_breaks_for_all_is_made_for_each(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many pictures for the memory there is, say."""
    encode = gate.engine.family.encode

    def small(batch: Sequence[Any]) -> Any:
        if len(batch) > 1:
            raise MemoryError("too many at once")
        return encode(batch)

    monkeypatch.setattr(gate.engine.family, "encode", small)
    assert [num_tokens(job) for job in gate.together(rows())] == [LENGTH] * 4 and gate.passes == [1] * 4


def test_a_stop_while_pictures_are_encoded_ends_that_question_alone(gate: Gate) -> None:
    gate.may_encode.clear()
    first, second, *others = gate.together(rows())
    assert gate.encodes.wait(WAIT_SECONDS)
    second.stop()
    assert not second.wait(0), "it is the engine's by now"
    gate.may_encode.set()
    assert [num_tokens(job) for job in (first, *others)] == [LENGTH] * 3
    assert num_tokens(second) == 0 and second.progress()[0].completion.stopped and second.error is None  # type: ignore[union-attr]


def test_a_line_that_waits_keeps_no_question_that_has_ended(gate: Gate) -> None:
    """Nor the adapter and the picture that came with it."""
    [job] = gate.together(rows()[:1])
    assert num_tokens(job) == LENGTH
    kept, deadline = weakref.ref(job), time.monotonic() + WAIT_SECONDS
    del job
    while gc.collect() >= 0 and kept() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert kept() is None
