"""Starts, watches, stops and resumes runs as processes of this machine, which outlive the process that started them.

    launcher = LocalLauncher(RunStore(settings.home))
    Watcher(launcher).start()                         # the app does this: `reconcile`, every two seconds
    launcher.store.submit(config, asked_by="owner")      # starts at the next `reconcile`, or by `start_next`

All processes with the same home see the same runs, and may call everything here at the same time: each change is a
compare-and-set in the records, and a process that loses it does nothing.

A start of the trainer has a name, the record's `launch`. The status becomes `starting` under it, then the process is
made, and the process claims the run itself; so a launcher that is killed between any two of these loses nothing, and a
process whose start was given up trains nothing.
"""

from __future__ import annotations

import logging
import secrets
import signal
import subprocess
import threading
import time
from dataclasses import asdict
from typing import Any

from inference.common.environment import hide_secrets
from inference.common.errors import UserError
from inference.common.files import Json
from training.config.run_config import RunConfig
from training.launch.machine_lock import is_taken
from training.launch.ranks import processes_of
from training.launch.spawn import spawn
from training.launch.stall import StallWatch, after_stall, told
from training.runs import outcome
from training.runs.folder import RunFolder, step_of
from training.runs.processes import Identity, boot_id, boot_seconds, is_alive, kill_marked, marked, own_identity, send
from training.runs.record import RunRecord
from training.runs.recovery import process_of, read_json
from training.runs.store import RunStore
from training.runs.upkeep import record_by_hand, record_lost, running_by_hand, tidy

MAX_DEATHS = 3
"""Deaths in a row without a new checkpoint that end a run."""
_RESERVE_SECONDS = 5.0
"""The time that a stop takes to reach the trainer: two looks and a signal."""
_EXIT_SECONDS = 60.0
"""A process that has written its exit status is killed if it still runs after this."""
_FRESH: Json = {
    "job": {},
    "pid": None,
    "pid_created": None,
    "boot_id": None,
    "stop_asked": None,
    "stop_sent": False,
    "stop_for": "",
    "ended_at": None,
}
"""The fields of a record that a new start resets."""
log = logging.getLogger(__name__)

_lock = threading.RLock()
"""Held by the thread of this process that starts or stops trainers."""
_children: dict[str, subprocess.Popen[bytes]] = {}
"""Trainers that this process started, by launch: only their parent can collect their exit status."""


class LocalLauncher:
    """Starts and watches runs as processes of this machine."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self._exit_seen: dict[str, float] = {}
        self._stalls = StallWatch()

    def check(self, config: RunConfig) -> None:
        """Raises `UserError` for a run that cannot be started here; a local process can read all that this one can."""
        if config.num_nodes > 1:
            raise UserError(
                f"num_nodes is {config.num_nodes}, and a run in the background has this one alone; start it by hand "
                "on each machine (docs/multi-gpu.md) or as Jobs, or set num_nodes to 1"
            )
        processes_of(config)

    def start_next(self) -> RunRecord | None:
        """Starts the next run of the queue if none is active; returns its record, else `None`."""
        with _lock:
            queue = self.store.queue()
            if not queue or self.store.active():
                return None
            if is_taken(self.store.home):
                reason = f"waits for {running_by_hand(self.store) or 'a run or a doctor'}, which was started by hand"
                if queue[0].reason != reason:
                    self.store.update(queue[0], reason=reason)
                return None
            return self._start(queue[0])

    def cancel(self, run_id: str) -> RunRecord:
        """Asks a run to stop at the end of its step, with a checkpoint; a queued run is withdrawn.

        Returns at once with the status `stopping`; `reconcile` kills a process that outlives `grace_seconds`.
        """
        with _lock:
            record = self.store.get(run_id)
            if record.status == "queued":
                try:
                    return self.store.withdraw(run_id)
                except UserError:
                    if self.store.get(run_id).status == "queued":
                        raise
                    return self.cancel(run_id)  # another process has started it meanwhile
            if not record.is_active:
                raise UserError(f"run {run_id} is {record.status}; there is nothing to cancel")
            if record.status == "stopping":
                return self.store.update(record, stop_for="cancel") or self.store.get(run_id)
            return self._ask_to_stop(record, "cancel") or self.cancel(run_id)

    def resume(
        self,
        run_id: str,
        *,
        max_hours: float | None = None,
        max_dollars: float | None = None,
        num_processes: int | None = None,
    ) -> RunRecord:
        """Queues a run that ended early again, and starts it if none is active."""
        self.store.requeue(run_id, max_hours=max_hours, max_dollars=max_dollars, num_processes=num_processes)
        self.start_next()
        return self.store.get(run_id)

    def reconcile(self) -> None:
        """Updates the records from processes and folders, resumes runs that died, and starts the next one."""
        if not self.store.exists():
            return
        with _lock:
            self._read_folders()
            record = self.store.active()
            _reap(record.launch if record else None)
            if record is not None:
                self._attend(record)
            self.start_next()

    def _read_folders(self) -> None:
        for look in (tidy, RunStore.adopt_folders, record_lost, record_by_hand):
            try:
                look(self.store)
            except OSError as error:  # a folder that cannot be read must not stop the look at the active run
                log.warning("the run folders in %s: %s", self.store.folder, error)

    def _attend(self, record: RunRecord) -> None:
        identity = _identity(record)
        if identity is None:
            self._attend_unclaimed(record)
        elif is_alive(identity):
            self._attend_alive(record, identity)
        else:
            self._attend_dead(record)

    def _attend_unclaimed(self, record: RunRecord) -> None:
        """Looks at a start that no process has claimed yet."""
        if record.status == "stopping":
            if kill_marked(record.launch):
                self._end(record, outcome.judge(record) or outcome.End("cancelled", "cancelled as it started"))
            return
        process, claim = process_of(record.folder), read_json(record.folder / "process.json") or {}
        if claim.get("launch") == record.launch and process is not None:  # the records were rebuilt meanwhile
            self.store.transition(
                record, "running", pid=process.pid, pid_created=process.created, boot_id=process.boot_id
            )
            return
        starter = Identity.from_json(record.starter)
        if starter == own_identity():
            child = _children.get(record.launch)
            if child is None:
                self._start(record)
            elif child.poll() is not None:
                self._after_death(record)
        elif not is_alive(starter) and not marked(record.launch):
            self._start(record)

    def _attend_alive(self, record: RunRecord, identity: Identity) -> None:
        hours = record.hours_before + max(0.0, boot_seconds() - identity.created) / 3600
        facts = {"hours": max(record.hours, hours)} | outcome.progress(record)
        seen = self.store.update(record, **facts)
        if seen is None:
            return  # another process was quicker
        if seen.status == "running" and is_spent(seen):
            self._ask_to_stop(seen, "budget")
        elif seen.status == "running":
            self._look_for_stall(seen)
        elif seen.status == "stopping" and not seen.stop_sent:
            self._send_stop(seen, identity)
        elif self._is_overdue(seen):
            log.warning("run %s has not ended in time; it is killed", seen.id)
            send(identity, signal.SIGKILL)
            kill_marked(seen.launch)

    def _attend_dead(self, record: RunRecord) -> None:
        if not kill_marked(record.launch):  # its children; the next run needs the whole machine
            log.warning("processes of run %s cannot be killed yet", record.id)
            return
        if not record.folder.is_dir():
            self._end(record, outcome.End("lost", f"its folder {record.folder} is gone"))
            return
        end = outcome.judge(record)
        if end is None:
            self._after_death(record)
        else:
            self._end(record, end)

    def _after_death(self, record: RunRecord) -> None:
        """Starts a run that died again from its newest checkpoint, or ends it."""
        newest = RunFolder(record.folder).newest_checkpoint()
        step = step_of(newest) if newest else 0
        deaths = 1 if step > record.checkpoint_step else record.deaths + 1
        if record.boot_id is not None and record.boot_id != boot_id():
            deaths = record.deaths  # the machine was restarted: not the run's fault
        counted: Json = {"deaths": deaths, "checkpoint_step": step, "hours": _hours(record)}
        if record.stop_for == "stall":
            self._after_stall(record, step, {"checkpoint_step": step, "hours": _hours(record)})
            return
        counted |= {"exception": outcome.exception_of(record)}
        why = outcome.death_words(record, _returncode(record.launch))
        if (end := outcome.dies_alike(record)) is not None:
            self._end(record, end, **counted)
            return
        if deaths < MAX_DEATHS:
            self._start(record, reason=f"it was started again from step {step}: {why}", **counted)
            return
        words = hide_secrets(outcome.log_tail(record.folder, lines=12))[-1500:] or "nothing"
        last = "" if why == "it died" else f"The last time {why}. "
        reason = f"died {deaths} times in a row with no new checkpoint (step {step}). {last}Its last words:\n{words}"
        self._end(record, outcome.End("failed", reason), **counted)

    def _look_for_stall(self, record: RunRecord) -> None:
        """Tells of a run that makes no step, then ends it."""
        stall = self._stalls.look(record)
        if stall is not None and stall.is_over:
            log.warning("run %s: %s", record.id, stall.words)
            stopping = self._ask_to_stop(record, "stall")
            if stopping is not None:
                self.store.update(stopping, reason=stall.words)
        elif (words := told(record, stall)) != record.reason:
            self.store.update(record, reason=words)

    def _after_stall(self, record: RunRecord, step: int, changes: Json) -> None:
        """Resumes a run that stalled, once."""
        end, counted = after_stall(record, step)
        if end is not None:
            self._end(record, end, **changes | counted)
        else:
            self._start(record, reason=f"it was resumed from step {step}: {record.reason}", **changes | counted)

    def _start(self, record: RunRecord, *, reason: str = "", **changes: Any) -> RunRecord | None:
        """Starts the process; `None` if another launcher was quicker, or another run is active."""
        started = self._begin(record, "local", reason, changes)
        if started is None:
            return None
        try:
            _children[started.launch] = spawn(started)
        except OSError as error:
            reason = f"the trainer cannot be started ({error.strerror}); check {started.folder}, then resume it"
            self._end(started, outcome.End("failed", reason))
        return started

    def _begin(self, record: RunRecord, launcher: str, reason: str, changes: Json) -> RunRecord | None:
        """Gives a start its name, and makes the run the active one."""
        changes = _FRESH | {"hours": record.hours} | changes
        return self.store.transition(
            record,
            "starting",
            launch=secrets.token_hex(8),
            launcher=launcher,
            starter=asdict(own_identity()),
            hours_before=changes["hours"],
            reason=reason,
            **changes,
        )

    def _ask_to_stop(self, record: RunRecord, stop_for: str) -> RunRecord | None:
        stopping = self.store.transition(
            record, "stopping", stop_for=stop_for, stop_asked=boot_seconds(), reason=f"asked to stop ({stop_for})"
        )
        identity = _identity(stopping) if stopping else None
        if stopping is not None and identity is not None:
            self._send_stop(stopping, identity)
        return stopping

    def _send_stop(self, record: RunRecord, identity: Identity) -> None:
        """Sends SIGTERM once: a second one would end the trainer at once and lose its newest steps."""
        if send(identity, signal.SIGTERM):
            self.store.update(record, stop_sent=True)

    def _is_overdue(self, record: RunRecord) -> bool:
        if record.status == "stopping" and record.stop_asked is not None:
            if boot_seconds() - record.stop_asked > outcome.grace_seconds(record.folder):
                return True
        if not outcome.has_ended(record):
            return False
        return time.monotonic() - self._exit_seen.setdefault(record.launch, time.monotonic()) > _EXIT_SECONDS

    def _end(self, record: RunRecord, end: outcome.End, **changes: Any) -> None:
        facts = {"ended_at": time.time(), "hours": _hours(record)} | outcome.progress(record) | changes
        self.store.transition(record, end.status, reason=end.reason, **facts)


def _identity(record: RunRecord) -> Identity | None:
    if record.pid is None or record.pid_created is None or record.boot_id is None:
        return None
    return Identity(record.pid, record.pid_created, record.boot_id)


def is_spent(record: RunRecord) -> bool:
    """True if another step and its checkpoint would exceed the budget; the trainer stops by its own count, too."""
    reserve = outcome.step_and_save_seconds(record.folder) + _RESERVE_SECONDS
    return record.budget_hours is not None and record.hours + reserve / 3600 >= record.budget_hours


def _hours(record: RunRecord) -> float:
    """The hours of all starts; of the newest by its own record if there is one."""
    return max(record.hours, record.hours_before + outcome.seconds_run(record) / 3600)


def _returncode(launch: str) -> int | None:
    """The status of a start whose process is a child of this one; a negative one is a signal."""
    child = _children.get(launch)
    return None if child is None else child.poll()


def _reap(launch: str | None) -> None:
    """Collects the exit status of processes that have ended, so that none stays a zombie; keeps this start's."""
    for name, child in list(_children.items()):
        if child.poll() is not None and name != launch:
            del _children[name]
