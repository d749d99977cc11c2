"""The SQLite file of the run records: an index of the run folders, made anew where it is missing or corrupt.

In WAL mode, on a local disk. Each operation has its own connection, so that any thread and any process may use it. A
file that SQLite reports as corrupt is renamed, never deleted.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from inference.common.errors import UserError
from inference.common.files import exclusive

NAME = "runs.sqlite3"
BUSY_SECONDS = 15.0
"""The longest wait for another process's transaction."""
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_NOT_WRITABLE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_WRITABLE = "make the folder writable for this user, or set LOOKTHINK_HOME to one that is"
_SIDE_FILES = ("-wal", "-shm")

MIGRATIONS = (
    """
    CREATE TABLE runs (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, config TEXT NOT NULL,
        asked_by TEXT NOT NULL, asked_at REAL NOT NULL, promote INTEGER NOT NULL,
        max_hours REAL, max_dollars REAL, dollars_per_hour REAL,
        status TEXT NOT NULL, reason TEXT NOT NULL, launcher TEXT NOT NULL,
        launch TEXT NOT NULL, starter TEXT NOT NULL, pid INTEGER, pid_created REAL, boot_id TEXT,
        stop_asked REAL, stop_sent INTEGER NOT NULL, stop_for TEXT NOT NULL,
        started_at REAL, ended_at REAL, heartbeat_at REAL, hours_before REAL NOT NULL, hours REAL NOT NULL,
        step INTEGER NOT NULL, max_steps INTEGER, metrics TEXT NOT NULL,
        deaths INTEGER NOT NULL, checkpoint_step INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX one_active_run ON runs (1) WHERE status IN ('starting', 'running', 'stopping');
    CREATE TABLE notes (name TEXT PRIMARY KEY, text TEXT NOT NULL);
    """,
    "ALTER TABLE runs ADD COLUMN job TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE runs ADD COLUMN exception TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE runs ADD COLUMN stalls INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE runs ADD COLUMN title TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE runs ADD COLUMN note TEXT NOT NULL DEFAULT ''",
)
"""`PRAGMA user_version` is the number of these that a file has had."""
log = logging.getLogger(__name__)


class NotWritable(UserError):
    """The disk is full or read-only, or this user may not write there: the run folders can still be read."""


class Corrupt(Exception):
    """The file is broken, or not a database."""


class RunDatabase:
    """`<home>/runs.sqlite3`; `fill` puts the run folders' records into a new one."""

    def __init__(self, home: Path, fill: Callable[[sqlite3.Connection], object]) -> None:
        self.home = home
        self.path = home / NAME
        self._fill = fill

    @contextmanager
    def transaction(self, write: bool = True) -> Iterator[sqlite3.Connection]:
        """A connection (with the write lock, if `write`); the block is rolled back if an exception leaves it.

        Raises `Corrupt` for a broken file, and `UserError` where the disk is full or the folder cannot be written to.
        """
        try:
            with closing(self._connect()) as connection:
                self._migrate(connection)
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                try:
                    yield connection
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            raise self._explained(error) from error
        except OSError as error:
            raise NotWritable(f"{self.home} cannot be used ({error.strerror}); {_WRITABLE}") from error

    def check(self) -> None:
        """Reads the whole file; raises `Corrupt` if it is broken or lacks the tables."""
        try:
            with self.transaction(write=False) as connection:
                verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
                connection.execute("SELECT status, checkpoint_step FROM runs, notes LIMIT 1")
        except sqlite3.OperationalError as error:
            raise Corrupt(str(error)) from error
        if verdict != "ok":
            raise Corrupt(verdict)

    def set_aside(self) -> Path | None:
        """Renames a corrupt file, with the time in its new name; `None` if another process has done so."""
        with self._locked():
            try:
                self.check()
                return None
            except Corrupt as error:
                log.error("%s is corrupt: %s", self.path, error)
            when = f"{time.strftime('%Y%m%d-%H%M%S')}-{time.monotonic_ns() % 10**6:06}"
            target = self.path.with_name(f"{NAME}.corrupt-{when}")
            for suffix in _SIDE_FILES:
                if (side := self.path.with_name(NAME + suffix)).exists():
                    side.rename(target.with_name(target.name + suffix))
            self.path.rename(target)
            return target

    def _locked(self) -> AbstractContextManager[None]:
        return exclusive(self.home / "runs.lock", wait_seconds=-1)

    def _connect(self) -> sqlite3.Connection:
        self.home.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            with self._locked():
                if not self.path.exists():
                    for suffix in _SIDE_FILES:  # a deleted file's must not be applied to a new one
                        self.path.with_name(NAME + suffix).unlink(missing_ok=True)
                    self.path.touch()
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Brings the tables up to date in one transaction; a new file gets the records of the run folders."""
        if _version(connection) == len(MIGRATIONS):
            return
        connection.execute("BEGIN IMMEDIATE")
        version = _version(connection)  # again: another process may have been quicker
        if version > len(MIGRATIONS):
            raise UserError(
                f"{self.path} was written by a newer LookThink (version {version} of its tables, this one knows "
                f"{len(MIGRATIONS)}); update LookThink, or use another LOOKTHINK_HOME"
            )
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            for statement in script.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        if version == 0:
            self._fill(connection)
        connection.execute("COMMIT")

    def _explained(self, error: sqlite3.DatabaseError) -> Exception:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in _CORRUPT:
            return Corrupt(str(error))
        if code in _NOT_WRITABLE:
            return NotWritable(f"the run records in {self.path} cannot be written ({error}); {_WRITABLE}")
        if code in _FULL:
            return NotWritable(
                f"the run records in {self.path} cannot be written ({error}); the disk is probably full: make room "
                f"in {self.home} (`python -m training disk` says what takes it). Runs under way go on by themselves"
            )
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return UserError(f"{self.path} has been in use by another process for {BUSY_SECONDS:.0f} s; try again")
        return error


def is_full_or_read_only(home: Path) -> bool:
    """True where nothing can be written whoever the user is."""
    try:
        disk = os.statvfs(home if home.exists() else home.parent)
    except OSError:
        return False
    return bool(disk.f_flag & os.ST_RDONLY) or not disk.f_bavail or bool(disk.f_files and not disk.f_favail)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
