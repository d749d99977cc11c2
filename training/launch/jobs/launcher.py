"""The launcher of runs: `LocalLauncher`, whose starts are Jobs where `space.yaml` says so.

    launcher = launcher_for(settings, store)        # by training.trainer in space.yaml: the one choice between the two
    launcher.check(config)                          # before a run is asked for: raises for what a Job could not read

A start is named in the records first, then the Job is made with that name as a label, then its id is noted. Whatever
ends between these, or an answer that is lost, the next look finds the Job by its labels and starts no second one. All
calls of the Hub are made in `reconcile`; where the Hub does not answer, the run's reason says so and it is asked again
later, and the Job goes on. Its records come home through the bucket, its log from the Hub (`training.launch.jobs.log`).
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from inference.common.background import backoff_seconds
from inference.common.errors import UserError
from inference.common.files import Json, write_json
from inference.common.hub_errors import HubError
from inference.common.settings import Settings
from training.config.run_config import RunConfig
from training.launch.jobs.api import Job, JobsHub
from training.launch.jobs.job import JobRun, Pace
from training.launch.jobs.result import bring_home
from training.launch.jobs.spec import JobTarget, check_config, target_of
from training.launch.jobs.worker import ORDER
from training.launch.local import LocalLauncher
from training.runs.processes import own_identity
from training.runs.record import RUN_ID, RunRecord, is_away, leave_to_bucket
from training.runs.recovery import REQUEST, make_folder, record_of
from training.runs.store import RunStore

JOB = "job"
"""`RunRecord.launcher` of a run whose newest start is a Job."""
_LATE_SECONDS = 900.0
"""Seconds after the end of a run in which a late request may still start a Job."""
_LAUNCH = re.compile(r"[0-9a-f]{16}")
log = logging.getLogger(__name__)


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
        """`in_background`: calls of the Hub are made in a thread, for a caller that must not wait for them."""
        super().__init__(store)
        self.settings, self.starts_jobs = settings, starts_jobs
        self._in_background, self._pace, self._hub = in_background, pace or Pace(), functools.lru_cache(maxsize=8)(hub)
        self._runs: dict[str, JobRun] = {}
        self._due: list[Callable[[], None]] = []
        self._thread: threading.Thread | None = None
        self._has_searched = False
        self._next_search, self._num_failures = 0.0, 0
        self._next_fetch = 0.0

    def check(self, config: RunConfig) -> None:
        """Raises `UserError` for a run that could not be a Job, or a process of this machine."""
        if self.starts_jobs:
            check_config(config, target_of(self.settings, os.environ))
        else:
            super().check(config)

    def reconcile(self) -> None:
        """As `LocalLauncher`; the first call also searches for Jobs of runs that this home does not know."""
        if not self._has_searched and self.starts_jobs and time.monotonic() >= self._next_search:
            self._call_hub(self._search)
        super().reconcile()
        if time.monotonic() > self._next_fetch and self.store.exists():
            self._call_hub(self._tidy)
        self._start_calls()

    def _tidy(self) -> None:
        """Copies files that the bucket did not show when a Job ended, and ends Jobs that started late."""
        self._next_fetch = time.monotonic() + self._pace.fetch
        ended = [r for r in self.store.list() if r.launcher == JOB and not r.is_active and r.status != "queued"]
        for record in ended:
            if is_away(record):
                bring_home(record, self.settings.state)
        for record in ended:
            if record.ended_at is not None and abs(time.time() - record.ended_at) < _LATE_SECONDS:
                self._end_late_jobs(record)

    def _end_late_jobs(self, record: RunRecord) -> None:
        """Cancels Jobs that a request taken for lost has started after the run ended."""
        try:
            hub = self._hub(str(record.job.get("namespace") or target_of(self.settings, os.environ).namespace))
            for job in hub.find(run=record.id):
                if not job.is_over and not self.store.get(record.id).is_active:
                    log.warning("the Job %s of run %s started late and is cancelled", job.id, record.id)
                    hub.cancel(job.id)
        except UserError as error:
            log.warning("late Jobs of run %s cannot be looked for: %s", record.id, error)

    def _start(self, record: RunRecord, *, reason: str = "", **changes: Any) -> RunRecord | None:
        if not self.starts_jobs:
            return super()._start(record, reason=reason, **changes)
        return self._begin(record, JOB, reason, changes | {"job": {"was": record.launcher}})

    def _attend(self, record: RunRecord) -> None:
        if record.launcher != JOB:
            super()._attend(record)
        else:
            self._call_hub(lambda: self._look(record))

    def _call_hub(self, call: Callable[[], None]) -> None:
        """Makes a call of the Hub now, or adds it to the calls of the background thread."""
        if self._in_background:
            self._due.append(call)
        else:
            call()

    def _start_calls(self) -> None:
        """Starts the thread with all calls that are due, unless it is busy."""
        due, self._due = self._due, []
        if due and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=_do_all, args=(due,), name="job", daemon=True)
            self._thread.start()

    def _ask_to_stop(self, record: RunRecord, stop_for: str) -> RunRecord | None:
        if record.launcher != JOB:
            return super()._ask_to_stop(record, stop_for)
        return self.run_of(record).ask_to_stop(record, stop_for)

    def _look(self, record: RunRecord) -> None:
        """Makes one look at the Hub. Its errors become the run's reason."""
        run = self.run_of(record)
        run.look(record)
        for other in [key for key in self._runs if key != record.launch]:
            del self._runs[other]

    def run_of(self, record: RunRecord) -> JobRun:
        """The `JobRun` of one start."""
        if record.launch not in self._runs:
            self._runs[record.launch] = JobRun(self.store, self.settings, self._pace, self._hub, self._again)
        return self._runs[record.launch]

    def _again(self, record: RunRecord, reason: str, changes: Json) -> None:
        """Starts a run again whose Job has ended early."""
        self._start(record, reason=reason, **changes)

    def _search(self) -> None:
        """Adopts Jobs that are under way of runs that this home has lost."""
        try:
            target = target_of(self.settings, os.environ)
            adopt_jobs(self.store, self._hub(target.namespace), target)
        except HubError as trouble:  # asked again later, and later each time
            self._num_failures += 1
            wait = backoff_seconds(self._num_failures, self._pace.look, self._pace.longest_wait)
            self._next_search = time.monotonic() + max(wait, trouble.retry_after)
            log.warning("runs whose Jobs go on cannot be looked for: %s", trouble)
            return
        except UserError:
            pass  # Jobs are not set up here: said when a run is submitted
        self._has_searched = True


def _do_all(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        try:
            call()
        except Exception:  # an error of one run must not stop the others
            log.exception("Jobs cannot be looked after")


def launcher_for(
    settings: Settings, store: RunStore, *, in_background: bool = False, pace: Pace | None = None
) -> LocalLauncher:
    """The launcher that `space.yaml` chooses; it also looks after Jobs that were started before a change of it."""
    return JobLauncher(
        store,
        settings,
        starts_jobs=settings.training.trainer == "job",
        in_background=in_background,
        pace=pace,
    )


def adopt_jobs(store: RunStore, hub: JobsHub, target: JobTarget) -> list[str]:
    """Makes records of the runs whose Jobs are not over and that are not here, because the home was lost; their ids.

    A Job has the run, the start, the Space and the home as labels, and in its environment the record as it was when it
    started. A home that still has the run's folder needs none of this: `training.runs.recovery` reads the record there.

    Raises `HubError`, and `UserError` where the home cannot be written.
    """
    known = {record.id for record in store.list()} if store.exists() else set()
    adopted = []
    for job in hub.find(space=target.space.replace("/", "--"), home=target.home):
        run_id = job.labels.get("run", "")
        if (
            job.is_over
            or job.is_helper
            or run_id in known
            or not RUN_ID.fullmatch(run_id)
            or (store.folder / run_id).exists()
        ):
            continue
        if _adopt_job(store, job, hub, run_id):
            known.add(run_id)
            adopted.append(run_id)
    return adopted


def _adopt_job(store: RunStore, job: Job, hub: JobsHub, run_id: str) -> bool:
    """Makes the record of one run; false for a Job that does not hold one."""
    try:
        values: Json = json.loads(job.env[ORDER])["record"]
        config = RunConfig.model_validate(_without_copied_inputs(values["config"]))
        assert _LAUNCH.fullmatch(job.labels["launch"])
    except (KeyError, ValueError, TypeError, AssertionError) as error:
        log.warning("the Job %s of run %s has no valid record (%s)", job.id, run_id, type(error).__name__)
        return False
    bare = RunRecord(run_id, store.folder / run_id, config.model_dump_json())
    make_folder(bare, config)
    leave_to_bucket(bare)
    write_json(bare.folder / REQUEST, values | {"config": config.model_dump(mode="json")})
    read = record_of(bare.folder) or bare  # field by field, as of a folder that was edited by hand
    about = {"id": job.id, "namespace": hub.namespace, "flavor": job.flavor, "url": job.url, "created": job.created}
    record = replace(
        read,
        status="starting",
        reason="its Job was found on the Hub after the records were lost",
        launcher="job",
        launch=job.labels["launch"],
        job=about | {"revision": job.labels.get("revision", "")},
        starter=asdict(own_identity()),
        number=0,
        pid=None,
    )
    try:
        return store.add(record)
    except sqlite3.IntegrityError:  # another run is active here: this one is looked after when that has ended
        return store.add(replace(record, status="interrupted", reason=f"its Job {job.id} goes on; resume it then"))


def _without_copied_inputs(config: Json) -> Json:
    """The configuration without the files that came along in the bucket: they are needed at the start only."""
    values = dict(config)
    for name in ("start_adapter", "curriculum"):
        values[name] = None if str(values.get(name) or "").startswith("state:") else values.get(name)
    return values
