"""Records from run folders: of a lost database, of runs begun by hand, of folders edited by hand, gone or come back."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from inference.common.files import read_json
from training.config.run_config import load_config
from training.runs.folder import RunFolder
from training.runs.outcome import progress
from training.runs.processes import boot_id, identity_of, own_identity
from training.runs.record import RunRecord
from training.runs.recovery import REQUEST, record_of
from training.runs.snapshot import RunWatch
from training.runs.store import RunStore
from training.runs.upkeep import delete_run, record_by_hand, record_lost, running_by_hand

CONFIG = load_config("starter", {"max_steps": 20})
HOLD = "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); time.sleep(600)"
"""A program that holds a run folder's lock as a trainer does."""


@pytest.fixture
def store(home) -> RunStore:
    return RunStore(home)


@pytest.fixture
def record(store) -> RunRecord:
    return store.submit(CONFIG, "me")


def forget_all(store: RunStore) -> None:
    for path in store.home.glob("runs.sqlite3*"):
        path.unlink(missing_ok=True)


def test_the_database_may_be_deleted_at_any_moment(store) -> None:
    def check() -> list[RunRecord]:
        before = store.list()
        forget_all(store)
        assert store.list() == before == RunStore(store.home).list()
        return before

    store.submit(CONFIG, "me", max_hours=2)
    check()
    other = store.submit(CONFIG, "you", promote=True)
    first = store.transition(check()[1], "starting", launch="one", starter=asdict(own_identity()))
    check()
    assert first is not None and not store.claim(first.id, "other", own_identity())
    assert store.claim(first.id, "one", own_identity())
    (first.folder / "process.json").write_text(json.dumps(asdict(own_identity()) | {"launch": "one"}))
    running = check()[1]
    assert store.transition(other, "starting") is None  # one is active
    assert store.update(running, job={"id": "abc"}) is not None
    stopping = store.transition(check()[1], "stopping", stop_for="cancel", stop_asked=1.0, reason="cancelled")
    assert stopping is not None and store.update(stopping, stop_sent=True) is not None
    check()
    (first.folder / "process.json").unlink()
    store.transition(store.get(first.id), "cancelled", reason="cancelled at step 3", ended_at=time.time(), hours=1.5)
    assert [record.status for record in check()] == ["queued", "cancelled"]
    store.requeue(first.id)
    assert [record.id for record in check()] == [first.id, other.id]  # at the end of the queue
    store.withdraw(other.id)
    RunFolder.create(store.folder / "by-hand", CONFIG).set_status("succeeded", step=7)
    store.adopt_folders()
    assert {record.id for record in check()} == {first.id, other.id, "by-hand"}
    delete_run(store, other.id)
    assert {record.id for record in check()} == {first.id, "by-hand"}


def test_the_database_is_deleted_again_and_again_while_runs_are_submitted(store) -> None:
    """Whatever a submission met, its folder is whole, and so it is listed."""
    code = f"""if True:
        from pathlib import Path
        from training.config.run_config import load_config
        from training.runs.store import RunStore
        for _ in range(25):
            print(RunStore(Path({str(store.home)!r})).submit(load_config("starter"), "other").id, flush=True)
    """
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    submitted = set()
    for line in process.stdout:
        submitted.add(line.strip())
        forget_all(store)
    assert process.wait(120) == 0 and len(submitted) == 25
    store.adopt_folders()
    assert {record.id for record in store.list()} == submitted


@pytest.mark.parametrize("said", ["queued", "running", "succeeded"])
def test_a_run_whose_process_lives_is_running_whatever_its_copy_says(said: str, store, record) -> None:
    copy = json.loads((record.folder / REQUEST).read_text())
    (record.folder / REQUEST).write_text(json.dumps(copy | {"status": said, "launch": "old"}))
    (record.folder / "process.json").write_text(json.dumps(asdict(own_identity()) | {"launch": "now"}))
    found = record_of(record.folder)
    assert found is not None and (found.status, found.pid, found.launch) == ("running", os.getpid(), "now")


def test_two_that_say_they_are_active_do_not_become_so(store) -> None:
    first, second = store.submit(CONFIG, "me"), store.submit(CONFIG, "me")
    for record in (first, second):
        copy = json.loads((record.folder / REQUEST).read_text())
        (record.folder / REQUEST).write_text(json.dumps(copy | {"status": "running"}))
    (second.folder / "process.json").write_text(json.dumps(asdict(own_identity()) | {"launch": "now"}))
    forget_all(store)
    store.adopt_folders()
    assert store.get(second.id).status == "running"  # it is the one that lives
    assert store.get(first.id).status == "interrupted" and "another run was active" in store.get(first.id).reason


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"status": 3}', '{"status": "flying", "number": "x"}'])
def test_a_request_edited_into_nonsense_loses_the_request_alone(text: str, store, record) -> None:
    (record.folder / REQUEST).write_text(text)
    found = record_of(record.folder)
    assert found is not None and found.status == "interrupted" and "cannot be read" in found.reason
    assert found.run_config == CONFIG and found.id == record.id


@pytest.mark.parametrize(
    "changes", [{"hours": "many"}, {"hours": float("inf")}, {"pid": True}, {"metrics": []}, {"id": "../x"}]
)
def test_values_that_do_not_fit_are_left_out(changes: dict, store, record) -> None:
    copy = json.loads((record.folder / REQUEST).read_text())
    (record.folder / REQUEST).write_text(json.dumps(copy | changes))
    assert record_of(record.folder) == record


@pytest.mark.parametrize("text", ["{", '{"max_steps": "none"}', ""])
def test_a_configuration_edited_into_nonsense(text: str, store, record) -> None:
    (record.folder / "config.json").write_text(text)
    found = record_of(record.folder)
    assert found is not None and found.run_config == CONFIG  # its copy in the request
    (record.folder / REQUEST).write_text("{}")
    broken = record_of(record.folder)
    assert broken is not None and broken.status == "failed" and "config.json cannot be read" in broken.reason


def test_a_run_begun_by_hand_is_adopted_when_it_has_ended(store) -> None:
    by_hand = RunFolder.create(store.folder / "20260101-000000", CONFIG)
    store.adopt_folders()
    assert store.list() == []  # it has not begun
    trainer = subprocess.Popen([sys.executable, "-c", HOLD, str(by_hand.path / "lock")])
    try:
        by_hand.set_status("running")
        end = time.monotonic() + 120
        while running_by_hand(store) is None:  # until it holds the lock
            assert time.monotonic() < end
            time.sleep(0.01)
        store.adopt_folders()
        assert running_by_hand(store) == by_hand.path and store.list() == []
    finally:
        trainer.kill()
        trainer.wait()
    assert running_by_hand(store) is None
    store.adopt_folders()
    (found,) = store.list()
    assert (found.status, found.asked_by) == (
        "interrupted",
        "the command line",
    ) and "without giving a reason" in found.reason


@pytest.mark.parametrize("status", ["succeeded", "failed", "interrupted"])
def test_how_a_run_by_hand_ended_is_kept(status, store) -> None:
    by_hand = RunFolder.create(store.folder / "mine", CONFIG)
    by_hand.set_status(status, "so it was", 7)
    store.adopt_folders()
    (found,) = store.list()
    assert (found.id, found.status, found.reason, found.step) == ("mine", status, "so it was", 7)
    assert (found.max_steps, found.max_hours, found.started_at) == (20, CONFIG.max_hours, None)


@pytest.mark.parametrize(
    ("starts", "began", "hours"),
    [
        ([{"time": 1e9, "seconds": 249.0}], 1e9, 249 / 3600),
        ([{"time": 1e9, "seconds": 600}, {"time": 2e9, "seconds": 3000, "by": "x"}, 3, {"seconds": "x"}], 1e9, 1.0),
        ([{"seconds": -3, "time": 10**400}, {"seconds": 10**400, "time": float("nan")}], None, 0.0),
        ("soon", None, 0.0),
    ],
)
def test_a_run_by_hand_began_and_took_what_its_hours_say(starts, began, hours, store, record) -> None:
    folder = RunFolder.create(store.folder / "mine", CONFIG)
    folder.set_status("succeeded", step=20)
    (folder.path / "hours.json").write_text(json.dumps({"starts": starts}))
    store.adopt_folders()
    found = store.get("mine")
    assert (found.asked_at, found.started_at) == (began or folder.path.stat().st_mtime, began)
    assert found.hours == pytest.approx(hours)
    ended = store.transition(record, "cancelled", reason="withdrawn")
    shutil.copy(folder.path / "hours.json", record.folder)
    RunFolder(record.folder).set_status("succeeded")
    record_by_hand(store)
    assert store.get(ended.id).hours == pytest.approx(hours) and store.get(ended.id).asked_at == record.asked_at


def test_what_is_no_run_is_left_alone(store, record) -> None:
    (store.folder / "notes").mkdir()
    (store.folder / "file.txt").write_text("x")
    store.adopt_folders()
    assert store.list() == [record] and (store.folder / "notes").is_dir()


def test_a_folder_that_is_gone_is_said_and_may_come_back(store, record, tmp_path) -> None:
    moved = shutil.move(record.folder, tmp_path / "elsewhere")
    record_lost(store)
    lost = store.get(record.id)
    assert lost.status == "lost" and f"{record.folder} is gone" in lost.reason
    record_lost(store)
    shutil.move(moved, record.folder)
    record_lost(store)
    assert store.get(record.id).status == "interrupted"
    assert store.requeue(record.id).status == "queued"


def test_a_large_or_odd_file_is_not_read(tmp_path) -> None:
    (tmp_path / "a.json").write_text('{"a": "' + "x" * 2_000_000 + '"}')
    assert read_json(tmp_path / "a.json") is None and read_json(tmp_path) is None and read_json(tmp_path / "b") is None


def test_the_identity_of_a_dead_process_makes_no_run_active(store, record) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    identity = identity_of(gone.pid)
    gone.kill()
    gone.wait()
    assert identity is not None
    (record.folder / "process.json").write_text(json.dumps(asdict(identity) | {"launch": "now"}))
    assert record_of(record.folder) == record


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (REQUEST, {"step": 10**400, "hours": 10**400}),
        (REQUEST, {"asked_by": "\ud800"}),
        ("process.json", {"pid": -1, "created": 1.0, "boot_id": boot_id(), "launch": "a"}),
        ("process.json", {"pid": float("inf"), "created": 1.0, "boot_id": boot_id(), "launch": "a"}),
        ("metrics.jsonl", {"step": 10**20, "loss": 10**400}),
    ],
)
def test_a_folder_edited_by_hand_keeps_no_other_from_being_looked_after(name: str, said: dict, store, record) -> None:
    other = store.submit(CONFIG, "me")
    (record.folder / name).write_text(json.dumps(said) + "\n")
    forget_all(store)
    assert {found.id for found in store.list()} == {record.id, other.id}
    store.update(store.get(record.id), reason="", **progress(record))
    assert store.get(record.id).step < 10**15 and RunWatch(record.folder).look(store.get(record.id)).curves == {}


def test_a_run_by_hand_with_odd_words_and_a_folder_without_a_name_that_is_text(store) -> None:
    folder = RunFolder.create(store.folder / "by-hand", CONFIG)
    shutil.copytree(folder.path, store.folder / "n\udcff")
    (folder.path / "status.json").write_text(json.dumps({"status": "failed", "reason": "\ud800", "step": 10**20}))
    assert [(run.id, run.reason, run.step) for run in store.list()] == [("by-hand", "?", 0)]


def test_a_run_gone_on_with_by_hand_is_told_and_its_end_kept(store, record) -> None:
    store.transition(record, "cancelled", reason="withdrawn")
    folder = RunFolder(record.folder)
    trainer = subprocess.Popen([sys.executable, "-c", HOLD, str(folder.path / "lock")])
    try:
        folder.set_status("running")
        end = time.monotonic() + 120
        while "by hand" not in store.get(record.id).reason:
            record_by_hand(store)
            assert time.monotonic() < end
            time.sleep(0.01)
        assert store.get(record.id).status == "cancelled" and running_by_hand(store) == record.folder
    finally:
        trainer.kill()
        trainer.wait()
    record_by_hand(store)
    assert store.get(record.id).status == "cancelled"  # it was killed
    folder.set_status("succeeded")
    record_by_hand(store)
    assert store.get(record.id).status == "succeeded"
