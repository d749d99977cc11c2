"""Identities of processes: alive, zombie, dead, a reused pid, another boot; and nothing of a start is left behind."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from inference.common.environment import MARK
from training.runs.processes import (
    Identity,
    boot_seconds,
    identity_of,
    is_alive,
    kill_marked,
    marked,
    own_identity,
    send,
)

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def sleeper():
    process = subprocess.Popen(SLEEP, start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_this_process_is_alive_and_younger_than_the_machine() -> None:
    own = own_identity()
    assert is_alive(own) and 0 < own.created < boot_seconds()


def test_a_zombie_is_dead(sleeper) -> None:
    identity = identity_of(sleeper.pid)
    assert is_alive(identity)
    os.kill(sleeper.pid, signal.SIGKILL)
    end = time.monotonic() + 120
    while is_alive(identity):  # nobody has waited for it: its pid is still there
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(sleeper.pid, 0)
    assert identity_of(sleeper.pid) is None and not send(identity, signal.SIGTERM)


@pytest.mark.parametrize("other", [{"created": 1.0}, {"boot_id": "another"}, {"pid": 2**22 + 1}])
def test_another_process_of_this_pid_is_not_it(other: dict, sleeper) -> None:
    identity = identity_of(sleeper.pid)
    assert identity is not None
    stranger = replace(identity, **other)
    assert not is_alive(stranger)
    assert not send(stranger, signal.SIGKILL)
    assert sleeper.poll() is None


def test_a_clock_that_is_set_changes_no_identity(sleeper, monkeypatch) -> None:
    before = identity_of(sleeper.pid)
    monkeypatch.setattr(time, "time", lambda: 1e6)
    assert identity_of(sleeper.pid) == before and is_alive(before)


@pytest.mark.parametrize(
    "values", [None, [], {}, {"pid": "x", "created": 1, "boot_id": ""}, {"pid": 1, "created": None}]
)
def test_what_is_no_identity(values) -> None:
    assert Identity.from_json(values) is None


def test_every_process_of_a_start_is_found_and_killed_and_no_other(sleeper) -> None:
    code = f"import subprocess, sys; subprocess.Popen({SLEEP!r}, start_new_session=True); subprocess.run({SLEEP!r})"
    launch = f"test-{os.getpid()}"
    parent = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {MARK: launch}, start_new_session=True)
    end = time.monotonic() + 120
    while len(marked(launch)) < 3:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert kill_marked(launch)
    assert parent.wait(120) == -signal.SIGKILL
    assert marked(launch) == [] and sleeper.poll() is None
