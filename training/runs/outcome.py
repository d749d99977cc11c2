"""The outcome of a run whose process is gone, the progress of any run, and the time that a stop may take.

A process that ended without writing `exit.json` has died; that is no outcome, and the launcher resumes the run.
"""

from __future__ import annotations

import re
import signal
import statistics
from dataclasses import dataclass
from pathlib import Path

from inference.common.files import Json, json_object, read_json
from training.runs.failures import BUDGET_SPENT, INTERRUPTED, memory_message
from training.runs.folder import MARKER, RunFolder
from training.runs.metrics import MAX_FIGURE, is_figure, is_number
from training.runs.processes import boot_id, memory_kills, signal_name
from training.runs.record import RunRecord, RunStatus
from training.runs.recovery import PROCESS

EXIT = "exit.json"
ESTIMATE = "estimate.json"
"""What the run was expected to take when its newest start began."""
OUTPUT = "output.log"
"""The output of the trainer's process, of all starts."""
WRONG_INPUT = 2
MIN_GRACE_SECONDS, MAX_GRACE_SECONDS = 30.0, 1800.0
_TAIL_BYTES, _LOG_BYTES = 65_536, 16_384
_RECENT_STEPS = 20
_LIBRARY_BAR = re.compile(r"(Loading weights|Loading checkpoint shards|Map|Filter|Saving the dataset)\b.*: *100%\|")


@dataclass(frozen=True)
class End:
    """The status that a run ends with, and the reason."""

    status: RunStatus
    reason: str = ""


def judge(record: RunRecord) -> End | None:
    """The end of a run whose process is gone; `None` if the process died and must be started again."""
    exit_record = _exit_record(record)
    status = exit_record.get("status") if exit_record else None
    newest = RunFolder(record.folder).newest_checkpoint()
    checkpoint = f"; it can go on from {newest.name}" if newest else "; it has no checkpoint yet"
    reason = str(exit_record.get("reason") or "") if exit_record else ""
    if status == 0:
        return End("succeeded")
    if record.stop_for == "cancel" and status in (None, 1, INTERRUPTED):
        return End("cancelled", f"cancelled at step {_step(record)}{checkpoint}")
    if status == BUDGET_SPENT or record.stop_for == "budget" and status in (None, 1, INTERRUPTED):
        return End(
            "interrupted", reason if status == BUDGET_SPENT and reason else f"{_budget(record)} used up{checkpoint}"
        )
    if record.stop_for == "stall" and status in (None, 1, INTERRUPTED):
        return None
    if status == INTERRUPTED:
        if record.boot_id != boot_id():
            return None  # the machine was shut down, and the run with it
        return End("interrupted", f"stopped by a signal that was not sent from here ({reason}){checkpoint}")
    if isinstance(status, int) and status > 1:
        return End("failed", reason or f"the trainer ended with status {status}")
    return None


def death_words(record: RunRecord, returncode: int | None = None) -> str:
    """The death of the newest start in words, by the child's status and by the kernel's count of kills."""
    claim, now = read_json(record.folder / PROCESS) or {}, memory_kills()
    before = claim.get("memory_kills") if claim.get("launch") == record.launch else None
    is_killed = returncode in (None, -signal.SIGKILL) and not has_ended(record)
    if is_killed and now is not None and isinstance(before, int) and now > before:
        return f"the kernel killed it: {_memory_remedy(record)}"
    if returncode is not None and returncode < 0:
        hint = ", which the kernel also does where memory runs out" if returncode == -signal.SIGKILL else ""
        return f"it was killed ({signal_name(-returncode)}{hint})"
    return "it died"


def _memory_remedy(record: RunRecord) -> str:
    try:
        return memory_message(record.run_config)
    except ValueError:  # of another version
        return "out of memory"


def exception_of(record: RunRecord) -> str:
    """The exception that ended the newest start before the run's first step; empty for any other end."""
    ended = _exit_record(record)
    return str(ended.get("reason") or "") if ended and ended["status"] == 1 and not _step(record) else ""


def dies_alike(record: RunRecord) -> End | None:
    """The end of a run whose newest start died as the one before, of one exception before the first step."""
    exception = exception_of(record)
    if not exception or exception != record.exception:
        return None
    return End(
        "failed",
        f"died twice of the same exception before its first step, so it is not started again: {exception}. Its log "
        "has the traceback; correct the cause, then resume it",
    )


def seconds_run(record: RunRecord) -> float:
    """Seconds that the newest start ran, as its process wrote them; 0 if it wrote none."""
    for name in (EXIT, PROCESS):
        values = read_json(record.folder / name) or {}
        seconds = values.get("seconds")
        if values.get("launch") == record.launch and isinstance(seconds, int | float) and 0 <= seconds < 1e9:
            return float(seconds)
    return 0.0


def has_ended(record: RunRecord) -> bool:
    """True if the newest start has written `exit.json`; its process may still be alive."""
    return _exit_record(record) is not None


def progress(record: RunRecord) -> Json:
    """Fields of the record as the folder tells them: `step`, `max_steps` and `metrics`, where they are clear."""
    path = record.folder / "metrics.jsonl"
    if not path.is_file() or not path.stat().st_size:
        return {"step": 0, "metrics": {}}  # also after a resume without a checkpoint
    rows = last_rows(path, 1)
    if not rows:
        return {}
    row = rows[-1]
    step = row.get("step")
    if not isinstance(step, int) or not is_number(step) or step < 0:
        return {}
    numbers = {k: v for k, v in row.items() if is_number(v, MAX_FIGURE) and len(k) < 100}
    return {"step": step, "metrics": numbers} | _total_steps(record, row)


def grace_seconds(folder: Path) -> float:
    """Seconds that a stop may take: twice `step_and_save_seconds`, and half a minute."""
    return min(MAX_GRACE_SECONDS, MIN_GRACE_SECONDS + 2 * step_and_save_seconds(folder))


def step_and_save_seconds(folder: Path) -> float:
    """Seconds that a step and its checkpoint may take: the longest recent step and the newest save, as measured."""
    return max(_recent_steps(folder), default=0.0) + save_seconds(folder)


def seconds_a_step(folder: Path) -> float | None:
    """The median of the newest steps, in seconds; `None` before the first."""
    steps = _recent_steps(folder)
    return statistics.median(steps) if steps else None


def seconds_after(folder: Path, step_seconds: float) -> float:
    """Seconds that the stages after the last step may take: the run's own estimate (`estimate.json`), as much longer or
    shorter as its steps turned out; 0 where there is none."""
    after, step = (read_json(folder / ESTIMATE) or {}).get("evaluation_seconds"), estimated_step_seconds(folder)
    if step is None or not is_figure(after) or after < 0:
        return 0.0
    return float(after) * step_seconds / step


def estimated_step_seconds(folder: Path) -> float | None:
    """The seconds of a step by the run's own estimate; `None` where there is none."""
    step = (read_json(folder / ESTIMATE) or {}).get("step_seconds")
    return float(step) if is_figure(step) and step > 0 else None


def last_rows(path: Path, count: int, max_bytes: int = _TAIL_BYTES) -> list[Json]:
    """The last whole lines of a JSONL file, from its last `max_bytes`, the newest last."""
    rows: list[Json] = []
    for line in reversed(_tail(path, max_bytes).split(b"\n")[:-1]):
        if (row := json_object(line)) is not None:
            rows.append(row)
        if len(rows) == count:
            break
    return rows[::-1]


def log_tail(folder: Path, lines: int = 40) -> str:
    """The last lines of the trainer's output as plain text; of a progress bar only its last state, and of a library's
    own bar nothing once it is full."""
    text = _end_of(folder / OUTPUT, _LOG_BYTES).decode("utf-8", errors="replace")
    shown = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    plain = ("".join(c for c in line if c.isprintable() or c == "\t").rstrip() for line in shown)
    return "\n".join([line for line in plain if line and not _LIBRARY_BAR.match(line)][-lines:])


def _exit_record(record: RunRecord) -> Json | None:
    """The content of `exit.json` if the newest start wrote it."""
    values = read_json(record.folder / EXIT)
    is_newest = values is not None and values.get("launch") == record.launch
    return values if is_newest and values and isinstance(values.get("status"), int) else None


def _budget(record: RunRecord) -> str:
    hours = record.budget_hours
    return "the budget is" if hours is None else f"the budget of {hours:.2f} h is"


def _step(record: RunRecord) -> int:
    return int(progress(record).get("step", record.step))


def _total_steps(record: RunRecord, row: Json) -> dict[str, int]:
    """The number of steps, from the configuration or from the share of an epoch at this step."""
    try:
        config = record.run_config
    except ValueError:
        return {}
    if config.max_steps:
        return {"max_steps": config.max_steps}
    epoch = row.get("epoch")
    if not isinstance(epoch, int | float) or not 0 < epoch < 1e6:
        return {}
    return {"max_steps": max(row["step"], round(row["step"] * config.num_epochs / epoch))}


def _recent_steps(folder: Path) -> list[float]:
    """Seconds of each of the newest steps."""
    times = [row.get("step_time") for row in last_rows(folder / "metrics.jsonl", _RECENT_STEPS)]
    return [float(t) for t in times if isinstance(t, int | float) and 0 <= t < MAX_GRACE_SECONDS]


def save_seconds(folder: Path) -> float:
    """Seconds that writing the newest checkpoint took, by the times of its files; 0 where they make no sense."""
    newest = RunFolder(folder).newest_checkpoint()
    if newest is None:
        return 0.0
    times = [path.stat().st_mtime for path in newest.iterdir()]
    seconds = (newest / MARKER).stat().st_mtime - min(times)
    return seconds if 0 <= seconds < MAX_GRACE_SECONDS else 0.0


def _tail(path: Path, max_bytes: int) -> bytes:
    """The end of a file, from the start of a line on."""
    content = _end_of(path, max_bytes)
    return content if len(content) < max_bytes else content.partition(b"\n")[2]


def _end_of(path: Path, max_bytes: int) -> bytes:
    """The last bytes of a file; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - max_bytes))
            return file.read(max_bytes)
    except OSError:
        return b""
