"""`RunStore`: the list of runs, the queue, and each run's status.

    store = RunStore(settings.home)
    record = store.submit(config, asked_by="owner", max_hours=2)
    store.list()

A run's folder is the truth: `request.json` in it has the record, except its newest metrics. `<home>/runs.sqlite3` is an
index of the folders, for any thread and any process: a change of status is a compare-and-set, and a unique index allows
one active run. The file can be deleted at any time; the next operation makes it anew. Importing this does not load
torch.
"""

from __future__ import annotations

import re
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from inference.common.errors import UserError
from inference.common.files import Json, write_json
from training.config.run_config import RunConfig
from training.runs.database import Corrupt, NotWritable, RunDatabase, is_full_or_read_only
from training.runs.folder import RunFolder
from training.runs.processes import Identity
from training.runs.record import COLUMNS, RESUMABLE, RunRecord, check_budget, from_row, may_follow, to_cell, with_budget
from training.runs.recovery import make_folder, records_of, write_request

LAST = "(SELECT MAX(number) + 1 FROM runs)"
"""The SQL of a new `number` that is behind every other."""
Records = list[RunRecord]
MAX_TITLE_CHARS, MAX_NOTE_CHARS = 80, 2_000
_PROGRESS = {"step", "max_steps", "metrics", "hours"}
"""Fields that are also in other files of a run folder; a change of these alone is not written to `request.json`."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
"""Names that people may give a run: of a folder, of an adapter, and of a tag on the Hub."""
_IS_ACTIVE = "status IN ('starting', 'running', 'stopping')"
_T = TypeVar("_T")


class RunStore:
    """The runs of one home folder. Every method may raise `UserError` where the home cannot be read or written."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "runs"
        self._database = RunDatabase(home, self._add_folders)
        self._is_checked = False

    def submit(
        self,
        config: RunConfig,
        asked_by: str,
        *,
        name: str = "",
        promote: bool = False,
        max_hours: float | None = None,
        max_dollars: float | None = None,
        dollars_per_hour: float | None = None,
    ) -> RunRecord:
        """Queues a run: makes its folder and its record. Its id, and so its adapter's name, is `name` if there is one.

        `max_hours` and `max_dollars` (which needs `dollars_per_hour`) are budgets over all starts of the run.
        """
        run_id = self._named(name.strip()) or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        record = RunRecord(
            id=run_id,
            folder=self.folder / run_id,
            config="{}",
            asked_by=asked_by[:200],
            asked_at=time.time(),
            promote=promote,
            max_hours=max_hours if max_hours is not None else config.max_hours,
            max_dollars=max_dollars,
            dollars_per_hour=dollars_per_hour,
        )
        check_budget(record)
        config = with_budget(config, record)
        record = replace(record, config=config.model_dump_json(), max_steps=config.max_steps or None)
        make_folder(record, config)
        try:
            self.add(record)
        except UserError:  # else it would begin by itself when there is room again
            shutil.rmtree(record.folder, ignore_errors=True)
            raise
        return self.get(record.id)

    def _named(self, name: str) -> str:
        """The name if a run can have it. Raises `UserError`."""
        if name and not _NAME.fullmatch(name):
            raise UserError(
                f"The name is {name[:80]!r}; begin with a letter, and use letters, digits, - and _, at most 40 in all."
            )
        if name and (self.folder / name).exists():
            raise UserError(f"There is a run {name!r} already; choose another name.")
        return name

    def exists(self) -> bool:
        """False if no run was ever submitted here."""
        return self._database.path.exists() or self.folder.is_dir()

    def list(self) -> Records:
        """Every run, the one submitted last first; from their folders alone where the disk is full or read-only."""
        try:
            rows = self._do(lambda c: c.execute("SELECT * FROM runs ORDER BY number DESC").fetchall(), write=False)
        except NotWritable:
            records = records_of(self.folder)
            if not records and not is_full_or_read_only(self.home):  # a folder of another user: no list is better
                raise
            return sorted(records, key=lambda record: (-record.asked_at, record.id))
        return [from_row(row, self.folder) for row in rows]

    def get(self, run_id: str) -> RunRecord:
        """One run; raises `UserError` for an unknown id."""
        try:
            row = self._do(lambda c: c.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone(), write=False)
            found = None if row is None else from_row(row, self.folder)
        except NotWritable:
            found = next((record for record in self.list() if record.id == run_id), None)
        if found is None:
            raise UserError(f"there is no run {run_id!r}; `python -m training runs` lists them")
        return found

    def active(self) -> RunRecord | None:
        """The run that is starting, running or stopping."""
        return next((record for record in self.list() if record.is_active), None)

    def queue(self) -> Records:
        """The queued runs, the next one first."""
        return [record for record in reversed(self.list()) if record.status == "queued"]

    def withdraw(self, run_id: str) -> RunRecord:
        """Takes a queued run out of the queue; it stays on the list as cancelled and can be resumed."""
        record = self.get(run_id)
        if record.status != "queued":
            raise UserError(f"run {run_id} is {record.status}, not queued; only a queued run can be withdrawn")
        withdrawn = self.transition(record, "cancelled", reason="withdrawn from the queue", ended_at=time.time())
        return withdrawn or self.withdraw(run_id)

    def requeue(
        self,
        run_id: str,
        *,
        max_hours: float | None = None,
        max_dollars: float | None = None,
        num_processes: int | None = None,
    ) -> RunRecord:
        """Puts a run that ended early at the end of the queue, to resume from its newest checkpoint.

        `max_hours` and `max_dollars` replace its own budgets, `num_processes` its own number. Raises `UserError` where
        the budget is used up.
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
        folder, before = RunFolder.open(record.folder)
        config = with_budget(before, changed)
        if num_processes is not None:
            config = RunConfig.model_validate(config.model_dump() | {"num_processes": num_processes})
        if config != before:
            write_json(folder.path / "config.json", config.model_dump(mode="json"), indent=2)
        queued = self.transition(
            record,
            "queued",
            reason="",
            config=config.model_dump_json(),
            max_hours=changed.max_hours,
            max_dollars=changed.max_dollars,
            number=LAST,
            deaths=0,
            exception="",
            stalls=0,
            ended_at=None,
        )
        return queued or self.requeue(run_id, max_hours=max_hours, max_dollars=max_dollars, num_processes=num_processes)

    def describe(self, run_id: str, title: str, note: str) -> RunRecord:
        """Gives a run a name that people see, and a note. Raises `UserError` for one that is too long."""
        for name, text, most in (("name", title, MAX_TITLE_CHARS), ("note", note, MAX_NOTE_CHARS)):
            if len(text) > most:
                raise UserError(f"The {name} has {len(text):,} characters; at most {most:,} are kept. Shorten it.")
        record = self.get(run_id)
        changed = self.update(record, title=" ".join(title.split()), note=note.strip())
        return changed or self.describe(run_id, title, note)

    def move(self, run_id: str, by: int) -> None:
        """Lets a queued run start earlier (`by` is -1) or later (1) than its neighbour in the queue.

        Does nothing at the queue's end. Raises `UserError` for a run that does not wait.
        """

        def swap(c: sqlite3.Connection) -> None:
            queue = [
                (row["id"], row["number"])
                for row in c.execute("SELECT id, number FROM runs WHERE status = 'queued' ORDER BY number")
            ]
            at = next((i for i, (found, _) in enumerate(queue) if found == run_id), None)
            if at is None:
                raise UserError(f"run {run_id} is not queued any more; only a queued run can be moved")
            if not 0 <= at + by < len(queue):
                return
            (one, first), (other, second) = queue[at], queue[at + by]
            for name, number in ((one, -1), (other, first), (one, second)):  # a number is one run's alone
                c.execute("UPDATE runs SET number = ? WHERE id = ?", (number, name))
            for name in (one, other):
                write_request(self._row(c, name))

        self._do(swap)

    def transition(self, record: RunRecord, status: str, **changes: object) -> RunRecord | None:
        """Changes the status, and other fields, if the run's status is still that of `record`; else `None`.

        Raises `AssertionError` for a change that is never allowed. A second active run is refused with `None` too.
        """
        assert may_follow(record.status, status), f"{status} never follows {record.status}"
        try:
            return self._change(record, {"status": status, **changes})
        except sqlite3.IntegrityError:
            return None  # another run is active

    def update(self, record: RunRecord, **changes: object) -> RunRecord | None:
        """Changes fields other than the status if the run's status is still that of `record`; else `None`."""
        return self._change(record, changes)

    def claim(self, run_id: str, launch: str, identity: Identity) -> bool:
        """Called by the trainer's process when it begins; false if this start was abandoned."""
        record = self.get(run_id)
        if record.launch != launch or record.status != "starting":
            return False
        process: Json = {"pid": identity.pid, "pid_created": identity.created, "boot_id": identity.boot_id}
        return self.transition(record, "running", started_at=record.started_at or time.time(), **process) is not None

    def forget(self, run_id: str) -> None:
        """Deletes a record that is not active, but not its folder."""
        self._do(lambda c: c.execute(f"DELETE FROM runs WHERE id = ? AND NOT {_IS_ACTIVE}", (run_id,)))

    def add(self, record: RunRecord) -> bool:
        """Inserts a record; false if its id is known. Raises `sqlite3.IntegrityError` for a second active one."""

        def insert(c: sqlite3.Connection) -> bool:
            is_new = _insert(c, record)
            write_request(self._row(c, record.id))
            return is_new

        return self._do(insert)

    def adopt_folders(self) -> None:
        """Makes a record of each run folder that has none, in the order of asking."""
        self._do(self._add_folders)

    @property
    def notice(self) -> str | None:
        """A message to the owner about the records, until it is dismissed."""
        try:
            row = self._do(lambda c: c.execute("SELECT text FROM notes WHERE name = 'notice'").fetchone(), write=False)
        except NotWritable as error:
            return str(error)
        return row["text"] if row else None

    def set_notice(self, text: str | None) -> None:
        """Sets `notice`, or dismisses it with `None`."""
        self._do(lambda c: c.execute("DELETE FROM notes WHERE name = 'notice'"))
        if text is not None:
            self._do(lambda c: c.execute("INSERT OR REPLACE INTO notes VALUES ('notice', ?)", (text,)))

    def _change(self, record: RunRecord, changes: Json) -> RunRecord | None:
        """Compare-and-set on status and launch; writes `request.json` in the same transaction."""
        values = {name: to_cell(name, value) for name, value in changes.items()}
        sets = ", ".join(f"{name} = ?" if value is not LAST else f"{name} = {LAST}" for name, value in values.items())
        cells = [value for value in values.values() if value is not LAST]
        where = "WHERE id = ? AND status = ? AND launch = ?"

        def change(c: sqlite3.Connection) -> RunRecord | None:
            keys = (record.id, record.status, record.launch)
            if not c.execute(f"UPDATE runs SET {sets} {where}", [*cells, *keys]).rowcount:
                return None
            changed = self._row(c, record.id)
            if not changes.keys() <= _PROGRESS:
                write_request(changed)
            return changed

        return self._do(change)

    def _row(self, connection: sqlite3.Connection, run_id: str) -> RunRecord:
        return from_row(connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone(), self.folder)

    def _add_folders(self, connection: sqlite3.Connection) -> None:
        """Inserts the records of run folders that have no row."""
        known = {row["id"] for row in connection.execute("SELECT id FROM runs")}
        for record in records_of(self.folder):
            if record.id in known:
                continue
            try:
                _insert(connection, record)
            except sqlite3.IntegrityError:  # its number is taken, or another run is active
                has_active = connection.execute(f"SELECT 1 FROM runs WHERE {_IS_ACTIVE}").fetchone()
                if record.is_active and has_active:
                    reason = "another run was active when the records were made anew"
                    record = replace(record, status="interrupted", reason=reason)
                _insert(connection, replace(record, number=0))

    def _do(self, action: Callable[[sqlite3.Connection], _T], write: bool = True) -> _T:
        """One transaction; a corrupt database is first renamed and made anew from the run folders."""
        try:
            if not self._is_checked:
                self._database.check()
                self._is_checked = True
            with self._database.transaction(write) as connection:
                return action(connection)
        except Corrupt:
            if (aside := self._database.set_aside()) is not None:  # else another process was quicker
                num = len(self.list())
                self.set_notice(
                    f"The run records were corrupt. They were set aside as {aside.name} and made anew from the run "
                    f"folders: {num} run{'' if num == 1 else 's'}."
                )
            with self._database.transaction(write) as connection:
                return action(connection)


def _insert(connection: sqlite3.Connection, record: RunRecord) -> bool:
    values = {name: to_cell(name, getattr(record, name)) for name in COLUMNS} | {"number": record.number or None}
    marks = ", ".join("?" for _ in values)
    insert = f"INSERT INTO runs ({', '.join(values)}) VALUES ({marks}) ON CONFLICT (id) DO NOTHING"
    return bool(connection.execute(insert, list(values.values())).rowcount)
