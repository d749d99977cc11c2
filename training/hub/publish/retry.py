"""The app goes on with what runs have queued for the Hub and no trainer sends any more, also after a restart.

    keeper = PublishKeeper(store.folder)
    keeper.look()      # every few seconds, from the app's watcher: starts a `publisher` where something is due

A process of its own sends, so that a Hub that hangs holds up neither visitors nor the watching of runs.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from training.hub.publish.queue import PublishQueue, State, waiting_runs
from training.hub.publish.start import start_publisher

AFTER_DEATH_SECONDS = 60.0


class PublishKeeper:
    """Looks after the queues of all runs in a folder; one is worked off at a time."""

    def __init__(self, runs: Path, first_seconds: float = 5.0) -> None:
        self.runs, self.first_seconds = runs, first_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._sent: tuple[Path, State] | None = None
        """What it was started for, and how that queue stood then."""
        self._held: dict[Path, float] = {}
        """Queues whose process ended with no word of it, to the time before which there is no other."""

    def look(self) -> None:
        """Start the publisher for the run that has waited longest, unless one is at work."""
        if self._process is not None and self._process.poll() is None:
            return
        now = time.time()
        self._look_back(now)
        for _, folder in sorted(waiting_runs(self.runs)):
            queue = PublishQueue(folder)
            is_held = 0 < self._held.get(folder, 0) - now <= AFTER_DEATH_SECONDS
            if queue.state().next_try <= now and not is_held and _is_free(queue) and queue.waiting():
                self._process, self._sent = self._start(folder), (folder, queue.state())
                return

    def _look_back(self, now: float) -> None:
        """A process that ended badly and left no word (killed, or a full disk) is not followed by another at once."""
        if self._process is None or self._sent is None:
            return
        folder, before = self._sent
        if self._process.returncode and PublishQueue(folder).state() == before:
            self._held[folder] = now + AFTER_DEATH_SECONDS
        self._process = self._sent = None

    def _start(self, folder: Path) -> subprocess.Popen[bytes]:
        return start_publisher(folder, "--first-seconds", str(self.first_seconds), stdin=subprocess.DEVNULL)


def _is_free(queue: PublishQueue) -> bool:
    """True if no other process sends what is in it; the trainer's own holds it as long as the run trains."""
    with queue.held() as mine:
        return mine
