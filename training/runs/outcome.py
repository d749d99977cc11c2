"""How a run whose process is gone has ended, what a run has done so far, and how long it may take to stop.

An end has a reason in words. A process that left no word has died, and that is no end: the launcher resumes the run.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.runs.failures import BUDGET_SPENT, INTERRUPTED
from training.runs.folder import MARKER, RunFolder
from training.runs.processes import boot_id
from training.runs.record import RunRecord, RunStatus
from training.runs.recovery import MAX_FIGURE, PROCESS, is_number, read_json

EXIT = "exit.json"
OUTPUT = "output.log"
"""What the trainer's process prints, over all its starts."""
WRONG_INPUT = 2
MIN_GRACE_SECONDS, MAX_GRACE_SECONDS = 30.0, 1800.0
_TAIL_BYTES = 65_536
_RECENT_STEPS = 20


@dataclass(frozen=True)
class End:
    """A status that a run ends with, and why."""

    status: RunStatus
    reason: str = ""


def judge(record: RunRecord) -> End | None:
    """How a run whose process is gone has ended; `None` if the process died and is to be started again."""
    said = _word(record)
    status = said.get("status") if said else None
    newest = RunFolder(record.folder).newest_checkpoint()
    kept = f"; it can go on from {newest.name}" if newest else "; it has no checkpoint yet"
    reason = str(said.get("reason") or "") if said else ""
    if status == 0:
        return End("succeeded")
    if record.stop_for == "cancel" and status in (None, 1, INTERRUPTED):
        return End("cancelled", f"cancelled at step {_step(record)}{kept}")
    if status == BUDGET_SPENT or record.stop_for == "budget" and status in (None, 1, INTERRUPTED):
        return End("interrupted", reason if status == BUDGET_SPENT and reason else f"{_budget(record)} used up{kept}")
    if status == INTERRUPTED:
        if record.boot_id != boot_id():
            return None  # the machine went down, and took it along
        return End("interrupted", f"stopped by a signal that was not sent from here ({reason}){kept}")
    if isinstance(status, int) and status > 1:
        return End("failed", reason or f"the trainer ended with status {status}")
    return None


def seconds_run(record: RunRecord) -> float:
    """How long the newest start ran, by its own word, in seconds; 0 if there is none."""
    for name in (EXIT, PROCESS):
        said = read_json(record.folder / name) or {}
        seconds = said.get("seconds")
        if said.get("launch") == record.launch and isinstance(seconds, int | float) and 0 <= seconds < 1e9:
            return float(seconds)
    return 0.0


def has_ended(record: RunRecord) -> bool:
    """True if the newest start has said how it ended, though its process may not be gone yet."""
    return _word(record) is not None


def progress(record: RunRecord) -> dict[str, Any]:
    """What the folder says of the run, as fields of its record: `step`, `max_steps`, `metrics` where they are clear."""
    path = record.folder / "metrics.jsonl"
    if not path.is_file() or not path.stat().st_size:
        return {"step": 0, "metrics": {}}  # also of one that was resumed from before its first checkpoint
    rows = last_rows(path, 1)
    if not rows:
        return {}
    row = rows[-1]
    step = row.get("step")
    if not isinstance(step, int) or not is_number(step) or step < 0:
        return {}
    numbers = {k: v for k, v in row.items() if is_number(v, MAX_FIGURE) and len(k) < 100}
    return {"step": step, "metrics": numbers} | _steps_in_all(record, row)


def grace_seconds(folder: Path) -> float:
    """How long a stop may take: twice the longest recent step and the newest save, measured, and half a minute."""
    return min(MAX_GRACE_SECONDS, MIN_GRACE_SECONDS + 2 * step_and_save_seconds(folder))


def step_and_save_seconds(folder: Path) -> float:
    """How long a step and a checkpoint may take: the longest of the recent steps and the newest save, measured."""
    return max(_recent_steps(folder), default=0.0) + _save_seconds(folder)


def seconds_a_step(folder: Path) -> float | None:
    """The median of the newest steps; `None` before there is one."""
    steps = _recent_steps(folder)
    return statistics.median(steps) if steps else None


def last_rows(path: Path, count: int, max_bytes: int = _TAIL_BYTES) -> list[dict[str, Any]]:
    """The last whole lines of a JSONL file, from its last `max_bytes`, the newest last."""
    rows: list[dict[str, Any]] = []
    for line in reversed(_tail(path, max_bytes).split(b"\n")[:-1]):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
        if len(rows) == count:
            break
    return rows[::-1]


def log_tail(folder: Path, lines: int = 40, max_bytes: int = 16_384) -> str:
    """The last lines of what the trainer printed, as plain text: of a progress bar only what was drawn last."""
    text = _end_of(folder / OUTPUT, max_bytes).decode("utf-8", errors="replace")
    shown = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    plain = ("".join(c for c in line if c.isprintable() or c == "\t").rstrip() for line in shown)
    return "\n".join([line for line in plain if line][-lines:])


def _word(record: RunRecord) -> dict[str, Any] | None:
    """What the newest start said when it ended."""
    said = read_json(record.folder / EXIT)
    return said if said and said.get("launch") == record.launch and isinstance(said.get("status"), int) else None


def _budget(record: RunRecord) -> str:
    hours = record.budget_hours
    return "the budget is" if hours is None else f"the budget of {hours:.2f} h is"


def _step(record: RunRecord) -> int:
    return int(progress(record).get("step", record.step))


def _steps_in_all(record: RunRecord, row: dict[str, Any]) -> dict[str, int]:
    """From the configuration, or from how far through its epochs a step is."""
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
    """Seconds of the newest steps."""
    times = [row.get("step_time") for row in last_rows(folder / "metrics.jsonl", _RECENT_STEPS)]
    return [float(t) for t in times if isinstance(t, int | float) and 0 <= t < MAX_GRACE_SECONDS]


def _save_seconds(folder: Path) -> float:
    """How long the newest checkpoint took to write, by the times of its files; 0 where they make no sense."""
    newest = RunFolder(folder).newest_checkpoint()
    if newest is None:
        return 0.0
    times = [path.stat().st_mtime for path in newest.iterdir()]
    seconds = (newest / MARKER).stat().st_mtime - min(times)
    return seconds if 0 <= seconds < MAX_GRACE_SECONDS else 0.0


def _tail(path: Path, max_bytes: int) -> bytes:
    """The end of a file, from the start of a line on."""
    found = _end_of(path, max_bytes)
    return found if len(found) < max_bytes else found.partition(b"\n")[2]


def _end_of(path: Path, max_bytes: int) -> bytes:
    """The last bytes of a file; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - max_bytes))
            return file.read(max_bytes)
    except OSError:
        return b""
