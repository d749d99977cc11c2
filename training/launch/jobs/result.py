"""How a Job has ended, and what it leaves: its files from the bucket, its adapter served where that was asked for."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from inference.adapters.record import COMPARISON_FILE, read_beside
from inference.adapters.served import promote, serving
from inference.common.environment import hide_secrets
from inference.common.errors import UserError
from inference.common.settings import Settings
from inference.model.lora_file import CONFIG_FILE
from training.hub.backup.mirror import run_state
from training.hub.backup.restore import has_copy, restore_run
from training.hub.backup.snapshots import StateTree
from training.hub.publish.queue import QUEUE
from training.launch.jobs.api import Job
from training.launch.jobs.log_stream import MIRRORED
from training.runs import outcome as run_ends
from training.runs.folder import RunFolder
from training.runs.outcome import OUTPUT, End
from training.runs.record import IN_BUCKET, RunRecord, is_away
from training.runs.recovery import PROCESS, REQUEST, is_number, read_json

BEHIND = "the bucket does not show"
"""How the words begin for files that have not arrived there yet."""
OURS = (REQUEST, PROCESS, IN_BUCKET, "job.json", "job.lock", "lock")
"""Files of a run's folder that are this machine's."""
log = logging.getLogger(__name__)


def bring_home(record: RunRecord, state: Path | None) -> str:
    """Bring the run's folder up to date from its copy; what keeps it from that, in words.

    What it has queued for publishing stays aside for `take_queue`.
    """
    if state is None or not state.is_dir():
        return "its files are in the bucket, which is not mounted here (LOOKTHINK_STATE)"
    if not has_copy(record.id, state):
        if mirrored_step(record):
            return f"there is no copy of it in {state} yet"
        (record.folder / IN_BUCKET).unlink(missing_ok=True)
        return ""
    aside = _aside(record)
    try:
        shutil.rmtree(aside, ignore_errors=True)
        copy = restore_run(record.id, state, aside)
        for path in sorted(copy.rglob("*"), key=lambda path: path.name == "complete.json"):
            name = path.relative_to(copy).as_posix()
            is_ours = name in OURS or name.startswith(f"{QUEUE}/")
            if path.is_file() and not is_ours and not _is_newer(record.folder / name, path):
                (record.folder / name).parent.mkdir(parents=True, exist_ok=True)
                path.replace(record.folder / name)
        if _is_behind(record, state):
            return f"{BEHIND} the newest copy of it yet"
        (record.folder / IN_BUCKET).unlink(missing_ok=True)
        return ""
    except (UserError, OSError) as error:
        return f"its files could not be brought home from the bucket: {error}"


def take_queue(record: RunRecord, wanted: bool) -> None:
    """What the Job could not publish is published from here, where no next Job does it."""
    queued = _aside(record) / "runs" / record.id / QUEUE
    if wanted and queued.is_dir():
        shutil.copytree(queued, record.folder / QUEUE, dirs_exist_ok=True)
    shutil.rmtree(_aside(record), ignore_errors=True)


def _aside(record: RunRecord) -> Path:
    return record.folder.parent / f".job-{record.id}"


def _is_newer(here: Path, copy: Path) -> bool:
    """Of what the trainer printed, and of which checkpoint was copied, the log had the last word."""
    if here.name == MIRRORED:
        return here.is_file()
    return here.name == OUTPUT and here.is_file() and here.stat().st_size >= copy.stat().st_size


def _is_behind(record: RunRecord, state: Path) -> bool:
    """A bucket shows what was written elsewhere some time later."""
    told = (read_json(record.folder / MIRRORED) or {}).get("manifest")
    newest = StateTree(run_state(state, record.id)).newest_path()
    return isinstance(told, str) and newest is not None and newest.name < told


def mirrored_step(record: RunRecord) -> int:
    """The newest checkpoint in the bucket, by the Job's own word; 0 for none."""
    step = (read_json(record.folder / MIRRORED) or {}).get("step")
    return step if isinstance(step, int) and is_number(step) and step >= 0 else 0


def judge_job(record: RunRecord, job: Job, has_begun: bool, settings: Settings) -> tuple[End | None, str]:
    """How the run has ended with its Job; `None` if a next Job is to go on, and why the last one ended."""
    end = run_ends.judge(record)
    why = _why(record, job)
    has_adapter = (record.folder / "adapter" / CONFIG_FILE).is_file()
    if end is None and job.stage == "COMPLETED" and (has_adapter or is_away(record)):  # of a log that was not to be had
        end = End("succeeded")
    if end is not None:
        return (_with_its_adapter(record, settings) if end.status == "succeeded" else end), why
    if job.stage in ("CANCELED", "DELETED"):  # whoever did that does not want the next one either
        done = "cancelled" if job.stage == "CANCELED" else "deleted"
        return End("interrupted", f"its Job was {done} on the Hub, not from here{_kept(record)}"), why
    if not has_begun:
        return End("failed", f"{why}. Its last words:\n{last_words(record)}"), why
    return None, why


def _why(record: RunRecord, job: Job) -> str:
    said = f" ({job.message})" if job.message else ""
    if "timeout" in job.message.lower():
        return f"its Job ran into its timeout{said}"
    word = (read_json(record.folder / run_ends.EXIT) or {}) if run_ends.has_ended(record) else {}
    if word.get("status") == run_ends.INTERRUPTED:
        return "its Job's time was nearly over"
    return f"its Job failed{said}" if job.stage == "ERROR" else "its Job ended without a word"


def _kept(record: RunRecord) -> str:
    step = mirrored_step(record)
    return f"; it can go on from step {step}" if step else "; it has no checkpoint yet"


def last_words(record: RunRecord) -> str:
    """The end of what its Jobs have printed."""
    return hide_secrets(run_ends.log_tail(record.folder, lines=20))[-2000:] or "nothing"


def _with_its_adapter(record: RunRecord, settings: Settings) -> End:
    """Done, if what it was done for is here, or will be."""
    if (record.folder / "adapter" / CONFIG_FILE).is_file():
        return _promoted(record, settings)
    if is_away(record):
        return End("succeeded", "its adapter is in the bucket, and comes when that answers")
    reason = f"its Job was done, but its adapter did not reach the bucket; is that full?{_kept(record)}"
    RunFolder(record.folder).set_status("interrupted", reason)
    return End("interrupted", reason)


def _promoted(record: RunRecord, settings: Settings) -> End:
    """Done; where it was asked for and the Job's comparison says it is better, its adapter is served from now on."""
    adapter = RunFolder(record.folder).adapter
    found = read_beside(adapter, COMPARISON_FILE)
    if not record.promote or found.get("is_better") is not True:
        return End("succeeded")
    compared = found.get("served")
    digest = compared.get("digest") if isinstance(compared, dict) else None
    by = f"{record.asked_by}, by the run {record.id}"[:200]
    try:
        if digest != serving(settings).digest:
            return End("succeeded", "it waits: another adapter came to be served than the one it was compared with")
        own = found.get("adapter")
        now = promote(settings.home, adapter, by, settings=settings, instead_of=digest, digest=own)
        return End("succeeded", f"it is better, and served from now on as {now.name}")
    except UserError as error:
        return End("succeeded", f"it waits, since it could not be promoted: {error}")
