"""A Space stays awake while a run trains in it, and its sleep timer comes back however the run and the app end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inference.common.settings import load_settings
from tests.support.hub.client import Client
from tests.support.hub.faults import KINDS, Fault
from tests.support.hub.repos import Hub
from tests.support.hub.spaces import Space, space_of
from training.hub.space.sleep_timer import FILE, SleepTimer

ENV = {"SPACE_ID": "me/look", "HF_TOKEN": "hf_me"}


@pytest.fixture
def space(hub: Hub, hub_client: Client) -> Space:
    """A Space of `me` that sleeps after an hour."""
    hub.tokens["hf_me"] = "me"
    hub.repo("space", "me/look").commit({"app.py": b""})
    found = space_of(hub, "me/look")
    found.hardware, found.sleep_seconds = "a100-large", 3600
    return found


@pytest.fixture
def start(home: Path, tmp_path: Path) -> Iterator[Callable[..., SleepTimer]]:
    """Starts an app's timer; what it keeps is in the home and in the bucket."""
    timers = []
    (tmp_path / "state").mkdir()

    def start_one(env: dict[str, str] = ENV, **options: float) -> SleepTimer:
        settings = load_settings(env={"LOOKTHINK_HOME": str(home), "LOOKTHINK_STATE": str(tmp_path / "state")})
        timers.append(SleepTimer(settings, env, **({"first_wait": 0.02} | options)))
        return timers[-1]

    yield start_one
    for timer in timers:
        timer.stop()


def wait_for(is_so: Callable[[], bool], seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


def is_kept(home: Path) -> bool:
    return (home / FILE).exists() or (home.parent / "state" / FILE).exists()


def test_off_while_a_run_trains_and_back_afterwards(space: Space, start: Callable[..., SleepTimer], home: Path) -> None:
    timer = start()
    timer.set_training(False)
    timer.set_training(True)
    wait_for(lambda: space.sleep_seconds == -1)
    assert json.loads((home / FILE).read_text())["before_seconds"] == 3600
    timer.set_training(True)
    timer.set_training(False)
    wait_for(lambda: space.sleep_seconds == 3600 and not is_kept(home))
    assert (timer.note, space.restarts) == ("", 0)


@pytest.mark.parametrize(
    ("lost", "seconds"), [((), 3600), (("home",), 3600), (("state",), 3600), (("home", "state"), 1800)]
)
def test_the_next_app_sets_it_again(
    space: Space, start: Callable[..., SleepTimer], home: Path, tmp_path: Path, lost: tuple[str, ...], seconds: int
) -> None:
    first = start()
    first.set_training(True)
    wait_for(lambda: space.sleep_seconds == -1)
    first.stop()
    for name in lost:  # what is left where both are gone is the Space itself, and space.yaml
        (tmp_path / name / FILE).unlink()
    second = start()
    second.set_training(False)
    wait_for(lambda: space.sleep_seconds == seconds and not is_kept(home))


def test_a_run_that_goes_on_after_a_restart_stays_awake(
    space: Space, start: Callable[..., SleepTimer], home: Path
) -> None:
    first = start()
    first.set_training(True)
    wait_for(lambda: space.sleep_seconds == -1)
    first.stop()
    second = start(recheck=0.02)
    second.set_training(True)
    time.sleep(0.1)
    assert space.sleep_seconds == -1 and is_kept(home)
    space.sleep_seconds = 900  # its owner, on the Space's page
    wait_for(lambda: space.sleep_seconds == -1)
    second.set_training(False)
    wait_for(lambda: space.sleep_seconds == 900)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"before_seconds": "x"}', '{"before_seconds": -5}'])
def test_a_file_that_was_half_written_is_no_sleep_time(
    space: Space, start: Callable[..., SleepTimer], home: Path, content: str
) -> None:
    home.mkdir()
    (home / FILE).write_text(content)
    space.sleep_seconds = -1
    start().set_training(False)
    wait_for(lambda: space.sleep_seconds == 1800)


def test_what_the_owner_has_set_stays(hub: Hub, space: Space, start: Callable[..., SleepTimer]) -> None:
    start().set_training(False)
    wait_for(lambda: ("GET", "/api/spaces/me/look/runtime") in hub.requests)
    time.sleep(0.05)
    assert space.sleep_seconds == 3600
    assert not [path for method, path in hub.requests if method == "POST"]


RUNTIME, SLEEPTIME = "GET .*/runtime", "POST .*/sleeptime"
FAULTS = [(kind, where) for where in (RUNTIME, SLEEPTIME) for kind in KINDS if kind != "slow"]
SAMPLE = [("refused", RUNTIME), ("lost", SLEEPTIME), ("429", SLEEPTIME)]


@pytest.mark.torture(sampled=True)
@pytest.mark.parametrize(("kind", "where"), FAULTS if os.environ.get("LOOKTHINK_TORTURE") else SAMPLE)
def test_after_a_fault_it_is_tried_again(
    hub: Hub, space: Space, start: Callable[..., SleepTimer], home: Path, kind: str, where: str
) -> None:
    timer = start()
    hub.faults.append(Fault(kind, where, times=2))
    timer.set_training(True)
    wait_for(lambda: space.sleep_seconds == -1 and timer.note == "" and hub.faults[0].times < 2)
    hub.faults[:] = [Fault(kind, where, times=2)]
    timer.set_training(False)
    wait_for(lambda: space.sleep_seconds == 3600 and timer.note == "" and not is_kept(home))


def test_what_cannot_be_done_is_said(hub: Hub, space: Space, start: Callable[..., SleepTimer]) -> None:
    timer = start()
    hub.failure = 503
    timer.set_training(True)
    wait_for(lambda: "may fall asleep" in timer.note and "out of order" in timer.note)
    timer.stop()
    hub.failure = None
    without = start({"SPACE_ID": "me/look"})
    without.set_training(True)
    assert "no secret HF_TOKEN" in without.note
    without.set_training(False)
    assert without.note == ""
    space.hardware = "cpu-basic"
    free = start()
    free.set_training(True)
    wait_for(lambda: "48 hours" in free.note)


def test_a_bucket_that_refuses_does_not_let_a_run_fall_asleep(
    space: Space, start: Callable[..., SleepTimer], home: Path, tmp_path: Path
) -> None:
    (tmp_path / "state" / FILE).mkdir()
    timer = start()
    timer.set_training(True)
    wait_for(lambda: space.sleep_seconds == -1 and timer.note == "")
    timer.set_training(False)
    wait_for(lambda: space.sleep_seconds == 3600 and not (home / FILE).exists() and timer.note == "")


def test_a_mount_that_is_missing_becomes_no_folder(
    space: Space, start: Callable[..., SleepTimer], home: Path, tmp_path: Path
) -> None:
    (tmp_path / "state").rmdir()
    start().set_training(True)
    wait_for(lambda: space.sleep_seconds == -1)
    assert (home / FILE).is_file() and not (tmp_path / "state").exists()


def test_off_a_space_the_hub_is_not_asked(hub: Hub, space: Space, start: Callable[..., SleepTimer]) -> None:
    timer = start({"HF_TOKEN": "hf_me"})
    timer.set_training(True)
    assert hub.requests == [] and timer.note == ""
