"""Looks after one start of a run as a Job: makes it once, watches and stops it, copies its records, judges its end."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

from inference.common.background import backoff_seconds
from inference.common.errors import UserError
from inference.common.files import Json
from inference.common.hub_errors import HubError, HubUnreachable
from inference.common.settings import Settings, report_folders
from training.hub.backup.mirror import in_words
from training.hub.space.prices import Prices
from training.launch.jobs.api import Job, JobsHub
from training.launch.jobs.log import JobLog
from training.launch.jobs.placement import NONE_FREE, need_gb, queue_words
from training.launch.jobs.result import (
    BEHIND,
    bring_home,
    judge_job,
    last_words,
    step_in_bucket,
    take_queue,
    update_records,
)
from training.launch.jobs.spec import check_config, copy_inputs, job_spec, target_of, timeout_seconds
from training.launch.jobs.worker import MIRROR_SECONDS
from training.launch.local import MAX_DEATHS, is_spent
from training.launch.stall import StallWatch, after_stall, told
from training.runs import outcome
from training.runs.processes import Identity, is_alive, own_identity
from training.runs.record import IN_BUCKET, RunRecord, leave_to_bucket
from training.runs.store import RunStore

log = logging.getLogger(__name__)
AWAY = "the Hub does not answer: "
REFUSES = "the disk here refuses: "
WAITS = "waits in the Hub's queue"
_PASSING = (AWAY, REFUSES, WAITS, NONE_FREE)
"""The beginnings of reasons that are over when the Job runs and the Hub answers."""


@dataclass(frozen=True)
class Pace:
    """Intervals and time limits, in seconds."""

    look: float = 5.0
    """Between two looks at the Hub."""
    others: float = 60.0
    """Between two searches for other Jobs of the run."""
    longest_wait: float = 120.0
    """Between two looks while it does not answer."""
    in_queue: float = 600.0
    """After this wait in the Hub's queue, the reason names other machines."""
    cancel_again: float = 30.0
    usage: float = 30.0
    """Between two looks at what a running Job uses of its memory and its GPUs."""
    records: float = 20.0
    """Between two looks for new records in the bucket."""
    log: float = 60.0
    """After the end, for the rest of the log."""
    bucket: float = 60.0
    """After the end, for the last copy to show in the bucket."""
    fetch: float = 120.0
    """Between two tries to copy files that are still in the bucket."""
    mirror: float = MIRROR_SECONDS
    """Between two copies of the run's folder to the bucket, inside the Job."""


class JobRun:
    """Looks after one start. `look` must be called by one thread at a time, the rest by any."""

    def __init__(
        self,
        store: RunStore,
        settings: Settings,
        pace: Pace,
        hub: Callable[[str], JobsHub],
        again: Callable[[RunRecord, str, Json], None],
    ) -> None:
        self.store, self.settings, self.pace, self._hub_of, self._again = store, settings, pace, hub, again
        self._not_before = 0.0
        self._num_failures = 0
        self._records_at = self._usage_at = float("-inf")
        self._searched_at = time.monotonic()
        self._cancelled_at: float | None = None
        self._over_since: float | None = None
        self._log: JobLog | None = None
        self._prices = Prices()
        self._stalls = StallWatch()

    def look(self, record: RunRecord) -> None:
        """Makes one look, if it is time for one. Errors of the Hub become the run's reason.

        The records of the run come from the bucket also while the Hub does not answer.
        """
        record = self._bring_records(record)
        if time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + self.pace.look
        try:
            hub = self._hub_of(str(record.job.get("namespace") or target_of(self.settings, os.environ).namespace))
            if "id" in record.job:
                self._see(record, hub)
            else:
                self._make(record, hub)
            self._num_failures = 0
        except HubError as trouble:
            self._put_off(record, trouble)
        except UserError as error:
            if "id" not in record.job:
                self._end(record, outcome.End("failed", str(error)))
            else:
                self._say(record, str(error))
        except OSError as error:  # of this machine's disk: the next look may succeed
            then = "its Job goes on meanwhile" if "id" in record.job else "it is started when it does"
            self._say(record, f"{REFUSES}{in_words(error)}; {then}")

    def ask_to_stop(self, record: RunRecord, stop_for: str) -> RunRecord | None:
        """Records the request; the next look cancels the Job."""
        reason = f"asked to stop ({stop_for}); the Job leaves a checkpoint"
        self._not_before = 0.0
        return self.store.transition(record, "stopping", stop_for=stop_for, reason=reason)

    def _make(self, record: RunRecord, hub: JobsHub) -> None:
        """Finds this start's Job by its labels, or makes it."""
        jobs = hub.find(run=record.id)
        of_start = [job for job in jobs if job.labels.get("launch") == record.launch]
        own = [job for job in of_start if not job.is_helper]
        helpers = {job.labels["node"]: job for job in reversed(of_start) if job.is_helper}
        is_stopping = record.status == "stopping" and not own
        kept = own[:1] if is_stopping else [*own[:1], *helpers.values()]
        others = [job for job in jobs if not job.is_over and job not in kept]
        for job in others:
            hub.cancel(job.id)
        if own:
            self._adopt(record, own[0], hub)
        elif record.status == "stopping":
            self._end(record, outcome.judge(record) or outcome.End("cancelled", "cancelled as it started"))
        elif others:
            self._say(record, f"waits until an earlier Job of it has ended ({others[0].id})")
        elif self._may_make(record):
            self._adopt(record, self._started(record, hub, helpers), hub)

    def _cancel_others(self, record: RunRecord, hub: JobsHub, first: Job) -> None:
        """Cancels other Jobs of the run: a request that was taken for lost may have reached the Hub late.

        The helpers of the first Job are cancelled too when it is over.
        """
        for job in hub.find(run=record.id):
            helps = job.is_helper and job.labels.get("launch") == record.launch and not first.is_over
            if job.id != first.id and not helps and not job.is_over:
                hub.cancel(job.id)
        self._searched_at = time.monotonic()

    def _may_make(self, record: RunRecord) -> bool:
        """True for the process that named the start, and for any other once that has ended."""
        starter = Identity.from_json(record.starter)
        return starter == own_identity() or not is_alive(starter)

    def _started(self, record: RunRecord, hub: JobsHub, helpers: Container[str]) -> Job:
        """Starts the Jobs that are missing, the first one last; returns it."""
        target = target_of(self.settings, os.environ)
        try:
            check_config(record.run_config, target)
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"the configuration of run {record.id} is of another version; start a new run") from error
        served = copy_inputs(record, target, self.settings)
        leave_to_bucket(record)
        known = record.job.get("asked_seconds")
        reports = report_folders(self.settings)
        seconds = int(known or timeout_seconds(record, self.store.list(), target.flavor, reports))
        revision = hub.revision(target.space)
        make = functools.partial(
            job_spec, record, target, revision, seconds, served=served, mirror_seconds=self.pace.mirror
        )
        for node in range(1, record.run_config.num_nodes):
            if str(node) not in helpers:
                hub.start(make(node=node))
        return hub.start(make())

    def _adopt(self, record: RunRecord, job: Job, hub: JobsHub) -> None:
        """Records the Job's id, also if the run was asked to stop meanwhile."""
        about: Json = {"id": job.id, "namespace": hub.namespace, "flavor": job.flavor, "url": job.url}
        about |= {"revision": job.labels.get("revision", ""), "created": job.created}
        changes: Json = {"job": about} | self._price(record, job)
        if self.store.update(record, **changes) is None:
            now = self.store.get(record.id)
            if now.launch == record.launch and now.is_active:
                self.store.update(now, **changes)

    def _price(self, record: RunRecord, job: Job) -> Json:
        """The price of an hour by the Hub, if the record has none."""
        hardware = self._prices.of_jobs().get(job.flavor) if record.dollars_per_hour is None else None
        return {"dollars_per_hour": hardware.dollars_per_hour * record.run_config.num_nodes} if hardware else {}

    def _see(self, record: RunRecord, hub: JobsHub) -> None:
        job_id = str(record.job["id"])
        job = hub.look(job_id) or next((other for other in hub.find(run=record.id) if other.id == job_id), None)
        if job is None:
            job = Job(job_id, "DELETED", "the Hub knows no such Job any more", "", "", {}, 0.0, 0.0, 0.0)
        has_ended = job.is_over and self._over_since is None
        if has_ended or time.monotonic() - self._searched_at > self.pace.others:
            self._cancel_others(record, hub, job)
        self._log = self._log or JobLog(record, hub, self.pace.longest_wait)
        if job.stage != "SCHEDULING":
            has_run = job.stage == "COMPLETED" or job.seconds > 0 or record.started_at is not None
            self._log.follow(job.is_over, has_run)
        if job.is_over:
            self._see_end(record, job)
        elif record.status == "stopping":
            self._cancel(job, hub)
            self._keep(record, job)
        elif job.stage == "RUNNING" and record.status == "starting":
            reason = "" if record.reason.startswith(_PASSING) else record.reason
            self.store.transition(record, "running", reason=reason, started_at=record.started_at or time.time())
        elif job.stage == "SCHEDULING":
            self._see_queue(record, job)
        else:
            self._keep(record, job)
            self._see_usage(record, hub)

    def _see_usage(self, record: RunRecord, hub: JobsHub) -> None:
        """Notes what a running Job uses, for the page. The run does not depend on it, so a refusal is logged alone."""
        if record.status != "running" or time.monotonic() - self._usage_at < self.pace.usage:
            return
        self._usage_at = time.monotonic()
        try:
            usage = hub.usage(str(record.job["id"]))
        except HubError as trouble:
            log.warning("what the Job of run %s uses is not known: %s", record.id, trouble)
            usage = {}
        now = self.store.get(record.id)
        if now.launch == record.launch and now.job.get("usage", {}) != usage:
            self.store.update(now, job=now.job | {"usage": usage})

    def _bring_records(self, record: RunRecord) -> RunRecord:
        """Brings the newest records of a run whose Job has begun, if it is time; returns the run as it is then."""
        is_due = time.monotonic() - self._records_at > self.pace.records
        if record.status == "starting" or "id" not in record.job or not is_due:
            return record
        self._records_at = time.monotonic()
        copied_at = update_records(record, self.settings.state)
        if copied_at is None:
            return record
        changes: Json = {"job": record.job | {"copied_at": copied_at}} | outcome.progress(record)
        return self.store.update(record, **changes) or record

    def _keep(self, record: RunRecord, job: Job) -> None:
        """Notes the hours and the price of a run that goes on; stops one that has used up its budget."""
        hours = record.hours_before + job.seconds / 3600
        facts: Json = {"hours": max(record.hours, hours)} | outcome.progress(record) | self._price(record, job)
        if record.reason.startswith(_PASSING):
            facts["reason"] = ""
        seen = self.store.update(record, **facts)
        if seen is not None and seen.status == "running" and is_spent(seen):
            self.ask_to_stop(seen, "budget")
        elif seen is not None and seen.status == "running":
            stall = self._stalls.look(seen)
            if stall is not None and stall.is_over:
                stopping = self.ask_to_stop(seen, "stall")
                if stopping is not None:
                    self.store.update(stopping, reason=stall.words)
            elif (words := told(seen, stall)) != seen.reason:
                self.store.update(seen, reason=words)

    def _see_queue(self, record: RunRecord, job: Job) -> None:
        waited = max(job.waited_seconds, time.time() - job.created if job.created else 0.0)
        if waited < self.pace.in_queue:
            self._say(record, f"{WAITS} for {job.flavor}, which costs nothing")
        else:
            need = need_gb(record.run_config)
            self._say(record, queue_words(self._prices.of_jobs(), job.flavor, waited, need))

    def _cancel(self, job: Job, hub: JobsHub) -> None:
        now = time.monotonic()
        if self._cancelled_at is None or now - self._cancelled_at > self.pace.cancel_again:
            hub.cancel(job.id)
            self._cancelled_at = now

    def _see_end(self, record: RunRecord, job: Job) -> None:
        """Reads the rest of the log, copies the files, then judges the end."""
        now = time.monotonic()
        self._over_since = self._over_since if self._over_since is not None else now
        assert self._log is not None
        if not self._log.is_whole and now - self._over_since < self.pace.log:
            self._not_before = now + min(0.2, self.pace.look)
            return
        self._log.stop()  # before the bucket's `output.log` may come: no line of it is to be added again
        trouble = bring_home(record, self.settings.state)
        has_begun, is_lost = self._log.has_begun or not self._log.is_whole, self._log.is_lost
        if trouble.startswith(BEHIND):
            if has_begun and not is_lost and now - self._over_since < self.pace.bucket:
                self._not_before = now + min(1.0, self.pace.look)
                return
            if job.stage != "COMPLETED" or is_lost:  # it was killed: there is no newer copy
                (record.folder / IN_BUCKET).unlink(missing_ok=True)
                trouble = ""
        hours = max(record.hours, record.hours_before + max(job.seconds, outcome.seconds_run(record)) / 3600)
        record = self.store.get(record.id)
        if not record.is_active or record.job.get("id") != job.id:
            return  # another process was quicker
        end, why = judge_job(record, job, has_begun, is_lost, self.settings)
        if end is not None:
            take_queue(record, self.settings.state)
            reason = "; ".join(part for part in (end.reason, trouble) if part)
            self._end(record, outcome.End(end.status, reason), hours=hours)
        else:
            self._after_death(record, why, hours)

    def _after_death(self, record: RunRecord, why: str, hours: float) -> None:
        """Starts a next Job from the newest copy, unless the budget or the number of deaths forbids it."""
        step = step_in_bucket(record, self.settings.state)
        if record.stop_for == "stall":
            self._after_stall(record, step, {"checkpoint_step": step, "hours": hours})
            return
        deaths = 1 if step > record.checkpoint_step else record.deaths + 1
        counted: Json = {"deaths": deaths, "checkpoint_step": step, "hours": hours}
        counted |= {"exception": outcome.exception_of(record)}
        budget = record.budget_hours
        if (end := outcome.dies_alike(record)) is not None:
            self._end(record, end, **counted)
        elif budget is not None and hours >= budget:
            self._end(record, outcome.End("interrupted", f"the budget of {budget:.2f} h is used up; {why}"), **counted)
        elif deaths < MAX_DEATHS:
            self._again(record, f"{why}; it goes on from step {step} as a new Job", counted)
        else:
            words = f"The last one: {why}. Its last words:\n{last_words(record)}"
            reason = f"{deaths} Jobs in a row ended with no new checkpoint (step {step}). {words}"
            self._end(record, outcome.End("failed", reason), **counted)

    def _after_stall(self, record: RunRecord, step: int, changes: Json) -> None:
        """Starts a next Job for a run that stalled, once."""
        end, counted = after_stall(record, step)
        if end is not None:
            self._end(record, end, **changes | counted)
        else:
            self._again(record, f"it goes on from step {step} as a new Job: {record.reason}", changes | counted)

    def _end(self, record: RunRecord, end: outcome.End, **changes: Any) -> None:
        facts = {"ended_at": time.time()} | outcome.progress(record) | changes
        self.store.transition(record, end.status, reason=end.reason, **facts)

    def _put_off(self, record: RunRecord, trouble: HubError) -> None:
        """Delays the next look, longer after each failure; ends a run whose Job the Hub refuses."""
        if not isinstance(trouble, HubUnreachable) and "id" not in record.job and record.status == "starting":
            self._end(record, outcome.End("failed", f"the Job cannot be started: {trouble}"))
            return
        self._num_failures += 1
        wait = backoff_seconds(self._num_failures, self.pace.look, self.pace.longest_wait)
        self._not_before = time.monotonic() + max(wait, trouble.retry_after)
        then = "its Job goes on meanwhile" if "id" in record.job else "it is started when it does"
        self._say(record, f"{AWAY}{trouble}; {then}")

    def _say(self, record: RunRecord, words: str) -> None:
        if record.reason != words:
            self.store.update(record, reason=words)
