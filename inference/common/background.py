"""Background threads: a periodic task, the wait before a retry, and a cache of slow answers.

task = PeriodicTask(copy_runs, seconds=60, name="backup")
task.start()                    # copy_runs() now and every minute
task.stop(wait_seconds=4)

sizes = CachedAnswers(ask, lambda size: 60.0, wait_seconds=10)
sizes.get("owner/base")         # `None` if there is no answer yet; ask again later
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")
WAIT_SECONDS = 10.0
"""The longest time that a caller waits for an answer."""


def backoff_seconds(failures: int, first: float, longest: float) -> float:
    """Seconds to wait after this many failures in a row: doubled each time, at most `longest`, varied by a fifth."""
    return min(longest, first * 2.0 ** min(max(failures - 1, 0), 30)) * random.uniform(0.8, 1.2)


SHORTEST_SECONDS = 0.01
"""Between two calls, so that no task takes a core for itself."""


class PeriodicTask:
    """Calls `work` in a daemon thread, now and again after each wait, until it is stopped.

    `work` may return the seconds until its next call, or `None` for `seconds`. Its exceptions are logged and ignored.
    """

    def __init__(self, work: Callable[[], float | None], seconds: float, name: str) -> None:
        self._work, self._seconds, self._name = work, seconds, name
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """Make the next call now."""
        self._wake.set()

    def stop(self, wait_seconds: float = 0.0) -> bool:
        """End after the current call; True if the thread ended within `wait_seconds`."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(wait_seconds)
        return self._thread is None or not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            seconds: float | None = None
            try:
                seconds = self._work()
            except Exception as error:  # the task must outlive any error of one call
                logging.getLogger(__name__).warning("%s: %s", self._name, type(error).__name__)
            self._wake.wait(self._seconds if seconds is None else max(SHORTEST_SECONDS, seconds))


class CachedAnswers(Generic[_K, _V]):
    """A cache of answers that a background thread fetches, one request per key at a time. Thread-safe."""

    def __init__(
        self,
        ask: Callable[[_K], _V],
        keep_seconds: Callable[[_V], float],
        wait_seconds: float = WAIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ask` must not raise; `keep_seconds` returns how long an answer is valid, by `clock`."""
        self._ask, self._keep_seconds, self._clock = ask, keep_seconds, clock
        self.wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._kept: dict[_K, tuple[float, _V]] = {}
        self._asking: dict[_K, tuple[threading.Thread, float]] = {}
        """The thread that asks, and the time until which callers wait for it."""

    def get(self, key: _K) -> _V | None:
        """The answer, or an older one if the newest is late; `None` if there is none yet."""
        with self._lock:
            if key in self._kept and self._clock() < self._kept[key][0]:
                return self._kept[key][1]
            thread, end = self._asking.get(key, (None, 0.0))
            if thread is None or not thread.is_alive():
                end = time.monotonic() + self.wait_seconds
                thread = threading.Thread(target=self._refresh, args=(key,), name="cached-answers", daemon=True)
                self._asking[key] = (thread, end)
                thread.start()
        thread.join(max(0.0, end - time.monotonic()))
        with self._lock:
            return self._kept[key][1] if key in self._kept else None

    def _refresh(self, key: _K) -> None:
        answer = self._ask(key)
        with self._lock:
            self._kept[key] = (self._clock() + self._keep_seconds(answer), answer)
