"""The thread in which the app watches its runs; its errors do not stop the app."""

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
    """Calls `reconcile` and other periodic work every few seconds, in a thread that survives their errors.

    `trouble` is the newest error in words (a full disk, a home that cannot be written), `None` if there is none.
    """

    def __init__(
        self, launcher: _Launcher, every_seconds: float = 2.0, also: Sequence[Callable[[], object]] = ()
    ) -> None:
        """`also` is called after `reconcile`, even if that failed; each call should return soon."""
        self.launcher, self.also = launcher, also
        self.trouble: str | None = None
        self._task = PeriodicTask(self.look, every_seconds, "runs")

    def start(self) -> None:
        """Starts the daemon thread."""
        self._task.start()

    def stop(self) -> None:
        """Ends the thread; runs continue."""
        self._task.stop(_STOP_SECONDS)

    def look(self) -> None:
        """Makes one pass; the first error becomes `trouble`."""
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
        except Exception as error:  # the app must serve on, and the next pass may succeed
            if self.trouble is None:
                log.exception("the runs cannot be watched")
            return f"the runs cannot be watched: {type(error).__name__}: {error}"
        return None
