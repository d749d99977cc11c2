"""Follows the log of a Job, and puts what stands in it into the run's folder: one process at a time, and no line twice.

feed = Feed(record, hub)
feed.follow(job.is_over)            # again and again: a thread that was cut off is started anew, where it was
feed.is_done             # the Job is over and every line of its log is here
"""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from typing import IO

from inference.common.hub_errors import HubError
from training.launch.jobs.api import JobsHub
from training.launch.jobs.log_stream import Listener, Place
from training.runs.record import RunRecord

_KEEP_SECONDS = 1.0
_FIRST_WAIT_SECONDS = 0.2
log = logging.getLogger(__name__)


class Feed:
    """The log of one Job."""

    def __init__(self, record: RunRecord, hub: JobsHub, longest_wait: float = 120.0) -> None:
        """`longest_wait`, in seconds: between two attempts while the Hub does not give the log."""
        self.record, self._hub, self._longest_wait = record, hub, longest_wait
        self.is_done = False
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._has_begun = False
        self._wait, self._not_before = 0.0, 0.0
        self._is_over = False
        self._has_run = True

    @property
    def has_begun(self) -> bool:
        """True once our own code has said a word in the Job."""
        return self._has_begun or Place(self.record.folder, str(self.record.job["id"])).has_begun

    def follow(self, is_over: bool, has_run: bool = True) -> None:
        """See that it is followed, and once more read from the first line on when the Job is over.

        Of a Job that `has_run` a log without a line is none, whatever the Hub sends in its place.
        """
        self._has_run = has_run
        if is_over and not self._is_over:
            self._wait, self._not_before = 0.0, 0.0  # the whole log is there now
        self._is_over = is_over
        if self.is_done or self._stopped or (self._thread is not None and self._thread.is_alive()):
            return
        if time.monotonic() < self._not_before:
            return
        self._thread = threading.Thread(target=self._go_on, name="job-log", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more lines."""
        self._stopped = True

    def _go_on(self) -> None:
        try:
            with (self.record.folder / "job.lock").open("a") as lock:
                if _is_mine(lock):
                    self._take_all()
            self._wait = 0.0
        except HubError as trouble:  # asked again later, and later each time
            log.warning("the log of run %s: %s", self.record.id, trouble)
            self._wait = min(self._longest_wait, max(_FIRST_WAIT_SECONDS, 2 * self._wait))
            self._not_before = time.monotonic() + max(self._wait, trouble.retry_after)
        except OSError as error:  # a full disk, or a folder that was taken away: the next look tries again
            log.warning("the log of run %s cannot be kept: %s", self.record.id, error)

    def _take_all(self) -> None:
        job_id = str(self.record.job["id"])
        place = Place(self.record.folder, job_id)
        listener = Listener(self.record.folder, self.record.launch)
        taken, kept_at = 0, time.monotonic()
        is_last = self._is_over
        for line in self._hub.log(job_id, is_over=is_last):
            if self._stopped:
                return
            taken += 1
            if taken <= place.lines:
                continue
            listener.take(line)
            self._has_begun = self._has_begun or listener.has_begun
            if time.monotonic() - kept_at > _KEEP_SECONDS:
                place.keep(taken, self.has_begun)
                kept_at = time.monotonic()
        is_whole = taken >= place.lines and (taken > 0 or not self._has_run)
        place.keep(max(taken, place.lines), self.has_begun)
        self.is_done = is_last and is_whole


def _is_mine(lock: IO[str]) -> bool:
    """Whether no other process follows; the lock ends with this one."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
