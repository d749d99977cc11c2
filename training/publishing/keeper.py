"""The app goes on with what runs have queued for the Hub and no trainer sends any more, also after a restart.

    keeper = PublishKeeper(store.folder)
    keeper.look()      # every few seconds, from the app's watcher: starts a `publisher` where something is due

A process of its own sends, so that a Hub that hangs holds up neither visitors nor the watching of runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from training.publishing.queue import QUEUE, PublishQueue, waiting_runs
from training.spawning import publisher_environment

_ROOT = Path(__file__).resolve().parents[2]


class PublishKeeper:
    """Looks after the queues of all runs in a folder; one is worked off at a time."""

    def __init__(self, runs: Path, first_seconds: float = 5.0) -> None:
        self.runs, self.first_seconds = runs, first_seconds
        self._process: subprocess.Popen[bytes] | None = None

    def look(self) -> None:
        """Start the publisher for the run that has waited longest, unless one is at work."""
        if self._process is not None and self._process.poll() is None:
            return
        now = time.time()
        for _, folder in sorted(waiting_runs(self.runs)):
            queue = PublishQueue(folder)
            if queue.state().next_try <= now and _is_free(queue) and queue.waiting():
                self._process = self._start(folder)
                return

    def _start(self, folder: Path) -> subprocess.Popen[bytes]:
        with (folder / QUEUE / "output.log").open("ab") as output:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "training.publishing.publisher",
                    str(folder),
                    "--first-seconds",
                    str(self.first_seconds),
                ],
                cwd=_ROOT,
                env=publisher_environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )


def _is_free(queue: PublishQueue) -> bool:
    """True if no other process sends what is in it; the trainer's own holds it as long as the run trains."""
    with queue.held() as mine:
        return mine
