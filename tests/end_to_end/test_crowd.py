"""Thirty visitors at once: each gets an answer or a clear "busy"; whoever leaves frees a place; memory is bounded.

`make torture` asks 500 times while a run trains on the same machine, and 1,000 times for 100 visitors.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.engine.engine import Engine
from tests import ROOT
from tests.support.app_process import Process
from tests.support.crowd import Visitor, ask_at_once
from tests.support.samples import problems
from tests.support.serving import WAIT_SECONDS, Server, serve

THIRTY = range(2, 32)
GROWTH_MB = 40.0
"""What the app may grow by over 500 questions once it is warm: 80 kB a question would be too much."""


@pytest.fixture(scope="module")
def server(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One question at a time, so that there is a line."""
    with serve(engine, tmp_path_factory.mktemp("crowd") / "home", None, max_num_seqs=1) as running:
        yield running


@pytest.fixture(scope="module")
def picture(server: Server) -> dict[str, Any]:
    return Visitor(server.url, 2).upload(problems(1, seed=3)[0].image)


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.02)


def test_thirty_visitors_at_once(server: Server, picture: dict[str, Any]) -> None:
    visits = ask_at_once(server.url, picture, THIRTY)
    outcomes = Counter(visit.outcome for visit in visits)
    assert len(visits) == 30 and set(outcomes) <= {"answered", "busy"}, outcomes
    assert outcomes["answered"] >= 20
    assert any(visit.saw_place for visit in visits)
    assert server.service.queue.num_waiting == 0


def test_whoever_hangs_up_frees_the_place(server: Server, picture: dict[str, Any]) -> None:
    line = server.service.queue
    first, second, third = (Visitor(server.url, number) for number in (2, 3, 4))
    with server.steered(is_endless=True):
        with contextlib.ExitStack() as streams:
            first.join(picture, 1000).raise_for_status()
            streams.enter_context(first.stream())
            wait_until(lambda: line.is_answering)
            second.join(picture, 1000).raise_for_status()
            with second.stream() as lines:
                assert any(" ahead" in text for text in lines)
                assert line.num_waiting == 1
            wait_until(lambda: line.num_waiting == 0)
            assert line.is_answering  # the first one's question goes on
            third.join(picture, 1000).raise_for_status()
            hung_up = streams.enter_context(contextlib.ExitStack())
            hung_up.enter_context(third.stream())
            wait_until(lambda: line.num_waiting == 1)
        wait_until(lambda: not line.is_answering and line.num_waiting == 0)


def test_one_visitor_cannot_take_the_line(server: Server, picture: dict[str, Any]) -> None:
    with server.steered(is_endless=True):
        mine = [Visitor(server.url, 2) for _ in range(9)]
        with contextlib.ExitStack() as streams:
            for visitor in mine[:8]:
                visitor.join(picture, 1000).raise_for_status()
                streams.enter_context(visitor.stream())
            wait_until(lambda: server.service.queue.num_waiting == 7)
            assert mine[8].ask(picture).outcome == "busy"
            Visitor(server.url, 3).join(picture, 4).raise_for_status()  # another one has a place
            wait_until(lambda: server.service.queue.num_waiting == 8)
    wait_until(lambda: not server.service.queue.is_answering)


@pytest.mark.slow
@pytest.mark.torture
def test_a_thousand_questions_of_a_hundred_visitors(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """Each asks ten in a row; nobody is refused, and whoever waits is told how many are ahead."""
    process = Process(tmp_path / "home")
    try:
        process.wait_for("Admin token")
        process.wait_ready()
        picture = Visitor(process.url, 2).upload(problems(1, seed=3)[0].image)
        ask_at_once(process.url, picture, THIRTY)
        before, begun = process.resident_mb(), time.monotonic()
        visits = ask_at_once(process.url, picture, range(2, 102), tokens=32, questions=10)
        growth, seconds = process.resident_mb() - before, time.monotonic() - begun
        p95 = sorted(visit.seconds for visit in visits)[int(0.95 * len(visits))]
    finally:
        process.popen.kill()
        process.popen.wait()
    outcomes = Counter(visit.outcome for visit in visits)
    waited = sum(visit.saw_place for visit in visits)
    figure(
        f"{len(visits)} questions of 100 visitors: {outcomes['answered']} answered, {waited} of them told "
        f"their place before, in {seconds:.0f} s; p95 {p95:.1f} s; memory {growth:+.0f} MB"
    )
    assert outcomes == {"answered": 1000}


@pytest.mark.slow
@pytest.mark.torture
def test_five_hundred_questions_while_a_run_trains(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """The app in a process of its own; it is warm once it keeps as many sessions as it ever does."""
    command = [sys.executable, "-m", "training", "train", "--folder", str(tmp_path / "run"), "--max-steps", "5000"]
    process = Process(tmp_path / "home")
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait_for("Admin token")
        process.wait_ready()
        picture = Visitor(process.url, 2).upload(problems(1, seed=3)[0].image)
        warm = [visit for _ in range(9) for visit in ask_at_once(process.url, picture, THIRTY)]
        before, begun = process.resident_mb(), time.monotonic()
        visits = [visit for _ in range(17) for visit in ask_at_once(process.url, picture, THIRTY)]
        growth, seconds = process.resident_mb() - before, time.monotonic() - begun
        assert run.poll() is None, "the run ended too early"
    finally:
        run.send_signal(signal.SIGTERM)
        process.popen.kill()
        process.popen.wait()
        run.wait(WAIT_SECONDS)
    outcomes = Counter(visit.outcome for visit in visits)
    figure(
        f"{len(visits)} questions, 30 at once, while a run trains: {outcomes['answered']} answered, "
        f"{outcomes['busy']} told that it is busy, in {seconds:.0f} s; the longest wait "
        f"{max(visit.seconds for visit in visits):.1f} s; memory {growth:+.0f} MB"
    )
    assert {visit.outcome for visit in [*warm, *visits]} <= {"answered", "busy"}
    assert len(visits) == 17 * 30 and growth < GROWTH_MB
