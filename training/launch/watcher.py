"""The thread in which the app watches its runs; the app serves on whatever goes wrong in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from inference.common.background import PeriodicTask
from inference.common.errors import UserError

_STOP_SECONDS = 120.0
"""The longest time that a stop waits for a look under way."""
log = logging.getLogger(__name__)


class _Launcher(Protocol):
    def reconcile(self) -> None: ...


class Watcher:
    """A thread that calls `reconcile`, and what else is to be looked after, every few seconds, and outlasts errors.

    `trouble` is the newest error in words (a full disk, a home that cannot be written), `None` while all is well.
    """

    def __init__(
        self, launcher: _Launcher, every_seconds: float = 2.0, also: Sequence[Callable[[], object]] = ()
    ) -> None:
        """`also` is called after `reconcile`, whether that went well or not; each of them should return soon."""
        self.launcher, self.also = launcher, also
        self.trouble: str | None = None
        self._task = PeriodicTask(self.look, every_seconds, "runs")

    def start(self) -> None:
        """Begin to watch, in a daemon thread."""
        self._task.start()

    def stop(self) -> None:
        """End the thread; runs go on."""
        self._task.stop(_STOP_SECONDS)

    def look(self) -> None:
        """Do all of it once, and keep the first thing that goes wrong as `trouble`."""
        troubles = [self._try(task) for task in (self.launcher.reconcile, *self.also)]
        trouble = next(filter(None, troubles), None)
        if trouble is not None and trouble != self.trouble:
            log.error("%s", trouble)
        self.trouble = trouble

    def _try(self, task: Callable[[], object]) -> str | None:
        try:
            task()
        except UserError as error:
            return str(error)
        except Exception as error:  # the app serves visitors all the same, and the next look may go well
            if self.trouble is None:
                log.exception("the runs cannot be watched")
            return f"the runs cannot be watched: {type(error).__name__}: {error}"
        return None
