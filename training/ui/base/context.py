"""`Desk`: what the sections of the Train tab share, and `Section`, what each of them is to the tab.

    watch = build_watch(desk)                    # inside the sub-tab's context; builds and wires its own components
    outputs, inputs = watch.outputs, watch.inputs
    updates = watch.refresh(caller, *values_of_inputs)

The tab calls `refresh` when a section is opened, after each change, and every two seconds while it is open and a run
is active. A section that keeps a `gr.State` of what it sent last (in `inputs` and in `outputs`) can answer `gr.skip()`
for what has not changed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from inference.common.settings import Settings
from training.admin.access import Caller
from training.hub.backup.keeper import StateKeeper
from training.hub.publish.queue import waiting_runs
from training.launch.jobs.launcher import Launcher
from training.launch.watcher import Watcher
from training.runs.record import RunRecord
from training.runs.snapshot import RunWatch, Snapshot
from training.runs.store import RunStore
from training.ui.base.guard import Guard

FRESH_SECONDS = 1.0
"""A snapshot this old is still shown, so that many open pages read a run's files once."""
MAX_WATCHED = 8
"""Runs whose figures are kept in memory."""


@dataclass
class Section:
    """One sub-tab."""

    inputs: Sequence[Any]
    outputs: Sequence[Any]
    refresh: Callable[..., Sequence[Any]]
    """`refresh(caller, *inputs) -> updates`, one for each of `outputs`."""
    skips: bool = False
    """True if it leaves out by itself what the page shows already (`training.ui.base.html`)."""


@dataclass
class Desk:
    """The back ends, as the tab's sections see them."""

    settings: Settings
    guard: Guard
    store: RunStore
    launcher: Launcher
    watcher: Watcher
    refresh_served: Callable[[], object]
    """Called after a promotion or roll back from the tab, so that the engine sees it at once."""
    keeper: StateKeeper
    """Keeps copies of the runs where they outlive this machine."""
    setup_html: Callable[[], str] = str
    """What is not set up yet, for the owner."""
    _watches: dict[str, tuple[RunWatch, threading.Lock, float, Snapshot | None]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def snapshot(self, record: RunRecord) -> Snapshot:
        """How a run stands, at most `FRESH_SECONDS` ago."""
        with self._lock:
            watch, lock, _, _ = self._watches.setdefault(
                record.id, (RunWatch(record.folder), threading.Lock(), 0.0, None)
            )
            for stale in list(self._watches)[:-MAX_WATCHED]:
                if stale != record.id:
                    del self._watches[stale]
        with lock:
            _, _, at, seen = self._watches.get(record.id, (watch, lock, 0.0, None))
            if seen is None or time.monotonic() - at > FRESH_SECONDS or seen.status != record.status:
                seen, at = watch.look(record), time.monotonic()
                self._watches[record.id] = (watch, lock, at, seen)
            return seen

    def is_busy(self) -> bool:
        """True while a run is active or waits, or an adapter is on its way to the Hub."""
        runs = any(record.is_active or record.status == "queued" for record in self.store.list())
        return runs or next(waiting_runs(self.store.folder), None) is not None


__all__ = ["Caller", "Desk", "Section"]
