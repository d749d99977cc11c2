"""Questions that begin together: one tower pass for their pictures, and nobody pays for another's broken one."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from inference.common.settings import STARTER
from inference.engine.engine import Engine
from inference.model.request import Row
from inference.server.job import Job
from inference.server.queue import Line
from tests.support.samples import problems

LENGTH = 3
WAIT_SECONDS = 180
"""How long anything may take on a busy machine."""


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
        self.line = Line(self._load)

    def _load(self) -> Engine:
        assert self.may_load.wait(WAIT_SECONDS)
        return self.engine

    def together(self, rows: Sequence[Row]) -> list[Job]:
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


def rows() -> list[Row]:
    options: dict[str, Any] = {"max_new_tokens": LENGTH, "min_new_tokens": LENGTH}
    return [Row(p.image.convert("RGB"), p.problem, **options) for p in problems(4, seed=21)]


def num_tokens(job: Job) -> int | None:
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
