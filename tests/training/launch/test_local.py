"""The launcher against real processes: here quick ones in the trainer's place, in `test_killed_runs` the trainer."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from inference.common.environment import MARK
from inference.common.errors import UserError
from inference.common.files import append_line, write_json
from training.config.run_config import load_config
from training.launch import spawn as spawning
from training.launch.local import LocalLauncher
from training.launch.watcher import Watcher
from training.runs import outcome
from training.runs.folder import RunFolder
from training.runs.processes import identity_of, is_alive, kill_marked, marked, own_identity
from training.runs.record import RunRecord
from training.runs.store import RunStore

CONFIG = load_config("starter", {"max_steps": 20})
PYTHON = sys.executable
SLEEP = "import time; time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); {SLEEP}"
WITH_CHILD = (
    f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True); {SLEEP}"
)


@pytest.fixture
def store(home) -> RunStore:
    return RunStore(home)


@pytest.fixture
def launcher(store, monkeypatch):
    """One whose trainers end at once, with status 1, before they claim anything."""
    monkeypatch.setattr(spawning.sys, "executable", "/bin/false")
    launcher = LocalLauncher(store)
    yield launcher
    for record in store.list():
        assert kill_marked(record.launch)


def running(store: RunStore, code: str = SLEEP, **budget) -> tuple[RunRecord, subprocess.Popen[bytes]]:
    """A run whose process is this code."""
    record = store.submit(CONFIG, "me", **budget)
    launch = f"launch-{record.id}"
    process = subprocess.Popen(
        [PYTHON, "-c", code], env=os.environ | {MARK: launch}, start_new_session=True, stdout=subprocess.PIPE
    )
    store.transition(record, "starting", launch=launch, starter=asdict(own_identity()))
    identity = identity_of(process.pid)
    assert identity is not None and store.claim(record.id, launch, identity)
    return store.get(record.id), process


def end_of(launcher: LocalLauncher, run_id: str, seconds: float = 120) -> RunRecord:
    limit = time.monotonic() + seconds
    while (record := launcher.store.get(run_id)).is_active or record.status == "queued":
        assert time.monotonic() < limit, record
        launcher.reconcile()
        time.sleep(0.05)
    return record


def test_nothing_is_made_where_no_run_was_asked_for(launcher) -> None:
    launcher.reconcile()
    assert not launcher.store.home.exists()


def test_a_trainer_that_never_begins_is_tried_three_times(launcher) -> None:
    first, second = launcher.store.submit(CONFIG, "me"), launcher.store.submit(CONFIG, "me")
    assert launcher.start_next().id == first.id and launcher.start_next() is None
    failed = end_of(launcher, first.id)
    assert (failed.status, failed.deaths) == ("failed", 3)
    assert "died 3 times in a row with no new checkpoint (step 0). Its last words:\nnothing" in failed.reason
    assert end_of(launcher, second.id).status == "failed"
    assert launcher.resume(first.id).status == "starting" and launcher.store.get(first.id).deaths == 0


def test_a_trainer_that_cannot_be_started_is_said(launcher, monkeypatch) -> None:
    monkeypatch.setattr(spawning.sys, "executable", "/no/such/python")
    record = launcher.store.submit(CONFIG, "me")
    launcher.reconcile()
    assert "cannot be started (No such file or directory)" in launcher.store.get(record.id).reason
    assert launcher.store.get(record.id).status == "failed"


@pytest.mark.parametrize("kind", ["killed", "zombie", "reused pid", "another boot"])
def test_a_dead_trainer_is_started_again_and_nothing_of_it_is_left(kind: str, launcher) -> None:
    record, process = running(launcher.store, WITH_CHILD)
    while len(marked(record.launch)) < 2:
        time.sleep(0.02)
    launcher.reconcile()
    assert launcher.store.get(record.id).status == "running"
    if kind == "reused pid":
        launcher.store.update(record, pid=os.getpid())
    elif kind == "another boot":
        launcher.store.update(record, boot_id="another")
    else:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | (os.WNOWAIT if kind == "zombie" else 0))
    launcher.reconcile()
    again = launcher.store.get(record.id)
    assert again.status == "starting" and again.launch != record.launch and marked(record.launch) == []
    assert again.deaths == (0 if kind == "another boot" else 1) and "started again from step 0" in again.reason
    process.wait()


@pytest.mark.parametrize(
    ("before", "now", "status"),
    [("ValueError: n_gpu is 2", "ValueError: n_gpu is 2", "failed"), ("OSError: busy", "ValueError: no", "starting")],
)
def test_a_run_that_dies_twice_of_one_exception_before_its_first_step(before, now, status, launcher) -> None:
    """It is not started a third time; a death of another exception is."""
    record, process = running(launcher.store)
    launcher.store.update(record, deaths=1, exception=before)
    process.kill()
    process.wait()
    write_json(record.folder / "exit.json", {"launch": record.launch, "status": 1, "reason": now})
    launcher.reconcile()
    found = launcher.store.get(record.id)
    assert (found.status, found.exception, found.deaths) == (status, now, 2)
    assert ("died twice of the same exception before its first step" in found.reason) is (status == "failed")


def test_a_new_checkpoint_forgives_earlier_deaths(launcher) -> None:
    record, process = running(launcher.store)
    launcher.store.update(record, deaths=2)
    folder = RunFolder(record.folder)
    checkpoint = folder.checkpoints / "checkpoint-5"
    checkpoint.mkdir()
    folder.mark_complete(checkpoint, 3)
    process.kill()
    process.wait()
    launcher.reconcile()
    again = launcher.store.get(record.id)
    assert (again.status, again.deaths, again.checkpoint_step) == ("starting", 1, 5)


def test_the_word_of_a_trainer_counts_whoever_started_it(launcher) -> None:
    record, process = running(launcher.store)
    append_line(record.folder / "metrics.jsonl", {"step": 20, "reward": 1.0})
    said = {"launch": record.launch, "status": 0, "reason": "", "seconds": 7200}
    (record.folder / outcome.EXIT).write_text(json.dumps(said))
    process.kill()
    process.wait()
    launcher.reconcile()
    ended = launcher.store.get(record.id)
    assert (ended.status, ended.step, ended.hours, ended.metrics["reward"]) == ("succeeded", 20, 2.0, 1.0)


def test_a_launcher_that_was_killed_before_it_made_the_process_loses_nothing(launcher) -> None:
    gone = subprocess.Popen([PYTHON, "-c", SLEEP])
    starter = identity_of(gone.pid)
    record = launcher.store.submit(CONFIG, "me")
    launcher.store.transition(record, "starting", launch="one", starter=asdict(starter))
    launcher.reconcile()
    assert launcher.store.get(record.id).launch == "one"  # it may be about to
    gone.kill()
    gone.wait()
    launcher.reconcile()
    again = launcher.store.get(record.id)
    assert again.status == "starting" and again.launch != "one" and again.deaths == 0


def test_a_process_whose_launcher_was_killed_is_waited_for(launcher) -> None:
    record = launcher.store.submit(CONFIG, "me")
    orphan = subprocess.Popen([PYTHON, "-c", SLEEP], env=os.environ | {MARK: "one"})
    starter = {"pid": 2**22 + 1, "created": 1.0, "boot_id": own_identity().boot_id}
    launcher.store.transition(record, "starting", launch="one", starter=starter)
    while not marked("one"):
        time.sleep(0.02)
    launcher.reconcile()
    assert launcher.store.get(record.id).launch == "one" and launcher.store.get(record.id).status == "starting"
    orphan.kill()
    orphan.wait()


def test_cancelling_asks_then_kills_the_whole_group(launcher, monkeypatch) -> None:
    record, process = running(launcher.store, DEAF)
    assert process.stdout is not None and process.stdout.readline() == b"deaf\n"
    stopping = launcher.cancel(record.id)
    assert stopping.status == "stopping"
    launcher.reconcile()
    assert is_alive(identity_of(process.pid)) and launcher.cancel(record.id).status == "stopping"
    monkeypatch.setattr(outcome, "MIN_GRACE_SECONDS", 0.0)
    ended = end_of(launcher, record.id)
    assert ended.status == "cancelled" and process.wait(60) == -signal.SIGKILL
    with pytest.raises(UserError, match="is cancelled; there is nothing to cancel"):
        launcher.cancel(record.id)
    assert launcher.resume(record.id).status == "starting"


def test_cancelling_takes_a_waiting_run_out_of_the_queue(launcher) -> None:
    record = launcher.store.submit(CONFIG, "me")
    assert launcher.cancel(record.id).reason == "withdrawn from the queue"


def test_a_stop_that_was_noted_but_not_sent_is_sent(launcher) -> None:
    record, process = running(launcher.store)
    launcher.store.transition(record, "stopping", stop_for="cancel", stop_asked=0.0)
    launcher.reconcile()
    assert process.wait(60) == -signal.SIGTERM
    assert end_of(launcher, record.id).status == "cancelled"


def test_a_budget_stops_a_run_before_it_is_exceeded(launcher) -> None:
    record, process = running(launcher.store, max_dollars=2, dollars_per_hour=1)
    launcher.reconcile()
    assert launcher.store.get(record.id).status == "running"
    launcher.store.update(record, hours_before=1.9999)  # 0.4 s are left of 2 h
    launcher.reconcile()
    ended = end_of(launcher, record.id)
    assert ended.status == "interrupted" and "the budget of 2.00 h is used up" in ended.reason
    assert ended.hours < 2.01 and process.wait(60) == -signal.SIGTERM


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_a_clock_that_jumps_changes_nothing(jump: float, launcher, monkeypatch) -> None:
    record, process = running(launcher.store, max_hours=1)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    launcher.reconcile()
    seen = launcher.store.get(record.id)
    assert (seen.status, seen.launch) == ("running", record.launch) and 0 <= seen.hours < 0.1
    process.kill()
    process.wait()
    launcher.reconcile()
    assert launcher.store.get(record.id).status == "starting"


def test_a_run_whose_folder_is_taken_away_while_it_trains_is_lost_not_forgotten(launcher, tmp_path) -> None:
    record, process = running(launcher.store)
    record.folder.rename(tmp_path / "taken")
    launcher.reconcile()
    assert launcher.store.get(record.id).status == "running"  # it does
    process.kill()
    process.wait()
    launcher.reconcile()
    assert launcher.store.get(record.id).status == "lost" and "is gone" in launcher.store.get(record.id).reason


def test_the_records_are_made_anew_under_a_run_that_goes_on(launcher) -> None:
    record, process = running(launcher.store)
    word = asdict(identity_of(process.pid)) | {"launch": record.launch, "seconds": 3}
    (record.folder / "process.json").write_text(json.dumps(word))
    (launcher.store.home / "runs.sqlite3").write_bytes(b"x" * 9000)
    launcher.reconcile()
    seen = launcher.store.get(record.id)
    assert (seen.status, seen.pid, seen.launch) == ("running", process.pid, record.launch)
    assert launcher.store.active() == seen and "set aside" in str(launcher.store.notice)


def test_the_watcher_says_what_is_wrong_and_goes_on(launcher) -> None:
    (launcher.store.home / "runs.sqlite3").mkdir(parents=True)
    watcher = Watcher(launcher, every_seconds=0.05)
    watcher.start()
    limit = time.monotonic() + 120
    while watcher.trouble is None:
        assert time.monotonic() < limit
        time.sleep(0.01)
    assert "make the folder writable" in watcher.trouble
    (launcher.store.home / "runs.sqlite3").rmdir()
    while watcher.trouble is not None:
        assert time.monotonic() < limit
        time.sleep(0.01)
    watcher.stop()


def test_two_launchers_that_find_the_same_death_start_one_process(launcher) -> None:
    record, process = running(launcher.store)
    process.kill()
    process.wait()
    seen = launcher.store.get(record.id)
    launcher.reconcile()
    started = launcher.store.get(record.id)
    LocalLauncher(launcher.store)._attend_dead(seen)  # what another process saw a moment before
    assert launcher.store.get(record.id).launch == started.launch
