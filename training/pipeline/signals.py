"""SIGTERM and Ctrl-C of a run: it stops at once, or at the end of a step where it trains.

with Stop() as stop:
    load()              # a signal ends it here, by `StopAsked`
    with stop.held():
        train()         # a signal only sets `stop.asked`; a second one ends it here too
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


class StopAsked(BaseException):
    """The run was asked to stop. No `Exception`, as `KeyboardInterrupt`, so that nothing takes it for a failure."""


class Stop:
    """Listens while it is entered. The third signal is left to the system, which ends the process."""

    def __init__(self) -> None:
        self.asked = False
        self.at_once = False
        """True if a step was not waited for."""
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
        """Until the end of the block the first signal only sets `asked`."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def check(self) -> None:
        """Raises `StopAsked` if a stop was asked for, here or where nothing could be raised."""
        if self.asked:
            self._raise()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._count += 1
        if self._count >= 3:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif self._held and self._count == 2:
            self.at_once = True
            self._raise()
        elif not self._held and not self._raised:  # else the end that the first signal began goes on
            self._raise()

    def _raise(self) -> None:
        self._raised = True
        raise StopAsked
