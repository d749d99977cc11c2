"""Snapshots of a run while it trains: read from its folder, only what is new, in bounded memory.

    watch = RunWatch(record.folder)
    snapshot = watch.look(store.get(record.id))     # again and again, from one thread at a time

A run folder may have been edited by hand, and its texts come from a model: values that are not finite numbers are left
out, and texts must be escaped where they are shown.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from inference.common.environment import hide_secrets
from inference.common.files import Json, json_object, read_json
from training.runs.diagnosis import Finding, diagnose
from training.runs.folder import DROPPED
from training.runs.metrics import CURVES, is_figure
from training.runs.outcome import estimated_step_seconds, last_rows, log_tail, progress, seconds_a_step, seconds_after
from training.runs.record import RunRecord, RunStatus
from training.runs.recovery import record_of
from training.runs.rollout_file import RolloutFile, is_group, pictures_of

MAX_POINTS = 400
"""Points of a curve; beyond twice as many, neighbours become their mean."""
MAX_GROUPS = 8
_DIAGNOSED = (*CURVES.values(), "grad_norm", "entropy", "completions/clipped_ratio")
_FIRST_ROWS, _LAST_ROWS = 1_000, 4_000
"""The rows of a longer run that are diagnosed."""
_READ_BYTES = 1 << 20
_MAX_LINE_BYTES = 1 << 20
_GROUP_BYTES = 1 << 20


@dataclass(frozen=True)
class Snapshot:
    """The state of a run at one moment."""

    status: str
    reason: str
    stage: str
    """The trainer's stage, such as "loading the model"; empty unless the run is running."""
    step: int
    max_steps: int | None
    """`None` before the number of steps is known."""
    seconds_left: float | None
    """Seconds left with evaluation and comparison, by the newest steps and the run's estimate; 0 or less where it takes
    longer than estimated, `None` where that is unknown."""
    hours: float | None
    cost_dollars: float | None
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """For each name of `CURVES` that has values: points (step, value), at most twice `MAX_POINTS`."""
    findings: list[Finding] = field(default_factory=list)
    """Problems of the run, in words."""
    dropped: str = ""
    """The data's rows that were left out, by reason; empty if there are none."""
    log: str = ""
    """The last lines of the process's output, plain text."""
    groups: list[Json] = field(default_factory=list)
    """The newest step's rollout groups as in `rollouts.jsonl`; `image` is the picture's `Path` or `None`."""


class RunWatch:
    """Follows one run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rollouts = folder, RolloutFile(folder)
        self._metrics = folder / "metrics.jsonl"
        self._begin()

    def look(self, record: RunRecord | None = None) -> Snapshot:
        """The state now; without its record, as the folder alone tells it. Raises `UserError` if it is no run."""
        record = record or record_of(self.folder) or _of_status(self.folder)
        self._read_on()
        groups = newest_groups(self.folder)
        facts = progress(record)
        step, max_steps = facts.get("step", record.step), facts.get("max_steps", record.max_steps)
        return Snapshot(
            status=record.status,
            reason=record.reason,
            stage=self._stage(record),
            step=step,
            max_steps=max_steps,
            seconds_left=self._seconds_left(record, step, max_steps),
            hours=record.hours or None,
            cost_dollars=record.cost_dollars,
            curves={name: list(curve.points) for name, curve in self._curves.items() if curve.points},
            findings=diagnose([*self._first, *self._last], groups),
            dropped=_dropped(self.folder),
            log=hide_secrets(log_tail(self.folder)),
            groups=groups,
        )

    def _begin(self) -> None:
        self._offset = 0
        self._start = b""
        self._curves = {name: _Curve() for name in CURVES}
        self._first: list[Json] = []
        self._last: list[Json] = []

    def _read_on(self) -> None:
        """Reads the lines that were added, or all of them if the file is a new one or was rewound."""
        try:
            with self._metrics.open("rb") as file:
                if self._was_rewritten(file.read(len(self._start)), file.seek(0, 2)):
                    self._begin()
                if not self._start:
                    file.seek(0)
                    self._start = file.read(200)
                self._take_lines(file)
        except OSError:
            return  # none yet

    def _was_rewritten(self, start: bytes, size: int) -> bool:
        """True where a resume has written the file anew, without the steps after its checkpoint."""
        inode = self._metrics.stat().st_ino
        before, self._inode = getattr(self, "_inode", inode), inode
        return inode != before or size < self._offset or start != self._start

    def _take_lines(self, file: BinaryIO) -> None:
        file.seek(self._offset)
        rest = b""
        while chunk := file.read(_READ_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._offset += len(line) + 1
                self._take(line)
            if len(rest) > _MAX_LINE_BYTES:  # no line of a trainer
                self._offset += len(rest)
                rest = b""

    def _take(self, line: bytes) -> None:
        if (row := json_object(line)) is None or not is_figure(row.get("step")):
            return
        for name, column in CURVES.items():
            if is_figure(row.get(column)):
                self._curves[name].add(float(row["step"]), float(row[column]))
        figures = {"step": row["step"]} | {name: row[name] for name in _DIAGNOSED if is_figure(row.get(name))}
        if len(self._first) < _FIRST_ROWS:
            self._first.append(figures)
        else:
            self._last.append(figures)
            if len(self._last) > 2 * _LAST_ROWS:
                del self._last[:_LAST_ROWS]

    def _stage(self, record: RunRecord) -> str:
        values = read_json(self.folder / "status.json") or {}
        if record.status not in ("running", "stopping") or values.get("status") != "running":
            return ""
        return str(values.get("reason") or "")[:200]

    def _seconds_left(self, record: RunRecord, step: int, max_steps: int | None) -> float | None:
        """Of the steps that are left, as measured or else as estimated, and of the stages after them; 0 or less once
        those stages take longer than estimated."""
        seconds = seconds_a_step(self.folder) or estimated_step_seconds(self.folder)
        if max_steps is None or seconds is None or not (record.is_active or record.status == "queued"):
            return None
        after = seconds_after(self.folder, seconds)
        if step < max_steps:
            return seconds * (max_steps - step) + after
        return after - (time.time() - self._metrics.stat().st_mtime)


class _Curve:
    """The points of a curve; as it grows, neighbours are replaced by their mean."""

    def __init__(self) -> None:
        self.points: list[tuple[float, float]] = []
        self._each = 1
        self._waiting: list[tuple[float, float]] = []

    def add(self, step: float, value: float) -> None:
        self._waiting.append((step, value))
        if len(self._waiting) == self._each:
            self.points.append(_mean(self._waiting))
            self._waiting = []
        if len(self.points) == 2 * MAX_POINTS:
            self.points = [_mean(self.points[i : i + 2]) for i in range(0, len(self.points), 2)]
            self._each *= 2


def _dropped(folder: Path) -> str:
    words = (read_json(folder / DROPPED) or {}).get("words")
    return words if isinstance(words, str) else ""


def newest_groups(folder: Path) -> list[Json]:
    """The rollout groups of the newest step, at most `MAX_GROUPS`, with `images` as paths inside the run folder."""
    rows = [row for row in last_rows(folder / "rollouts.jsonl", MAX_GROUPS, _GROUP_BYTES) if is_group(row)]
    newest = [row for row in rows if row.get("step") == rows[-1].get("step")]
    return [row | {"images": pictures_of(folder, row)} for row in newest]


def _mean(points: Iterable[tuple[float, float]]) -> tuple[float, float]:
    steps, values = zip(*points)
    return sum(steps) / len(steps), sum(values) / len(values)


def _of_status(folder: Path) -> RunRecord:
    """The record of a run that was started by hand and has not ended, from its `status.json`."""
    values = read_json(folder / "status.json") or {}
    status: RunStatus = "running" if values.get("status") == "running" else "queued"
    return RunRecord(id=folder.name, folder=folder, config="{}", status=status)
