"""The end of a Job: its files come from the bucket, the run's end is judged, its adapter served where that was asked.

update_records(record, state)                   # while it runs: its records and pictures
trouble = bring_home(record, state)             # at its end: all of its files
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from inference.adapters.record import COMPARISON_FILE, read_beside
from inference.adapters.served import promote, serving
from inference.common.environment import hide_secrets
from inference.common.errors import UserError
from inference.common.settings import Settings
from inference.model.lora_file import CONFIG_FILE
from training.hub.backup.copies import StoredFile
from training.hub.backup.mirror import copied_step
from training.hub.backup.restore import has_copy, update_folder
from training.hub.publish.queue import QUEUE
from training.launch.jobs.api import Job
from training.launch.jobs.log import FILE, LOCK
from training.runs import outcome
from training.runs.folder import RunFolder
from training.runs.outcome import OUTPUT, End
from training.runs.record import IN_BUCKET, RunRecord, is_away
from training.runs.recovery import PROCESS, REQUEST, read_json

BEHIND = "the bucket does not show"
"""The beginning of the words for files that have not arrived there yet."""
OURS = (REQUEST, PROCESS, IN_BUCKET, FILE, LOCK, "lock")
"""Files of a run's folder that are this machine's."""
_AT_THE_END = ("checkpoints/", "candidates/", "adapter/")
"""Large files, of which nothing is shown while the Job runs."""
log = logging.getLogger(__name__)


def update_records(record: RunRecord, state: Path | None) -> float | None:
    """Brings the records and pictures of a running Job here; the time of their copy, `None` where there is none.

    The time is in seconds since 1970, by the Job's clock. `output.log` is left to `JobLog`, which counts its lines.
    """
    if state is None:
        return None
    try:
        if not has_copy(record.id, state):
            return None
        is_wanted = _wanted(record)
        manifest = update_folder(
            record.id,
            state,
            record.folder,
            lambda name, file: name != OUTPUT and not name.startswith(_AT_THE_END) and is_wanted(name, file),
        )
        return manifest.at
    except (UserError, OSError) as error:
        log.warning("the records of run %s: %s", record.id, error)
        return None


def bring_home(record: RunRecord, state: Path | None) -> str:
    """Brings the run's folder up to date from its copy; what keeps it from that, in words.

    What it has queued for publishing stays in the bucket for `take_queue`. The bucket's `output.log` replaces a smaller
    one: nothing may follow the Job's log any more.
    """
    if state is None or not state.is_dir():
        return "its files are in the bucket, which is not mounted here (LOOKTHINK_STATE)"
    try:
        if has_copy(record.id, state):
            update_folder(record.id, state, record.folder, _wanted(record))
        if not outcome.has_ended(record):
            return f"{BEHIND} its newest copy yet"
        (record.folder / IN_BUCKET).unlink(missing_ok=True)
        return ""
    except (UserError, OSError) as error:
        return f"its files could not be brought home from the bucket: {error}"


def take_queue(record: RunRecord, state: Path | None) -> None:
    """Brings the adapters that the Job could not publish: they are published from here."""
    if state is None or not has_copy(record.id, state):
        return
    try:
        update_folder(record.id, state, record.folder, lambda name, file: name.startswith(f"{QUEUE}/"))
    except UserError as error:
        log.warning("the adapters that run %s could not publish: %s", record.id, error)


def step_in_bucket(record: RunRecord, state: Path | None) -> int:
    """The step of the newest checkpoint in the bucket; where that is not mounted, the one that is known."""
    return record.checkpoint_step if state is None else copied_step(state, record.id)


def _wanted(record: RunRecord) -> Callable[[str, StoredFile], bool]:
    """The rule whether a file of the copy is to replace the one here."""

    def is_wanted(name: str, file: StoredFile) -> bool:
        if name in OURS or name.startswith(f"{QUEUE}/"):
            return False
        here = record.folder / name
        return name != OUTPUT or not here.is_file() or here.stat().st_size < file.size

    return is_wanted


def judge_job(
    record: RunRecord, job: Job, has_begun: bool, is_lost: bool, settings: Settings
) -> tuple[End | None, str]:
    """The end of a run whose Job is over; `None` if a next Job is to go on, and why the last one ended.

    `is_lost`: the Job could not copy its newest files to the bucket.
    """
    end, why = outcome.judge(record), _why(record, job)
    if is_lost and end is None:
        return _lost(record, settings), why
    has_adapter = (record.folder / "adapter" / CONFIG_FILE).is_file()
    if end is None and job.stage == "COMPLETED" and (has_adapter or is_away(record)):  # the bucket was not to be had
        end = End("succeeded")
    if end is not None:
        return (_with_its_adapter(record, settings) if end.status == "succeeded" else end), why
    if (
        job.stage in ("CANCELED", "DELETED") and record.stop_for != "stall"
    ):  # the person who did that does not want the next one either
        done = "cancelled" if job.stage == "CANCELED" else "deleted"
        reason = f"its Job was {done} on the Hub, not from here{_checkpoint_words(record, settings)}"
        return End("interrupted", reason), why
    if not has_begun:
        return End("failed", f"{why}. Its last words:\n{last_words(record)}"), why
    return None, why


def _why(record: RunRecord, job: Job) -> str:
    message = f" ({job.message})" if job.message else ""
    if "timeout" in job.message.lower():
        return f"its Job ran into its timeout{message}"
    exit_record = (read_json(record.folder / outcome.EXIT) or {}) if outcome.has_ended(record) else {}
    if exit_record.get("status") == outcome.INTERRUPTED:
        return "its Job's time was nearly over"
    return f"its Job failed{message}" if job.stage == "ERROR" else "its Job ended without a word"


def _checkpoint_words(record: RunRecord, settings: Settings) -> str:
    step = step_in_bucket(record, settings.state)
    return f"; it can go on from step {step}" if step else "; it has no checkpoint yet"


def last_words(record: RunRecord) -> str:
    """The end of the log of its Jobs."""
    return hide_secrets(outcome.log_tail(record.folder, lines=20))[-2000:] or "nothing"


def _with_its_adapter(record: RunRecord, settings: Settings) -> End:
    """The end of a run that has succeeded, if its adapter is here, or will be."""
    if (record.folder / "adapter" / CONFIG_FILE).is_file():
        return _promoted(record, settings)
    if is_away(record):
        return End("succeeded", "its adapter is in the bucket, and comes when that answers")
    return _lost(record, settings)


def _lost(record: RunRecord, settings: Settings) -> End:
    """The end of a run whose newest files were lost with the Job's disk."""
    words = _checkpoint_words(record, settings)
    reason = f"its Job was done, but its adapter did not reach the bucket; is that full?{words}"
    RunFolder(record.folder).set_status("interrupted", reason)
    return End("interrupted", reason)


def _promoted(record: RunRecord, settings: Settings) -> End:
    """Serves the adapter from now on where it was asked for and the Job's comparison says it is better."""
    adapter = RunFolder(record.folder).adapter
    comparison = read_beside(adapter, COMPARISON_FILE)
    if not record.promote or comparison.get("is_better") is not True:
        return End("succeeded")
    compared = comparison.get("served")
    digest = compared.get("digest") if isinstance(compared, dict) else None
    by = f"{record.asked_by}, by the run {record.id}"[:200]
    try:
        if digest != serving(settings).digest:
            return End("succeeded", "it waits: another adapter came to be served than the one it was compared with")
        own = comparison.get("adapter")
        now = promote(settings.home, adapter, by, settings=settings, instead_of=digest, digest=own)
        return End("succeeded", f"it is better, and served from now on as {now.name}")
    except UserError as error:
        return End("succeeded", f"it waits, since it could not be promoted: {error}")
