"""Who is logged in off a Space: random session ids, of which a file in the home folder keeps keyed hashes only.

A session outlives a reload, a restart and a second browser; it ends when it is logged out, after `SESSION_SECONDS`, or
with another admin token, as the token is the key of the hashes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

FILE = "admin_sessions.json"
SESSION_SECONDS = 7 * 24 * 3600
"""How long a log-in lasts."""
MAX_SESSIONS = 32
"""Browsers logged in at once; the oldest log-in ends first."""
_log = logging.getLogger(__name__)


class Sessions:
    """The log-ins of one home folder."""

    def __init__(self, home: Path, key: bytes, clock: Callable[[], float] = time.time) -> None:
        """`key` is the digest of the admin token."""
        self._path, self._key, self._clock = home / FILE, key, clock
        self._lock = threading.Lock()
        self._ends: dict[str, float] = self._read()
        """Hash of a session id to the time it ends, oldest first."""

    def begin(self) -> str:
        """A new session's id: 256 random bits, as text."""
        session = secrets.token_urlsafe(32)
        with self._lock:
            self._ends[self._hash(session)] = self._clock() + SESSION_SECONDS
            self._tidy()
            self._write()
        return session

    def is_open(self, session: str) -> bool:
        """True for the id of a session that has not ended."""
        ends = self._ends.get(self._hash(session))
        # one that ends later than any can was begun before the clock was put back
        return ends is not None and 0 < ends - self._clock() <= SESSION_SECONDS

    def end(self, session: str) -> None:
        """Log out; nothing happens for an id that is none."""
        with self._lock:
            if self._ends.pop(self._hash(session), None) is not None:
                self._write()

    def _hash(self, session: str) -> str:
        return hmac.new(self._key, session.encode(errors="replace"), hashlib.sha256).hexdigest()

    def _tidy(self) -> None:
        now = self._clock()
        alive = [(key, ends) for key, ends in self._ends.items() if ends > now]
        self._ends = dict(alive[-MAX_SESSIONS:])

    def _read(self) -> dict[str, float]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            return {str(key): float(ends) for key, ends in content.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            _log.warning("%s cannot be read (%s); log in again.", self._path, type(error).__name__)
            return {}

    def _write(self) -> None:
        """Whole or not at all; where nothing can be written, sessions last as long as the process."""
        temporary = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(self._ends, file)
            temporary.replace(self._path)
        except OSError as error:
            _log.warning("%s cannot be written (%s); a restart ends this log-in.", self._path, type(error).__name__)
