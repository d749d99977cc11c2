"""The thread in which the app watches its runs; the app serves on whatever goes wrong in it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from inference.errors import UserError

log = logging.getLogger(__name__)


class _Launcher(Protocol):
    def reconcile(self) -> None: ...


class Watcher:
    """A thread that calls `reconcile` every few seconds, then each of `chores`, and outlasts what goes wrong in them.

    A chore is quick: what takes its time (the Hub, say) it starts elsewhere. `trouble` is the newest error in words (a
    full disk, a home that cannot be written), `None` while all is well.
    """

    def __init__(
        self, launcher: _Launcher, every_seconds: float = 2.0, chores: Sequence[Callable[[], object]] = ()
    ) -> None:
        self.launcher, self.every_seconds, self.chores = launcher, every_seconds, chores
        self.trouble: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="runs", daemon=True)

    def start(self) -> None:
        """Begin to watch, in a daemon thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; runs go on."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Call `reconcile` and the chores once each, and keep what goes wrong first as `trouble`."""
        found = [self._try(task) for task in (self.launcher.reconcile, *self.chores)]
        trouble = next(filter(None, found), None)
        if trouble is not None and trouble != self.trouble:
            log.error("%s", trouble)
        self.trouble = trouble

    def _try(self, task: Callable[[], object]) -> str | None:
        """What went wrong, in words."""
        try:
            task()
        except UserError as error:
            return str(error)
        except Exception as error:  # the app serves visitors all the same, and the next look may go well
            if self.trouble is None:
                log.exception("the runs cannot be watched")
            return f"the runs cannot be watched: {type(error).__name__}: {error}"
        return None

    def _watch(self) -> None:
        while not self._over.is_set():
            self.look()
            self._over.wait(self.every_seconds)
