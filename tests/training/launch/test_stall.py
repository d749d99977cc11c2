"""A run that makes no step is told of, ended at a checkpoint, resumed once, and then failed."""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace
from typing import Any

import pytest

from inference.common.files import append_line, write_json
from tests.training.launch.test_local import CONFIG, DEAF, PYTHON, SLEEP, end_of, launcher, running, store
from training.launch import stall
from training.launch.local import LocalLauncher
from training.launch.stall import StallWatch, limit_seconds
from training.runs import outcome
from training.runs.folder import RunFolder
from training.runs.processes import identity_of
from training.runs.record import RunRecord

__all__ = ["launcher", "store"]  # fixtures


def train(record: RunRecord, step_seconds: float = 0.01) -> RunFolder:
    """Puts the files of a run in training into the folder of one whose process waits."""
    folder = RunFolder(record.folder)
    folder.set_status("running", "training", 0)
    append_line(folder.metrics, {"step": 1, "step_time": step_seconds})
    return folder


def test_the_limit_is_a_multiple_of_the_usual_step(store: Any) -> None:
    record = store.submit(CONFIG.model_copy(update={"stall_factor": 30.0}), "me")
    assert limit_seconds(record) is None, "no step is known"
    write_json(record.folder / outcome.ESTIMATE, {"step_seconds": 40.0})
    assert limit_seconds(record) == 1200
    for seconds in (50.0, 60.0, 70.0):
        append_line(record.folder / "metrics.jsonl", {"step": 1, "step_time": seconds})
    assert limit_seconds(record) == 1800
    off = record.run_config.model_copy(update={"stall_factor": 0.0})
    assert limit_seconds(replace(record, config=off.model_dump_json())) is None
    for step in range(2, 6):
        append_line(record.folder / "metrics.jsonl", {"step": step, "step_time": 1.0})
    assert limit_seconds(record) == stall.MIN_STALL_SECONDS


def test_only_a_run_in_training_stalls_and_each_step_begins_anew(store: Any) -> None:
    record = store.submit(CONFIG, "me")
    folder, now = train(record, step_seconds=40.0), 0.0
    watch = StallWatch(lambda: now)
    assert watch.look(record) is None
    now = 399.0
    assert watch.look(record) is None
    now = 401.0
    told = watch.look(record)
    assert told is not None and not told.is_over and "after 13 minutes it is ended" in told.words
    append_line(folder.metrics, {"step": 2, "step_time": 401.0})
    assert watch.look(record) is None
    now = 401 + 40 * 20 * 6.0
    found = watch.look(record)
    assert found is not None and found.is_over and "one usually takes 220 s" in found.words
    folder.set_status("running", "evaluating the adapter", 2)
    now += 1e6
    assert watch.look(record) is None, "a stage has begun"
    now += 1e6
    assert watch.look(record) is None, "no step is due in this stage"


@pytest.mark.parametrize("code", [SLEEP, DEAF], ids=["ends at a signal", "is killed"])
def test_a_stall_is_told_ended_resumed_once_and_then_failed(code: str, launcher: LocalLauncher, monkeypatch) -> None:
    monkeypatch.setattr(stall, "MIN_STALL_SECONDS", 0.6)
    monkeypatch.setattr(outcome, "MIN_GRACE_SECONDS", 0.3)
    record, process = running(launcher.store, code)
    if code == DEAF:
        assert process.stdout is not None and process.stdout.readline() == b"deaf\n"
    train(record)
    reasons = follow(launcher, record, process)
    assert any("after 1 s it is ended at a checkpoint and resumed" in reason for reason in reasons), reasons
    again = launcher.store.get(record.id)
    assert again.stalls == 1 and again.launch != record.launch and again.deaths == 0
    assert again.reason.startswith("it was resumed from step 0: no step has ended for")
    second = subprocess.Popen([PYTHON, "-c", SLEEP])
    identity = identity_of(second.pid)
    assert identity is not None and launcher.store.claim(record.id, again.launch, identity)
    second.kill()
    second.wait()
    stalled = {"stop_for": "stall", "reason": "no step has ended for 9 minutes"}
    assert launcher.store.transition(launcher.store.get(record.id), "stopping", **stalled) is not None
    failed = end_of(launcher, record.id)
    assert (failed.status, failed.stalls) == ("failed", 2)
    assert failed.reason.startswith("stalled again after it was resumed (no step has ended for 9 minutes), at step 0.")
    assert "raise stall_factor" in failed.reason
    launcher.store.requeue(record.id)
    assert launcher.store.get(record.id).stalls == 0


def follow(launcher: LocalLauncher, record: RunRecord, process: subprocess.Popen[bytes]) -> list[str]:
    """Reconciles until the run is started again; every reason that was seen."""
    reasons: list[str] = []
    limit = time.monotonic() + 120
    while (now := launcher.store.get(record.id)).launch == record.launch:
        assert time.monotonic() < limit and now.is_active, now
        reasons += [now.reason] if now.reason not in reasons else []
        launcher.reconcile()
        time.sleep(0.02)
    process.wait()
    return reasons
