"""SIGTERM and Ctrl-C of a run: it stops at once, or while it trains at the end of the step.

with Stop() as stop:
    load()              # a signal ends it here, by `StopRequested`
    with stop.held():
        train()         # a signal only sets `stop.is_requested`; a second one ends it here too
    stop.check()
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
Handler = Callable[[int, FrameType | None], object] | int | None


class StopRequested(BaseException):
    """A request to stop the run. No `Exception`, like `KeyboardInterrupt`, so that nothing handles it as a failure."""


class Stop:
    """Handles the signals while it is entered. The third signal ends the process by the system's default."""

    def __init__(self) -> None:
        self.is_requested = False
        self.at_once = False
        """True if the stop did not wait for the end of the step."""
        self._count = 0
        self._held = self._raised = False
        self._before: dict[int, Handler] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Makes the first signal only set `is_requested`, until the end of the block."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def check(self) -> None:
        """Raises `StopRequested` if a stop was requested, also by a signal that raised nothing."""
        if self.is_requested:
            self._raise()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.is_requested = True
        self._count += 1
        if self._count >= 3:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif self._held and self._count == 2:
            self.at_once = True
            self._raise()
        elif not self._held and not self._raised:  # else the stop of the first signal goes on
            self._raise()

    def _raise(self) -> None:
        self._raised = True
        raise StopRequested
