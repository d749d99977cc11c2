"""`RunStore`: what runs were asked for, how each stands, and how it ended.

    store = RunStore(settings.home)
    record = store.ask(config, asked_by="owner", max_hours=2)
    store.list()

Records are rows of `<home>/runs.sqlite3`, which any thread and any process may use at once: a change of status is a
compare-and-set, and an index of the database allows one active run. What is needed to make a record anew is also in
its run folder (`request.json`), so that the list survives the database. No torch, no Gradio.
"""

from __future__ import annotations

import fcntl
import logging
import math
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from inference.common.errors import UserError
from training.config.run_config import RunConfig
from training.runs.database import Corrupt, RunDatabase
from training.runs.folder import RunFolder, write_whole
from training.runs.processes import Identity, is_alive
from training.runs.record import (
    RESUMABLE,
    RunRecord,
    check_budget,
    from_row,
    may_follow,
    to_cell,
    to_row,
    with_budget,
)
from training.runs.recovery import process_of, record_of, run_folders
from training.runs.run_request import keep_copy, make_folder

LAST = "(SELECT MAX(number) + 1 FROM runs)"
"""As the new `number` of a record: behind every other."""
Records = list[RunRecord]
_IS_ACTIVE = "status IN ('starting', 'running', 'stopping')"
_T = TypeVar("_T")
log = logging.getLogger(__name__)


class RunStore:
    """The runs of one home folder. Every method may raise `UserError` where the home cannot be read or written."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "runs"
        self._database = RunDatabase(home)
        self._is_checked = False

    def ask(
        self,
        config: RunConfig,
        asked_by: str,
        *,
        promote: bool = False,
        max_hours: float | None = None,
        max_dollars: float | None = None,
        dollars_per_hour: float | None = None,
    ) -> RunRecord:
        """Queue a run: make its folder and its record. It starts when a launcher comes to it.

        `max_hours` and `max_dollars` (which needs `dollars_per_hour`) are budgets over all starts of the run.
        """
        record = replace(
            self._new_record(asked_by),
            promote=promote,
            max_hours=max_hours if max_hours is not None else config.max_hours,
            max_dollars=max_dollars,
            dollars_per_hour=dollars_per_hour,
        )
        check_budget(record)
        config = with_budget(config, record)
        record = replace(record, config=config.model_dump_json(), max_steps=config.max_steps or None)
        make_folder(record, config)
        self.add(record)
        self._keep_copy(record.id)
        return self.get(record.id)

    def exists(self) -> bool:
        """False while no run was ever asked for here."""
        return self._database.path.exists() or self.folder.is_dir()

    def list(self) -> Records:
        """Every run, the one asked for last first."""
        rows = self._do(lambda c: c.execute("SELECT * FROM runs ORDER BY number DESC").fetchall(), write=False)
        return [from_row(row, self.folder) for row in rows]

    def get(self, run_id: str) -> RunRecord:
        """One run; raises `UserError` if there is none of this name."""
        row = self._do(lambda c: c.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone(), write=False)
        if row is None:
            raise UserError(f"there is no run {run_id!r}; `python -m training runs` lists them")
        return from_row(row, self.folder)

    def active(self) -> RunRecord | None:
        """The run that is starting, running or stopping."""
        return next((record for record in self.list() if record.is_active), None)

    def queue(self) -> Records:
        """The runs that wait, the next one first."""
        return [record for record in reversed(self.list()) if record.status == "queued"]

    def withdraw(self, run_id: str) -> RunRecord:
        """Take a run that waits out of the queue; it stays on the list as cancelled and can be resumed."""
        record = self.get(run_id)
        if record.status != "queued":
            raise UserError(f"run {run_id} is {record.status}, not queued; only a run that waits can be withdrawn")
        now = time.time()
        done = self.transition(record, "cancelled", reason="withdrawn from the queue", ended_at=now)
        return done or self.withdraw(run_id)

    def queue_again(
        self, run_id: str, *, max_hours: float | None = None, max_dollars: float | None = None
    ) -> RunRecord:
        """Put a run that ended early at the end of the queue, to go on from its newest checkpoint.

        Budgets that are given replace its own. Raises `UserError` where the budget is used up.
        """
        record = self.get(run_id)
        if record.status not in RESUMABLE:
            raise UserError(f"run {run_id} is {record.status}; one that is {', '.join(RESUMABLE)} can be resumed")
        changed = replace(
            record, max_hours=max_hours or record.max_hours, max_dollars=max_dollars or record.max_dollars
        )
        check_budget(changed)
        if changed.budget_hours is not None and changed.hours >= changed.budget_hours:
            raise UserError(
                f"run {run_id} has used {changed.hours:.2f} h, and its budget is {changed.budget_hours:.2f} h; "
                "give a larger max_hours or max_dollars"
            )
        folder, config = RunFolder.open(record.folder)
        wanted = with_budget(config, changed)
        if wanted != config:
            write_whole(folder.path / "config.json", wanted.model_dump_json(indent=2))
        done = self.transition(
            record,
            "queued",
            reason="",
            config=wanted.model_dump_json(),
            max_hours=changed.max_hours,
            max_dollars=changed.max_dollars,
            number=LAST,
            deaths=0,
            ended_at=None,
        )
        return done or self.queue_again(run_id, max_hours=max_hours, max_dollars=max_dollars)

    def transition(self, record: RunRecord, status: str, **changes: Any) -> RunRecord | None:
        """Change the status, and other fields, if the run still stands as `record` says; else `None`.

        Raises `AssertionError` for a change that is never allowed. A second active run is refused with `None` too.
        """
        assert may_follow(record.status, status), f"{status} never follows {record.status}"
        try:
            changed = self._change(record, {"status": status, **changes})
        except sqlite3.IntegrityError:
            return None  # another run is active
        if changed is not None:
            self._keep_copy(record.id)
        return changed

    def update(self, record: RunRecord, **changes: Any) -> RunRecord | None:
        """Change fields other than the status if the run still stands as `record` says; else `None`."""
        return self._change(record, changes)

    def claim(self, run_id: str, launch: str, identity: Identity) -> bool:
        """Asked by the trainer's process when it begins: may it? False if this start has been given up."""
        record = self.get(run_id)
        if record.launch != launch or record.status != "starting":
            return False
        now = time.time()
        claimed = self.transition(
            record,
            "running",
            pid=identity.pid,
            pid_created=identity.created,
            boot_id=identity.boot_id,
            started_at=record.started_at or now,
            heartbeat_at=now,
        )
        return claimed is not None

    def forget(self, run_id: str) -> None:
        """Delete a record that is not active, and leave its folder alone."""
        self._do(lambda c: c.execute(f"DELETE FROM runs WHERE id = ? AND NOT {_IS_ACTIVE}", (run_id,)))

    def add(self, record: RunRecord) -> bool:
        """Insert a record; false if there is one of its id. Raises `sqlite3.IntegrityError` for a second active one."""
        values = to_row(record) | {"number": record.number or None}
        marks = ", ".join("?" for _ in values)
        insert = f"INSERT INTO runs ({', '.join(values)}) VALUES ({marks}) ON CONFLICT (id) DO NOTHING"
        return bool(self._do(lambda c: c.execute(insert, list(values.values())).rowcount))

    @property
    def notice(self) -> str | None:
        """Something that happened to the records and that their owner should know, until it is dismissed."""
        row = self._do(lambda c: c.execute("SELECT text FROM notes WHERE name = 'notice'").fetchone(), write=False)
        return row["text"] if row else None

    def say(self, text: str | None) -> None:
        """Set `notice`, or dismiss it with `None`."""
        self._do(lambda c: c.execute("DELETE FROM notes WHERE name = 'notice'"))
        if text is not None:
            self._do(lambda c: c.execute("INSERT OR REPLACE INTO notes VALUES ('notice', ?)", (text,)))

    def _new_record(self, asked_by: str) -> RunRecord:
        run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        return RunRecord(
            id=run_id, folder=self.folder / run_id, config="{}", asked_by=asked_by[:200], asked_at=time.time()
        )

    def _keep_copy(self, run_id: str) -> None:
        """Write the record as it stands now into its folder, one writer at a time: the newest state is written last."""
        try:
            with (self.home / "copies.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                keep_copy(self.get(run_id))
        except OSError as error:  # it is written at the next change
            log.warning("the copy of the record of run %s cannot be written: %s", run_id, error.strerror)

    def _change(self, record: RunRecord, changes: dict[str, Any]) -> RunRecord | None:
        """Compare-and-set on status and launch."""
        values = {name: to_cell(name, value) for name, value in changes.items()}
        sets = ", ".join(f"{name} = ?" if value is not LAST else f"{name} = {LAST}" for name, value in values.items())
        given = [value for value in values.values() if value is not LAST]
        where = "WHERE id = ? AND status = ? AND launch = ?"

        def change(c: sqlite3.Connection) -> sqlite3.Row | None:
            done = c.execute(f"UPDATE runs SET {sets} {where}", [*given, record.id, record.status, record.launch])
            return c.execute("SELECT * FROM runs WHERE id = ?", (record.id,)).fetchone() if done.rowcount else None

        row = self._do(change)
        return None if row is None else from_row(row, self.folder)

    def _do(self, action: Callable[[sqlite3.Connection], _T], write: bool = True) -> _T:
        """One transaction; a corrupt database is set aside and made anew from the run folders first."""
        try:
            if not self._is_checked:
                self._database.check()
                self._is_checked = True
            with self._database.transaction(write) as connection:
                return action(connection)
        except Corrupt:
            self._rebuild()
            with self._database.transaction(write) as connection:
                return action(connection)

    def _rebuild(self) -> None:

        aside = self._database.set_aside()
        if aside is None:
            return  # another process was quicker
        found = adopt_folders(self)
        self.say(
            f"The run records were corrupt. They were set aside as {aside.name} and made anew from the run folders: "
            f"{len(found)} run{'' if len(found) == 1 else 's'}."
        )


def adopt_folders(store: RunStore) -> list[RunRecord]:
    """Make a record of each run folder that has none, in the order of asking; returns them."""
    known = {record.id for record in store.list()}
    found = [record_of(path) for path in run_folders(store.folder) if path.name not in known]
    records = sorted(
        (record for record in found if record is not None),
        key=lambda r: (not is_alive(process_of(r.folder)), r.number or math.inf, r.asked_at, r.id),
    )
    return [added for record in records if (added := _add(store, record)) is not None]


def _add(store: RunStore, record: RunRecord) -> RunRecord | None:
    try:
        done = store.add(record)
    except sqlite3.IntegrityError:  # its number is taken, or another run is active
        status: Any = "interrupted" if record.is_active and store.active() else record.status
        reason = "another run was active when the records were made anew" if status != record.status else record.reason
        done = store.add(replace(record, number=0, status=status, reason=reason))
    return store.get(record.id) if done else None
