"""Follows the log of a Job in the background into the run's `output.log`: in one process at a time.

    log = JobLog(record, hub)
    log.follow(job.is_over)        # repeatedly: a thread that failed is started again where it stopped
    log.is_whole                   # the Job is over, and every line of its log is here

The records of the run come through the bucket. A line that begins with `MARK` and the name of the start is the worker's
own, and is not shown.
"""

from __future__ import annotations

import logging
import threading
import time

from inference.common.background import backoff_seconds
from inference.common.files import Json, Timeout, exclusive, write_json
from inference.common.hub_errors import HubError
from training.launch.jobs.api import JobsHub
from training.runs.outcome import OUTPUT
from training.runs.record import RunRecord
from training.runs.recovery import read_json

MARK = "@lookthink"
BEGINS, NOT_COPIED = "begins", "is not in the bucket"
"""The worker's lines: it is at work; the newest files of the run could not be copied."""
FILE, LOCK = "job.json", "job.lock"
"""In the run's folder: how many lines of which Job were taken; and the lock of the process that follows."""
_MAX_LINE_CHARS = 1_300
_MAX_LOG_BYTES = 500_000_000
_NOTE_SECONDS = 1.0
_FIRST_WAIT_SECONDS = 0.2
log = logging.getLogger(__name__)


def mark_line(launch: str, words: str) -> str:
    """A line of the worker's own."""
    return f"{MARK} {launch} {words}"


class JobLog:
    """The log of one Job."""

    def __init__(self, record: RunRecord, hub: JobsHub, longest_wait: float = 120.0) -> None:
        """`longest_wait`, in seconds: between two tries while the Hub does not give the log."""
        self.record, self._hub, self._longest_wait = record, hub, longest_wait
        self._job_id = str(record.job["id"])
        self.is_whole = False
        self._thread: threading.Thread | None = None
        self._is_stopped = False
        self._num_failures, self._not_before = 0, 0.0
        self._is_over = False
        self._has_run = True

    @property
    def has_begun(self) -> bool:
        """True once the worker has printed a line in the Job."""
        return self._note().get("has_begun") is True

    @property
    def is_lost(self) -> bool:
        """True if the worker could not copy the run's newest files to the bucket."""
        return self._note().get("is_lost") is True

    def follow(self, is_over: bool, has_run: bool = True) -> None:
        """Sees that the log is followed, and read once more from the first line on when the Job is over.

        An empty log of a Job that `has_run` is none, whatever the Hub sends in its place.
        """
        self._has_run = has_run
        if is_over and not self._is_over:
            self._num_failures, self._not_before = 0, 0.0  # the whole log is there now
        self._is_over = is_over
        if self.is_whole or self._is_stopped or (self._thread is not None and self._thread.is_alive()):
            return
        if time.monotonic() >= self._not_before:
            self._thread = threading.Thread(target=self._run, name="job-log", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Takes no more lines."""
        self._is_stopped = True

    def _run(self) -> None:
        try:
            with exclusive(self.record.folder / LOCK):
                self._take_all()
            self._num_failures = 0
        except Timeout:
            pass  # another process follows
        except HubError as error:
            log.warning("the log of run %s: %s", self.record.id, error)
            self._num_failures += 1
            wait = backoff_seconds(self._num_failures, _FIRST_WAIT_SECONDS, self._longest_wait)
            self._not_before = time.monotonic() + max(wait, error.retry_after)
        except OSError as error:  # a full disk, or a folder that was taken away: the next look tries again
            log.warning("the log of run %s cannot be kept: %s", self.record.id, error)

    def _take_all(self) -> None:
        """Takes the lines that were not taken before."""
        note, is_last, num_lines, noted_at = self._note(), self._is_over, 0, time.monotonic()
        num_known = int(note.get("lines", 0))
        own = mark_line(self.record.launch, "")
        for line in self._hub.log(self._job_id, is_over=is_last):
            if self._is_stopped:
                return
            num_lines += 1
            if num_lines <= num_known:
                continue
            if not line.startswith(MARK):
                self._append(line)
            elif line.startswith(own):
                note |= {"has_begun": True, "is_lost": line == own + NOT_COPIED}
            if line.startswith(own) or time.monotonic() - noted_at > _NOTE_SECONDS:
                self._write_note(note, num_lines)
                noted_at = time.monotonic()
        self._write_note(note, max(num_lines, num_known))
        self.is_whole = is_last and num_lines >= num_known and (num_lines > 0 or not self._has_run)

    def _append(self, line: str) -> None:
        with (self.record.folder / OUTPUT).open("ab") as file:
            if file.tell() < _MAX_LOG_BYTES:
                file.write(f"{line[:_MAX_LINE_CHARS]}\n".encode(errors="replace"))

    def _note(self) -> Json:
        """The note of this Job; after a restart the rest of its log is taken."""
        note = read_json(self.record.folder / FILE) or {}
        is_ours = note.get("job") == self._job_id and isinstance(note.get("lines"), int)
        return note if is_ours else {"job": self._job_id, "lines": 0}

    def _write_note(self, note: Json, num_lines: int) -> None:
        write_json(self.record.folder / FILE, note | {"lines": num_lines}, indent=None)
