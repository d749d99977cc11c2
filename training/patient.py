"""Answers that come from elsewhere, for pages that must not wait long: asked for in a thread, and remembered.

    sizes = Patient(ask, lambda found: 60.0, wait_seconds=10)
    sizes.get("owner/base")         # `None` where there is no answer yet; ask again later

While nobody answers, one question of a kind is under way, and whoever comes meanwhile has what was known before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")
WAIT_SECONDS = 10.0
"""Of whoever asks, for an answer."""


class Patient(Generic[_K, _V]):
    """Remembers answers; safe to use from several threads."""

    def __init__(
        self,
        ask: Callable[[_K], _V],
        keep_seconds: Callable[[_V], float],
        wait_seconds: float = WAIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ask` raises nothing; `keep_seconds` says how long an answer holds, by `clock`."""
        self._ask, self._keep_seconds, self._clock = ask, keep_seconds, clock
        self.wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._kept: dict[_K, tuple[float, _V]] = {}
        self._asking: dict[_K, tuple[threading.Thread, float]] = {}
        """Who asks, and until when that is waited for."""

    def get(self, key: _K) -> _V | None:
        """The answer, or an older one where the newest is late; `None` where there is none yet."""
        with self._lock:
            if key in self._kept and self._clock() < self._kept[key][0]:
                return self._kept[key][1]
            thread, end = self._asking.get(key, (None, 0.0))
            if thread is None or not thread.is_alive():
                end = time.monotonic() + self.wait_seconds
                thread = threading.Thread(target=self._refresh, args=(key,), name="patient", daemon=True)
                self._asking[key] = (thread, end)
                thread.start()
        thread.join(max(0.0, end - time.monotonic()))
        with self._lock:
            return self._kept[key][1] if key in self._kept else None

    def _refresh(self, key: _K) -> None:
        found = self._ask(key)
        with self._lock:
            self._kept[key] = (self._clock() + self._keep_seconds(found), found)
