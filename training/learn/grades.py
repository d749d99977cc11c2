"""Grades that are kept: by problem, solution, completion, function and settings, and a user's own file.

store, keys = GradeStore(home), Keys("accuracy_reward", {"tolerance": 0.05}, max_completion_length=96)
store.add("accuracy_reward", [(keys(identity, is_cut=False), 1.0)], seconds=0.2)
store.find([keys(identity, is_cut=False)])
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from inference.common.errors import UserError
from training.grading.rewards import REWARDS

MAX_GRADES = 500_000
"""Grades that are kept, about 40 MB; the oldest go first."""
_FIND_AT_ONCE = 500


class Keys:
    """The keys of one function's grades under its settings and a length limit."""

    def __init__(self, name: str, settings: Mapping[str, object], max_completion_length: int) -> None:
        """Raises `UserError` for a user's own function whose file is not there."""
        about = json.dumps([name, _code_digest(name), settings], sort_keys=True).encode()
        self._whole, self._cut = (
            hashlib.blake2b(about + end, digest_size=16) for end in (b"", b"%d" % max_completion_length)
        )

    def __call__(self, of: bytes, is_cut: bool) -> bytes:
        """The key of the completion with that identity."""
        digest = (self._cut if is_cut else self._whole).copy()
        digest.update(of)
        return digest.digest()


def _code_digest(name: str) -> str:
    """The digest of a user's own file; "" for ours. Nothing is imported, also not the packages around it."""
    if name in REWARDS:
        return ""
    path: Sequence[str] | None = None
    origin: str | None = None
    importlib.machinery.PathFinder.invalidate_caches()
    try:
        parts = name.partition(":")[0].split(".")
        for end in range(1, len(parts) + 1):
            spec = importlib.machinery.PathFinder.find_spec(".".join(parts[:end]), path)
            origin, places = (spec.origin, spec.submodule_search_locations) if spec else (None, None)
            path = list(places or ())
        return hashlib.sha256(Path(str(origin)).read_bytes()).hexdigest()
    except (ImportError, OSError, ValueError) as error:
        raise UserError(
            f"there is no file of the reward {name!r} on this machine; its module must be installed, or lie in the "
            "folder from which runs start"
        ) from error


class GradeStore:
    """`<home>/grades.sqlite3`: rewards by key, bounded, for any thread and process; a broken file is made anew."""

    def __init__(self, home: Path) -> None:
        self.home, self._path = home, home / "grades.sqlite3"

    def find(self, keys: Sequence[bytes]) -> dict[bytes, float | None]:
        """The kept grades among these; `None` is the grade of a completion that the function gives none."""
        found: dict[bytes, float | None] = {}
        with self._opened() as connection:
            for first in range(0, len(keys), _FIND_AT_ONCE):
                part = keys[first : first + _FIND_AT_ONCE]
                marks = ",".join("?" * len(part))
                found.update(connection.execute(f"SELECT key, reward FROM grades WHERE key IN ({marks})", part))
        return found

    def add(self, name: str, grades: Iterable[tuple[bytes, float | None]], seconds: float) -> None:
        """Keeps the grades of one function, and what they took."""
        rows = list(grades)
        with self._opened() as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO grades (key, reward) VALUES (?, ?)", rows)
            connection.execute("DELETE FROM grades WHERE number <= (SELECT max(number) FROM grades) - ?", (MAX_GRADES,))
            connection.execute("INSERT OR REPLACE INTO costs VALUES (?, ?)", (name, seconds / max(1, len(rows))))

    def seconds_each(self, name: str) -> float | None:
        """The time of a grade of a function at last; `None` where none was made here."""
        with self._opened() as connection:
            row = connection.execute("SELECT seconds FROM costs WHERE name = ?", (name,)).fetchone()
        return None if row is None else float(row[0])

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """A connection; raises `UserError` for a full disk, or one that cannot be read or written."""
        try:
            with closing(self._connect()) as connection:
                yield connection
        except (OSError, sqlite3.OperationalError) as error:
            raise UserError(f"grades cannot be kept ({error}); make room for {self._path}") from error

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._made()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            self._path.unlink(missing_ok=True)  # what it held can be graded again
            return self._made()

    def _made(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=15)
        connection.executescript(
            "CREATE TABLE IF NOT EXISTS grades (number INTEGER PRIMARY KEY, key BLOB UNIQUE, reward REAL);"
            "CREATE TABLE IF NOT EXISTS costs (name TEXT PRIMARY KEY, seconds REAL);"
        )
        return connection
