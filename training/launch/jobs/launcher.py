"""Runs as Hugging Face Jobs, behind the launcher's door: `LocalLauncher`, whose starts are Jobs where that is chosen.

    launcher = launcher_for(settings, store)        # by training.trainer in space.yaml: the one place that chooses
    launcher.check(config)                          # before a run is asked for: what a Job could not read

A start is named in the records first, then the Job is made with that name as a label, then its id is noted. Whatever
ends between these, or an answer that is lost, the next look finds the Job by its labels and starts no second one. All
that is asked of the Hub is asked in `reconcile`; where the Hub does not answer, that is said and asked again later,
and the Job goes on. What it writes comes home through its log (`training.launch.jobs.log_follower`) and the bucket.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from inference.common.errors import UserError
from inference.common.hub_errors import HubError
from inference.common.settings import Settings
from training.config.run_config import RunConfig
from training.launch.jobs.api import JobsHub
from training.launch.jobs.job import JobRun
from training.launch.jobs.pace import Pace
from training.launch.jobs.result import bring_home
from training.launch.jobs.spec import check_config, place_of
from training.launch.local import LocalLauncher
from training.runs.record import RunRecord, is_away
from training.runs.store import RunStore

JOB = "job"
"""`RunRecord.launcher` of a run whose newest start is a Job."""


_LATE_SECONDS = 900.0
"""So long after a run has ended a Job of it may still come."""
log = logging.getLogger(__name__)


class Launcher(Protocol):
    """The door: what the page, the command line and the watcher ask of it."""

    store: RunStore

    def check(self, config: RunConfig) -> None: ...
    def start_next(self) -> RunRecord | None: ...
    def cancel(self, run_id: str) -> RunRecord: ...
    def resume(self, run_id: str, *, max_hours: float | None = None, max_dollars: float | None = None) -> RunRecord: ...
    def reconcile(self) -> None: ...


class JobLauncher(LocalLauncher):
    """Looks after Jobs and processes alike; what it starts are Jobs, unless `starts_jobs` is false."""

    def __init__(
        self,
        store: RunStore,
        settings: Settings,
        *,
        starts_jobs: bool = True,
        in_background: bool = False,
        pace: Pace | None = None,
        hub: Callable[[str], JobsHub] = JobsHub,
    ) -> None:
        """`in_background`: the Hub is asked in a thread, for a caller that must not wait for it."""
        super().__init__(store)
        self.settings, self.starts_jobs = settings, starts_jobs
        self._in_background, self._pace, self._hub = in_background, pace or Pace(), functools.lru_cache(maxsize=8)(hub)
        self._runs: dict[str, JobRun] = {}
        self._due: list[Callable[[], None]] = []
        self._thread: threading.Thread | None = None
        self._has_searched = False
        self._next_search, self._search_wait = 0.0, 0.0
        self._next_fetch = 0.0

    def check(self, config: RunConfig) -> None:
        """Raises `UserError` for a run that could not be a Job."""
        if self.starts_jobs:
            check_config(config, place_of(self.settings, os.environ))

    def reconcile(self) -> None:
        """As every launcher; the first time, Jobs of runs that this home does not know are looked for."""
        if not self._has_searched and self.starts_jobs and time.monotonic() >= self._next_search:
            self._in_turn(self._search)
        super().reconcile()
        if time.monotonic() > self._next_fetch and self.store.exists():
            self._in_turn(self._tidy)
        self._begin_turn()

    def _tidy(self) -> None:
        """Bring home what the bucket did not give when a Job ended, and end Jobs that came late."""
        self._next_fetch = time.monotonic() + self._pace.fetch
        ended = [r for r in self.store.list() if r.launcher == JOB and not r.is_active and r.status != "queued"]
        for record in ended:
            if is_away(record):
                bring_home(record, self.settings.state)
        for record in ended:
            if record.ended_at is not None and abs(time.time() - record.ended_at) < _LATE_SECONDS:
                self._end_late_jobs(record)

    def _end_late_jobs(self, record: RunRecord) -> None:
        """A request that was taken for lost may make its Job after the run has ended: nobody looks after that one."""
        try:
            hub = self._hub(str(record.job.get("namespace") or place_of(self.settings, os.environ).namespace))
            for job in hub.find(run=record.id):
                if not job.is_over and not self.store.get(record.id).is_active:
                    log.warning("the Job %s of run %s came late and is ended", job.id, record.id)
                    hub.cancel(job.id)
        except UserError as error:
            log.warning("whether run %s has a Job that came late is not known: %s", record.id, error)

    def _start(self, record: RunRecord, *, reason: str = "", **changes: Any) -> RunRecord | None:
        if not self.starts_jobs:
            return super()._start(record, reason=reason, **changes)
        return self._begin(record, JOB, reason, changes | {"job": {"was": record.launcher}})

    def _attend(self, record: RunRecord) -> None:
        if record.launcher != JOB:
            super()._attend(record)
        else:
            self._in_turn(lambda: self._look(record))

    def _in_turn(self, call: Callable[[], None]) -> None:
        """Ask the Hub something: here, or in the thread with what else is due."""
        if self._in_background:
            self._due.append(call)
        else:
            call()

    def _begin_turn(self) -> None:
        """Everything that is due, one after the other; while the thread is busy, not now."""
        due, self._due = self._due, []
        if due and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=_do_all, args=(due,), name="job", daemon=True)
            self._thread.start()

    def _ask_to_stop(self, record: RunRecord, stop_for: str) -> RunRecord | None:
        if record.launcher != JOB:
            return super()._ask_to_stop(record, stop_for)
        return self.run_of(record).ask_to_stop(record, stop_for)

    def _look(self, record: RunRecord) -> None:
        """One look at the Hub. What goes wrong with it stands in the run's reason."""
        run = self.run_of(record)
        run.look(record)
        for other in [key for key in self._runs if key != record.launch]:
            del self._runs[other]

    def run_of(self, record: RunRecord) -> JobRun:
        """What looks after one start."""
        if record.launch not in self._runs:
            self._runs[record.launch] = JobRun(self.store, self.settings, self._pace, self._hub, self._again)
        return self._runs[record.launch]

    def _again(self, record: RunRecord, reason: str, changes: dict[str, Any]) -> None:
        """A next start of a run whose Job has ended early."""
        self._start(record, reason=reason, **changes)

    def _search(self) -> None:
        """Jobs that go on, of runs that are not here: the home was lost."""
        from training.launch.jobs.recovery import adopt_jobs

        try:
            place = place_of(self.settings, os.environ)
            adopt_jobs(self.store, self._hub(place.namespace), place)
        except HubError as trouble:  # asked again later, and later each time
            self._search_wait = min(self._pace.longest_wait, max(self._pace.look, 2 * self._search_wait))
            self._next_search = time.monotonic() + max(self._search_wait, trouble.retry_after)
            log.warning("runs whose Jobs go on cannot be looked for: %s", trouble)
            return
        except UserError:
            pass  # nothing is set up for Jobs here: said when a run is asked for
        self._has_searched = True


def _do_all(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        try:
            call()
        except Exception:  # one run's trouble is not another's; what can be foreseen was said where it struck
            log.exception("Jobs cannot be looked after")


def launcher_for(
    settings: Settings, store: RunStore, *, in_background: bool = False, pace: Pace | None = None
) -> Launcher:
    """The launcher that `space.yaml` chooses. Jobs that were started before it was changed are looked after, too."""
    return JobLauncher(
        store,
        settings,
        starts_jobs=settings.training.trainer == "job",
        in_background=in_background,
        pace=pace,
    )
