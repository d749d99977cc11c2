"""The run records: asked for, in order, changed by one at a time, one active, deleted; and a home that is of no use."""

import errno
import json
import multiprocessing
import os
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from inference.adapters.record import adapter_name
from inference.common.errors import UserError
from training.config.run_config import load_config
from training.runs.folder import RunFolder
from training.runs.processes import own_identity
from training.runs.record import ACTIVE, STATUSES, RunRecord, may_follow
from training.runs.recovery import REQUEST
from training.runs.store import RunStore
from training.runs.upkeep import delete_run

CONFIG = load_config("starter", {"max_steps": 20})


@pytest.fixture
def store(home) -> RunStore:
    return RunStore(home)


def ask(store: RunStore, **budget) -> RunRecord:
    return store.submit(CONFIG, "me", **budget)


def begin(store: RunStore, record: RunRecord) -> RunRecord:
    started = store.transition(record, "starting", launch="one")
    assert started is not None
    assert store.claim(record.id, "one", own_identity())
    return store.get(record.id)


def test_a_run_that_is_asked_for_is_on_record_and_in_its_folder(store) -> None:
    assert not store.exists()
    record = ask(store, promote=True, max_hours=2)
    assert store.exists() and store.list() == [record] == store.queue()
    assert (record.status, record.promote, record.max_steps, record.asked_by) == ("queued", True, 20, "me")
    folder, config = RunFolder.open(record.folder)
    assert config == CONFIG.model_copy(update={"max_hours": 2}) == record.run_config
    assert json.loads((record.folder / REQUEST).read_text())["id"] == record.id
    assert sqlite3.connect(store.home / "runs.sqlite3").execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_run_and_its_adapter_have_the_name_that_somebody_gave(store) -> None:
    record = ask(store, name=" charts-2 ")
    assert (
        record.id == record.folder.name == "charts-2" and adapter_name(record.folder / "adapter") == "charts-2-adapter"
    )
    assert store.list() == [record]
    for name, words in {"charts-2": "already", "../x": "letters", "2x": "letters", "x" * 41: "at most 40"}.items():
        with pytest.raises(UserError, match=words):
            ask(store, name=name)
    assert store.list() == [record] and ask(store).id != ask(store).id


def test_runs_wait_in_order_and_a_resumed_one_waits_behind(store) -> None:
    first, second, third = (ask(store) for _ in range(3))
    assert store.queue() == [first, second, third]
    assert store.withdraw(first.id).status == "cancelled"
    with pytest.raises(UserError, match="is cancelled, not queued"):
        store.withdraw(first.id)
    store.requeue(first.id)
    assert [r.id for r in store.queue()] == [second.id, third.id, first.id]
    with pytest.raises(UserError, match="is queued; one that is interrupted, failed"):
        store.requeue(second.id)


def test_the_queue_is_reordered_and_nothing_else(store) -> None:
    first, second, third = (ask(store).id for _ in range(3))
    store.move(third, -1)
    assert [r.id for r in store.queue()] == [first, third, second]
    store.move(first, -1)
    store.move(second, 1)
    assert [r.id for r in store.queue()] == [first, third, second], "the ends stay"
    store.withdraw(first)
    for wrong in (first, "gone"):
        with pytest.raises(UserError, match="not queued any more"):
            store.move(wrong, 1)
    (store.home / "runs.sqlite3").unlink()
    assert [r.id for r in store.queue()] == [third, second], "the folders know the order"


def test_a_run_is_named_and_described(store) -> None:
    record = ask(store)
    named = store.describe(record.id, "  Charts,\n second try ", "Higher rate. ")
    assert (named.title, named.note, named.id) == ("Charts, second try", "Higher rate.", record.id)
    (store.home / "runs.sqlite3").unlink()
    assert store.get(record.id) == named, "the folder knows"
    with pytest.raises(UserError, match="81 characters; at most 80"):
        store.describe(record.id, "x" * 81, "")


def test_who_comes_second_changes_nothing(store) -> None:
    record = ask(store)
    assert store.transition(record, "starting", launch="one") is not None
    assert store.transition(record, "starting", launch="two") is None
    assert store.transition(record, "cancelled") is None
    assert store.update(record, step=3) is None
    assert store.get(record.id).launch == "one"


def test_a_start_that_was_given_up_claims_nothing(store) -> None:
    record = ask(store)
    store.transition(record, "starting", launch="one")
    store.transition(store.get(record.id), "starting", launch="two")
    assert not store.claim(record.id, "one", own_identity())
    assert store.claim(record.id, "two", own_identity())
    assert not store.claim(record.id, "two", own_identity())
    claimed = store.get(record.id)
    assert (claimed.status, claimed.pid) == ("running", os.getpid())
    assert json.loads((claimed.folder / REQUEST).read_text())["status"] == "running"


def test_one_run_is_active_at_a_time(store) -> None:
    first, second = ask(store), ask(store)
    running = begin(store, first)
    assert store.transition(second, "starting") is None and store.active() == running
    with pytest.raises(UserError, match="cancel it before"):
        delete_run(store, first.id)
    store.transition(running, "succeeded")
    assert store.transition(second, "starting") is not None


def _race(home: Path, run_id: str, gate, won) -> None:
    store = RunStore(home)
    record = store.get(run_id)
    gate.wait()
    if store.transition(record, "starting", launch=str(os.getpid())):
        won.put(run_id)


def test_of_many_processes_one_starts_one_run(store) -> None:
    records = [ask(store) for _ in range(4)]
    context = multiprocessing.get_context("fork")
    gate, won = context.Barrier(8), context.Queue()
    racers = [context.Process(target=_race, args=(store.home, r.id, gate, won)) for r in records for _ in range(2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(180)
        assert racer.exitcode == 0
    assert won.get(timeout=60) in [r.id for r in records] and won.empty()
    assert sum(r.is_active for r in store.list()) == 1


@pytest.mark.parametrize(
    ("before", "after", "allowed"),
    [
        ("queued", "starting", True),
        ("queued", "running", False),
        ("starting", "running", True),
        ("running", "starting", True),  # it died
        ("running", "cancelled", False),  # it is stopping first
        ("stopping", "running", False),
        ("stopping", "cancelled", True),
        ("interrupted", "queued", True),
        ("interrupted", "running", False),
        ("succeeded", "queued", False),
        ("lost", "queued", True),
    ],
)
def test_which_status_may_follow(before: str, after: str, allowed: bool, store) -> None:
    assert may_follow(before, after) is allowed
    record = replace(ask(store), status=before)
    if not allowed:
        with pytest.raises(AssertionError, match="never follows"):
            store.transition(record, after)


def test_no_active_run_follows_an_ended_one() -> None:
    ended = [s for s in STATUSES if s not in (*ACTIVE, "queued")]
    assert not any(may_follow(one, other) for one in ended for other in ACTIVE)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"max_hours": 0}, "max_hours is 0"),
        ({"max_hours": float("nan")}, "max_hours is nan"),
        ({"max_dollars": 3}, "needs dollars_per_hour"),
        ({"max_dollars": -1, "dollars_per_hour": 2}, "max_dollars is -1"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(budget: dict, said: str, store) -> None:
    with pytest.raises(UserError, match=said):
        ask(store, **budget)
    assert not store.exists()


def test_the_tighter_budget_counts_and_a_used_up_one_must_grow(store) -> None:
    record = ask(store, max_hours=5, max_dollars=6, dollars_per_hour=2)
    assert record.budget_hours == 3 == record.run_config.max_hours
    running = begin(store, record)
    ended = store.transition(running, "interrupted", hours=3.0)
    assert ended is not None and ended.cost_dollars == 6
    with pytest.raises(UserError, match="has used 3.00 h, and its budget is 3.00 h; give a larger"):
        store.requeue(record.id)
    assert store.requeue(record.id, max_dollars=20).budget_hours == 5
    assert RunFolder.open(record.folder)[1].max_hours == 5


def test_a_corrupt_database_is_set_aside_and_made_anew_from_the_folders(store) -> None:
    done, running, _ = ask(store), ask(store), ask(store, max_hours=3)
    store.transition(begin(store, done), "succeeded")
    running = begin(store, running)
    before = store.list()
    database = store.home / "runs.sqlite3"
    database.write_bytes(b"no database " * 1000)
    fresh = RunStore(store.home)
    assert fresh.list() == before
    assert "set aside" in str(fresh.notice) and "3 runs" in str(fresh.notice)
    aside = [p for p in store.home.iterdir() if ".corrupt-" in p.name]
    assert len(aside) == 1 and aside[0].read_bytes().startswith(b"no database") and aside[0].name in str(fresh.notice)
    assert store.list() == before  # a store that was open before goes on
    store.set_notice(None)
    assert fresh.notice is None


def test_a_page_that_is_torn_out_is_noticed_at_the_next_start(store) -> None:
    before = [ask(store), ask(store)][::-1]
    database = store.home / "runs.sqlite3"
    content = bytearray(database.read_bytes())
    content[4096 : 4096 + 600] = os.urandom(600)
    database.write_bytes(content)
    assert RunStore(store.home).list() == before
    assert "set aside" in str(store.notice)


def test_tables_of_a_newer_version_are_left_alone(store) -> None:
    ask(store)
    with sqlite3.connect(store.home / "runs.sqlite3") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="newer LookThink .*99.*update LookThink"):
        RunStore(store.home).list()
    assert len(list(store.home.glob("*corrupt*"))) == 0


def test_a_full_disk_is_said_and_nothing_is_lost(store, monkeypatch) -> None:
    record = ask(store)
    # The kernel's own ENOSPC: what is written under this name goes to a full device.
    (record.folder / f".{REQUEST}.part").symlink_to("/dev/full")
    assert store.withdraw(record.id).status == "cancelled"  # the copy is late, the record is not
    assert json.loads((record.folder / REQUEST).read_text())["status"] == "queued"
    real = RunFolder.create.__func__

    def create(cls, path, config):
        folder = real(cls, path, config)
        (path / f".{REQUEST}.part").symlink_to("/dev/full")
        return folder

    monkeypatch.setattr(RunFolder, "create", classmethod(create))
    with pytest.raises(UserError, match=f"{os.strerror(errno.ENOSPC)}.*make room"):
        ask(store)
    assert [r.id for r in store.list()] == [record.id]
    assert [p.name for p in store.folder.iterdir()] == [record.id]


def test_a_full_disk_under_the_database_is_said(store, monkeypatch) -> None:
    record = ask(store)
    connect = store._database._connect

    def full() -> sqlite3.Connection:
        connection = connect()
        connection.execute("PRAGMA max_page_count = 1")  # SQLite's own SQLITE_FULL
        return connection

    monkeypatch.setattr(store._database, "_connect", full)
    with pytest.raises(UserError, match="the disk is probably full: make room"):
        store.update(record, reason="x" * 200_000)
    assert store.get(record.id) == record


def _look_as_nobody(home: Path, said) -> None:
    if os.getuid() == 0:
        os.seteuid(65534)
    for action in (lambda s: s.submit(CONFIG, "me"), lambda s: s.list()):
        try:
            action(RunStore(home))
            said.put("nothing")
        except UserError as error:
            said.put(str(error))


def test_a_home_that_cannot_be_written_to_is_said(tmp_path_factory) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        place = Path(name)
        place.chmod(0o755)
        (place / "home").mkdir(mode=0o555)
        context = multiprocessing.get_context("fork")
        said = context.Queue()
        other = context.Process(target=_look_as_nobody, args=(place / "home", said))
        other.start()
        messages = [said.get(timeout=180) for _ in range(2)]
        other.join(180)
        assert all("LOOKTHINK_HOME" in m and "writable" in m for m in messages), messages
