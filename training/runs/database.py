"""The SQLite file of the run records: opening it, its migrations, and what is said when it cannot be used.

WAL, on a local disk. One connection an operation, so that any thread and any process may use it; a file that SQLite
finds corrupt is set aside, never deleted.
"""

from __future__ import annotations

import fcntl
import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from inference.common.errors import UserError

NAME = "runs.sqlite3"
BUSY_SECONDS = 15.0
"""How long to wait for another process's transaction."""
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_NOT_WRITABLE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)

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
)
"""`PRAGMA user_version` counts how many of these a file has had."""
log = logging.getLogger(__name__)


class Corrupt(Exception):
    """The file is no database, or a broken one."""


class RunDatabase:
    """`<home>/runs.sqlite3`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / NAME

    @contextmanager
    def transaction(self, write: bool = True) -> Iterator[sqlite3.Connection]:
        """A connection (with the write lock, if `write`); what was done is kept unless an exception leaves the block.

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
            raise UserError(f"{self.home} cannot be used ({error.strerror}); {_WRITABLE}") from error

    def check(self) -> None:
        """Read the whole file; raises `Corrupt` if something in it is broken, or it has not our tables."""
        try:
            with self.transaction(write=False) as connection:
                found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
                connection.execute("SELECT status, checkpoint_step FROM runs, notes LIMIT 1")
        except sqlite3.OperationalError as error:
            raise Corrupt(str(error)) from error
        if found != "ok":
            raise Corrupt(found)

    def set_aside(self) -> Path | None:
        """Rename a corrupt file with the time; `None` if another process has done so meanwhile."""
        with (self.home / "runs.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                self.check()
                return None
            except Corrupt as error:
                log.error("%s is corrupt: %s", self.path, error)
            when = f"{time.strftime('%Y%m%d-%H%M%S')}-{time.monotonic_ns() % 10**6:06}"
            target = self.path.with_name(f"{NAME}.corrupt-{when}")
            for suffix in ("-wal", "-shm"):
                side = self.path.with_name(NAME + suffix)
                if side.exists():
                    side.rename(target.with_name(target.name + suffix))
            self.path.rename(target)
            return target

    def _connect(self) -> sqlite3.Connection:
        self.home.mkdir(parents=True, exist_ok=True)
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
        """Bring the tables up to date, each migration whole or not at all."""
        if _version(connection) == len(MIGRATIONS):
            return
        connection.execute("BEGIN IMMEDIATE")
        version = _version(connection)  # as another process may have been quicker
        if version > len(MIGRATIONS):
            raise UserError(
                f"{self.path} was written by a newer LookThink (version {version} of its tables, this one knows "
                f"{len(MIGRATIONS)}); update LookThink, or use another LOOKTHINK_HOME"
            )
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            for statement in script.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")

    def _explained(self, error: sqlite3.DatabaseError) -> Exception:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in _CORRUPT:
            return Corrupt(str(error))
        if code in _NOT_WRITABLE:
            return UserError(f"the run records in {self.path} cannot be written ({error}); {_WRITABLE}")
        if code in _FULL:
            return UserError(
                f"the run records in {self.path} cannot be written ({error}); the disk is probably full: make room "
                f"in {self.home}. Runs under way go on by themselves"
            )
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return UserError(f"{self.path} has been in use by another process for {BUSY_SECONDS:.0f} s; try again")
        return error


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


_WRITABLE = "make the folder writable for this user, or set LOOKTHINK_HOME to one that is"
