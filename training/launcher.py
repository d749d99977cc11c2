"""Starts, watches, stops and resumes runs: a process of this machine in its own session, which outlives who started it.

    launcher = LocalLauncher(RunStore(settings.home))
    watcher = Watcher(launcher)
    watcher.start()          # the app does this; it calls `reconcile` every two seconds
    launcher.store.ask(config, asked_by="owner")

Every process that holds the same home sees the same runs, and may call everything here at the same time.
"""

from __future__ import annotations

from training.run_record import RunRecord
from training.runs import RunStore


class LocalLauncher:
    """Runs as processes of this machine."""

    def __init__(self, store: RunStore) -> None:
        self.store = store

    def start_next(self) -> RunRecord | None:
        """Start the next run of the queue if none is active; the run that was started, or `None`."""
        raise NotImplementedError

    def cancel(self, run_id: str) -> RunRecord:
        """Ask a run to stop, at the end of its step and with a checkpoint; one that waits is withdrawn.

        Returns at once with the status `stopping`; `reconcile` kills what has not ended after `grace_seconds`.
        """
        raise NotImplementedError

    def resume(self, run_id: str, *, max_hours: float | None = None, max_dollars: float | None = None) -> RunRecord:
        """Put a run that ended early back into the queue, and start it if none is active."""
        raise NotImplementedError

    def reconcile(self) -> None:
        """Make the records agree with the processes and folders, resume what died, and start what is next."""
        raise NotImplementedError


class Watcher:
    """A thread that calls `reconcile` every few seconds and outlasts what goes wrong in it.

    `trouble` is the newest error in words (a full disk, a home that cannot be written), `None` while all is well.
    """

    trouble: str | None = None

    def __init__(self, launcher: LocalLauncher, every_seconds: float = 2.0) -> None:
        self.launcher, self.every_seconds = launcher, every_seconds

    def start(self) -> None:
        """Begin to watch, in a daemon thread."""
        raise NotImplementedError

    def stop(self) -> None:
        """End the thread; runs go on."""
        raise NotImplementedError
