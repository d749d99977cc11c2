"""Sends from the app what runs have queued for the Hub and no trainer sends any more, also after a restart.

    retry = PublishRetry(store.folder)
    retry.look()      # every few seconds, from the app's watcher: starts a `publisher` where something is due

A separate process sends, so that a slow Hub delays neither visitors nor the watching of runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from inference.common.environment import publisher_environment
from training.hub.publish.queue import QUEUE, PublishQueue, State, waiting_runs

AFTER_DEATH_SECONDS = 60.0
"""The wait after a process that ended with an error and recorded nothing."""
_ROOT = Path(__file__).resolve().parents[3]


class PublishRetry:
    """Sends the queues of all runs in a folder, one at a time."""

    def __init__(self, runs: Path, first_seconds: float = 5.0) -> None:
        self.runs, self.first_seconds = runs, first_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._sent: tuple[Path, State] | None = None
        """The queue that the process was started for, and its state then."""
        self._held: dict[Path, float] = {}
        """Queues whose process failed without a record, with the time of the next try."""

    def look(self) -> None:
        """Starts the publisher for the run that has waited longest, unless one is running."""
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
        """Delays the next process after one that failed without a record (killed, or a full disk)."""
        if self._process is None or self._sent is None:
            return
        folder, before = self._sent
        if self._process.returncode and PublishQueue(folder).state() == before:
            self._held[folder] = now + AFTER_DEATH_SECONDS
        self._process = self._sent = None

    def _start(self, folder: Path) -> subprocess.Popen[bytes]:
        return start_publisher(folder, "--first-seconds", str(self.first_seconds), stdin=subprocess.DEVNULL)


def _is_free(queue: PublishQueue) -> bool:
    """True if no other process holds the queue; the trainer's publisher does as long as the run trains."""
    with queue.held() as mine:
        return mine


def start_publisher(folder: Path, *options: str, stdin: int) -> subprocess.Popen[bytes]:
    """Starts `training.hub.publish.publisher` for a run's folder with these options. Raises `OSError`.

    The process has its own session, and writes its output to `output.log` beside the queue.
    """
    with (folder / QUEUE / "output.log").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "training.hub.publish.publisher", str(folder), *options],
            cwd=_ROOT,
            env=publisher_environment(os.environ),
            stdin=stdin,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
