"""The thread in which the app watches its runs; the app serves on whatever goes wrong in it."""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from inference.errors import UserError

log = logging.getLogger(__name__)


class _Launcher(Protocol):
    def reconcile(self) -> None: ...


class Watcher:
    """A thread that calls `reconcile` every few seconds and outlasts what goes wrong in it.

    `trouble` is the newest error in words (a full disk, a home that cannot be written), `None` while all is well.
    """

    def __init__(self, launcher: _Launcher, every_seconds: float = 2.0) -> None:
        self.launcher, self.every_seconds = launcher, every_seconds
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
        """Call `reconcile` once, and keep what goes wrong as `trouble`."""
        try:
            self.launcher.reconcile()
            self.trouble = None
        except UserError as error:
            self._say(str(error))
        except Exception as error:  # the app serves visitors all the same, and the next look may go well
            if self.trouble is None:
                log.exception("the runs cannot be watched")
            self._say(f"the runs cannot be watched: {type(error).__name__}: {error}")

    def _watch(self) -> None:
        while not self._over.is_set():
            self.look()
            self._over.wait(self.every_seconds)

    def _say(self, text: str) -> None:
        if text != self.trouble:
            log.error("%s", text)
        self.trouble = text
