"""Identities of processes: alive, zombie, dead, a reused pid, another boot; and nothing of a start is left behind."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from inference.common.environment import MARK
from training.runs import processes
from training.runs.processes import (
    Identity,
    boot_seconds,
    identity_of,
    is_alive,
    kill_marked,
    log_tail,
    marked,
    own_identity,
    progress_words,
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


@pytest.mark.parametrize(
    ("own", "files", "count"),
    [
        ("0::/", {"memory.events": "low 0\noom 3\noom_kill 2\noom_group_kill 0\n"}, 2),
        ("0::/user.slice", {"user.slice/memory.events": "oom_kill 5\n", "memory.events": "oom_kill 9\n"}, 5),
        ("5:memory,cpu:/a\n0::/", {"memory/a/memory.oom_control": "under_oom 0\noom_kill 4\n"}, 4),
        ("5:memory:/a", {"memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"}, 7),
        ("5:memory:/a", {"memory/memory.oom_control": "under_oom 0\n"}, 1),
        ("0::/", {"memory.events": "oom_kill none\n"}, 1),
        (None, {}, 1),
    ],
)
def test_the_kernels_count_of_kills_is_read_wherever_it_is(own, files, count, tmp_path, monkeypatch) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "vmstat").write_text("nr_free_pages 12\noom_kill 1\n")
    if own is not None:
        (tmp_path / "own").write_text(own + "\n")
    monkeypatch.setattr(processes, "_OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(processes, "_CGROUPS", tmp_path)
    monkeypatch.setattr(processes, "_VM_COUNTERS", tmp_path / "vmstat")
    assert processes.memory_kills() == count
    (tmp_path / "vmstat").unlink()
    assert processes.memory_kills() == (None if count == 1 else count)


HUNGRY = """if True:
    import os, sys, time
    open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
    print(flush=True)
    sys.stdin.readline()
    held = bytearray(200 << 20)
    time.sleep(60)
"""


def test_a_real_kill_for_want_of_memory_is_counted(monkeypatch) -> None:
    """By a cgroup of its own, where this user may make one."""
    here = processes._memory_counters()
    root = next((path.parent for path in here if path.is_file()), None)
    group = root / f"lookthink-{os.getpid()}" if root else Path()
    try:
        assert root is not None
        group.mkdir()
        limit = next(name for name in ("memory.max", "memory.limit_in_bytes") if (group / name).exists())
        (group / limit).write_text(str(40 << 20))
    except (AssertionError, OSError, StopIteration):
        pytest.skip("this user cannot limit the memory of a process here (no cgroup that can be written)")
    monkeypatch.setattr(processes, "_memory_counters", lambda: [group / here[0].name])
    process = subprocess.Popen(
        [sys.executable, "-c", HUNGRY, str(group)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        before = processes.memory_kills()
        assert process.stdout is not None and process.stdout.readline() == "\n"
        process.communicate("go\n", timeout=60)
        assert process.returncode == -signal.SIGKILL and before is not None
        assert processes.memory_kills() == before + 1
    finally:
        process.kill()
        process.wait()
        group.rmdir()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("sampling:  12%|█▏ | 16/128 [00:05<00:35,  3.20completion/s]\r", "sampling: 16 of 128, 0:35 left"),
        ("Loading weights: 100%|███| 116/116 [00:00<00:00, 900.00it/s]\n", "the libraries are being loaded"),
        (
            "reading rows:   0%|   | 0/9 [00:00<?, ?row/s]\rLoading weights: 100%|██| 116/116 [00:00<00:00, 9.0it/s]\r",
            "reading rows: 0 of 9",
        ),
        ("x" * 20 + "oading weights:  50%|█ | 58/116 [00:00<00:01, 9.0it/s]\n", "the libraries are being loaded"),
    ],
)
def test_progress_is_that_of_our_own_bars(said, words, tmp_path, monkeypatch):
    """Also where the end of the log begins in the middle of a line."""
    log = tmp_path / "log"
    log.write_text(said, encoding="utf-8")
    if said.startswith("x"):
        monkeypatch.setattr(processes, "_TAIL_BYTES", len(said.encode()) - 20)
    assert progress_words(log_tail(log)) == words
