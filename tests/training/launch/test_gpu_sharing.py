"""The app gives way to a run on its card: nobody is left hanging, and answers are the same afterwards."""

import threading
import time
from pathlib import Path

import pytest

from inference.common.errors import Busy
from inference.engine.engine import Engine
from inference.model.request import Request
from inference.server.queue import EngineState, RequestQueue
from tests.support.samples import STARTER, problems
from tests.support.serving import WAIT_SECONDS
from training.config.run_config import load_config
from training.launch.gpu_sharing import CardSharing
from training.runs.estimate.memory import Card
from training.runs.store import RunStore

ROOMY, TIGHT = Card(80e9, 10e9), Card(1.1e9, 0.9e9)


@pytest.fixture(scope="module")
def line() -> RequestQueue:
    """The starter behind a line of its own, since it is moved."""
    line = RequestQueue(lambda: Engine.load(STARTER))
    assert line.wait_loaded(WAIT_SECONDS) is not None
    return line


def a_row(**values: object) -> Request:
    problem = problems(1)[0]
    return Request(problem.image, problem.problem, **values)  # type: ignore[arg-type]


def active_run(home: Path, launcher: str = "local") -> RunStore:
    store = RunStore(home)
    record = store.submit(load_config("starter"), "me")
    assert store.transition(record, "starting", launch="one", launcher=launcher)
    return store


def test_the_model_leaves_the_card_for_a_run_and_comes_back(line: RequestQueue, home: Path) -> None:
    job = line.submit([a_row(seed=1)])
    assert job.wait(WAIT_SECONDS)
    before = job.progress()[0].text
    store = active_run(home)
    way = CardSharing(store, line, lambda: TIGHT)
    busy = line.submit([a_row(min_new_tokens=900, max_new_tokens=900)])
    waiting = line.submit([a_row()])
    way.look()
    assert line.is_resting and line.state is EngineState.RESTING
    for ended in (busy, waiting):
        assert ended.wait(WAIT_SECONDS) and "A run is training on this card" in str(ended.error)
    with pytest.raises(Busy, match="Come back"):
        line.submit([a_row()])
    way.look()
    record = store.active()
    assert record is not None and store.transition(record, "cancelled")
    way.look()
    assert line.state is EngineState.READY
    again = line.submit([a_row(seed=1)])
    assert again.wait(WAIT_SECONDS) and again.progress()[0].text == before


@pytest.mark.parametrize("card", [ROOMY, None])
def test_where_there_is_room_or_no_card_it_goes_on(card: Card | None, line: RequestQueue, home: Path) -> None:
    CardSharing(active_run(home), line, lambda: card).look()
    assert not line.is_resting


def test_a_job_has_a_card_of_its_own(line: RequestQueue, home: Path) -> None:
    CardSharing(active_run(home, "job"), line, lambda: TIGHT).look()
    assert not line.is_resting


def test_nothing_is_moved_while_the_engine_loads(home: Path) -> None:
    gate = threading.Event()

    def load() -> Engine:
        gate.wait(10)
        raise RuntimeError("not needed")

    line = RequestQueue(load)
    CardSharing(active_run(home), line, lambda: TIGHT).look()
    assert not line.is_resting
    gate.set()
    time.sleep(0.01)
