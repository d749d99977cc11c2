"""What a run queues and when; a Hub that is down neither ends nor slows it, and gets everything later.

That checkpoints and the result go out while it trains: `test_hub_round_trip.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.hub.client import client_env
from tests.support.hub.faults import Fault
from tests.support.hub.repos import Hub
from tests.support.hub.server import serve
from tests.support.run_folders import add_checkpoint, begun_run
from tests.support.samples import SMALL_RUN
from training.config.run_config import load_config
from training.hub.publish.queue import PublishQueue
from training.hub.publish.retry import PublishRetry
from training.pipeline.publishing import Publishing
from training.pipeline.run import run
from training.runs.folder import RunFolder

REPO = "ann/tuned"
SMALL = SMALL_RUN | {
    "max_steps": 3,
    "max_completion_length": 16,
    "eval_rows": 0,
    "save_steps": 1,
    "data": {"train_rows": 20, "test_rows": 4},
    "publish_to": REPO,
    "publish_every_minutes": 0,
}


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that processes started from here know by their environment."""
    hub = Hub(tokens={"hf_ann_token": "ann"})
    with serve(hub) as url:
        for name, value in client_env(url, tmp_path / "cache", "hf_ann_token").items():
            monkeypatch.setenv(name, value)
        yield hub


def wait_until(is_so: Callable[[], object], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def holds(queue: PublishQueue) -> bool:
    """Whether the queue can be held: the run's own publisher has gone."""
    with queue.held() as mine:
        return mine


def titles(hub: Hub) -> list[str]:
    """What was published, the oldest first."""
    repo = hub.repos.get(("model", REPO))
    return [repo.messages[sha].split(" [")[0] for sha in repo.line(repo.refs["main"])[-2::-1]] if repo else []


@pytest.mark.slow
def test_a_hub_that_is_down_never_ends_a_run_and_the_app_goes_on(
    served: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "home" / "runs" / "night"
    served.faults.append(Fault("503", times=-1))
    run(load_config("starter", SMALL), folder)
    found, queue = RunFolder(folder), PublishQueue(folder)
    assert found.status()["status"] == "succeeded" and [row["step"] for row in found.history()] == [1, 2, 3]
    assert [(item.step, item.is_result) for item in queue.waiting()] == [(1, False), (2, False), (3, False), (3, True)]
    wait_until(lambda: "the Hub answers 503" in queue.state().notice)
    wait_until(lambda: holds(queue))
    served.faults.clear()
    state = queue.state()
    state.next_try = 0.0  # its time has come
    queue.keep(state)
    retry = PublishRetry(folder.parent, first_seconds=0.1)

    def looked_after() -> bool:
        retry.look()
        return not queue.waiting()

    wait_until(looked_after)
    assert titles(served) == [f"Step {step} of run night" for step in (1, 2, 3, 3)], "each, as 0 minutes ask for"
    assert set(served.repos["model", REPO].tags) == {"night"}
    assert queue.state().published and not queue.state().notice


def test_when_a_checkpoint_goes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first, then those that are made after the interval, and the last before a stop."""
    folder = begun_run(tmp_path / "night", publish_to=REPO, publish_every_minutes=30)
    config = RunFolder.open(folder.path)[1]
    monkeypatch.setattr(Publishing, "_start", lambda self: None)
    with Publishing(config, folder) as publishing:
        for step, minutes, is_last, is_queued in ((1, 0, False, True), (2, 29, False, False), (3, 31, False, True)):
            publishing._since -= 60 * minutes
            assert publishing.is_overdue == (minutes > 30)
            publishing.checkpoint(add_checkpoint(folder, step), is_last=is_last)
            assert (publishing.queue.waiting()[-1].step == step) == is_queued
            publishing._since += 60 * minutes * (not is_queued)
        publishing.checkpoint(add_checkpoint(folder, 4), is_last=True)
    assert [item.step for item in publishing.queue.waiting()] == [4]
    again = Publishing(config, folder)
    assert again._since == publishing.queue.waiting()[0].queued_at, "a start of its own does not begin the wait anew"


def test_what_cannot_be_queued_is_said_and_the_run_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = begun_run(tmp_path / "night", publish_to=REPO)
    checkpoint = add_checkpoint(folder, 1)
    (folder.path / "publish").write_text("a file where the queue should be")
    publishing = Publishing(RunFolder.open(folder.path)[1], folder)
    publishing.checkpoint(checkpoint)
    assert "step 1 is not queued for publishing" in caplog.text


def test_a_run_that_goes_nowhere_has_no_queue(tmp_path: Path) -> None:
    folder = begun_run(tmp_path / "night")
    with Publishing(RunFolder.open(folder.path)[1], folder) as publishing:
        publishing.checkpoint(add_checkpoint(folder, 1))
        publishing.result()
    assert not (folder.path / "publish").exists()
