"""What is to be seen of a run while it trains: read from its folder, only what is new, in bounded memory.

    watch = RunWatch(record.folder)
    snapshot = watch.look(store.get(record.id))     # again and again, from one thread at a time

What a run folder holds may have been edited by hand, and its texts come from a model: values that are no finite numbers
are left out, and texts are to be escaped where they are shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference.common.environment import hide_secrets
from training.runs.diagnosis import Finding, diagnose
from training.runs.metrics import CURVES
from training.runs.outcome import last_rows, log_tail, progress, seconds_a_step
from training.runs.record import RunRecord
from training.runs.recovery import MAX_FIGURE, is_number, read_json, record_of

MAX_POINTS = 400
"""Points of a curve; beyond twice as many, neighbours become their mean."""
MAX_GROUPS = 8
_DIAGNOSED = (*CURVES.values(), "grad_norm", "entropy", "completions/clipped_ratio")
_FIRST_ROWS, _LAST_ROWS = 1_000, 4_000
"""What the diagnosis looks at of a longer run."""
_READ_BYTES = 1 << 20
_MAX_LINE_BYTES = 1 << 20
_GROUP_BYTES = 1 << 20
_PICTURE = re.compile(r"\w+\.jpg")


@dataclass(frozen=True)
class Snapshot:
    """A run at a moment."""

    status: str
    reason: str
    stage: str
    """What the trainer is doing, in words, as in "loading the model"; empty unless it runs."""
    step: int
    max_steps: int | None
    """`None` before the number of steps is known."""
    seconds_left: float | None
    """Of training, by the newest steps; `None` where nothing is known or nothing is left."""
    hours: float | None
    cost_dollars: float | None
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """For each name of `CURVES` that has values: points (step, value), at most twice `MAX_POINTS`."""
    findings: list[Finding] = field(default_factory=list)
    """What is going wrong, in words."""
    log: str = ""
    """The tail of the process's output, plain text."""
    groups: list[dict[str, Any]] = field(default_factory=list)
    """The newest step's rollout groups as in `rollouts.jsonl`; `image` is the picture's `Path` or `None`."""


class RunWatch:
    """Follows one run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._metrics = folder / "metrics.jsonl"
        self._begin()

    def look(self, record: RunRecord | None = None) -> Snapshot:
        """How the run stands now; without its record, what the folder alone says. Raises `UserError` for no run."""
        record = record or record_of(self.folder) or _of_status(self.folder)
        self._read_on()
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
            findings=diagnose([*self._first, *self._last]),
            log=hide_secrets(log_tail(self.folder)),
            groups=newest_groups(self.folder),
        )

    def _begin(self) -> None:
        self._offset = 0
        self._start = b""
        self._curves = {name: _Curve() for name in CURVES}
        self._first: list[dict[str, Any]] = []
        self._last: list[dict[str, Any]] = []

    def _read_on(self) -> None:
        """Take in the whole lines that were added; from the beginning if the file is another one or was rewound."""
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
        """A run that is resumed drops the steps after its checkpoint by writing the file anew."""
        inode = self._metrics.stat().st_ino
        before, self._inode = getattr(self, "_inode", inode), inode
        return inode != before or size < self._offset or start != self._start

    def _take_lines(self, file: Any) -> None:
        file.seek(self._offset)
        rest = b""
        while chunk := file.read(_READ_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._offset += len(line) + 1
                self._take(line)
            if len(rest) > _MAX_LINE_BYTES:  # no line of ours
                self._offset += len(rest)
                rest = b""

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return
        if not isinstance(row, dict) or not _is_number(row.get("step")):
            return
        for name, column in CURVES.items():
            if _is_number(row.get(column)):
                self._curves[name].add(float(row["step"]), float(row[column]))
        kept = {"step": row["step"]} | {name: row[name] for name in _DIAGNOSED if _is_number(row.get(name))}
        if len(self._first) < _FIRST_ROWS:
            self._first.append(kept)
        else:
            self._last = [*self._last, kept] if len(self._last) < 2 * _LAST_ROWS else [*self._last[_LAST_ROWS:], kept]

    def _stage(self, record: RunRecord) -> str:
        said = read_json(self.folder / "status.json") or {}
        if record.status not in ("running", "stopping") or said.get("status") != "running":
            return ""
        return str(said.get("reason") or "")[:200]

    def _seconds_left(self, record: RunRecord, step: int, max_steps: int | None) -> float | None:
        if max_steps is None or not (record.is_active or record.status == "queued") or step >= max_steps:
            return None
        each = seconds_a_step(self.folder)
        return None if each is None else each * (max_steps - step)


class _Curve:
    """Points of a growing curve, thinned as it grows: neighbours become their mean."""

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


def newest_groups(folder: Path) -> list[dict[str, Any]]:
    """The rollout groups of the newest step, at most `MAX_GROUPS`, with `image` as a path inside the run folder."""
    rows = [row for row in last_rows(folder / "rollouts.jsonl", MAX_GROUPS, _GROUP_BYTES) if _is_group(row)]
    newest = [row for row in rows if row.get("step") == rows[-1].get("step")]
    return [row | {"image": _picture(folder, row.get("image"))} for row in newest]


def _is_group(row: dict[str, Any]) -> bool:
    completions = row.get("completions")
    return (
        isinstance(row.get("prompt"), str)
        and isinstance(completions, list)
        and all(isinstance(c, dict) and isinstance(c.get("text"), str) for c in completions)
    )


def _picture(folder: Path, name: Any) -> Path | None:
    """Only a file of the folder `images`, whatever the line says."""
    if not isinstance(name, str) or not _PICTURE.fullmatch(name):
        return None
    path = folder / "images" / name
    return path if path.is_file() and not path.is_symlink() else None


def _mean(points: Iterable[tuple[float, float]]) -> tuple[float, float]:
    steps, values = zip(*points)
    return sum(steps) / len(steps), sum(values) / len(values)


def _is_number(value: Any) -> bool:
    return is_number(value, MAX_FIGURE)


def _of_status(folder: Path) -> RunRecord:
    """A run begun by hand that is under way, as its own `status.json` says."""
    said = read_json(folder / "status.json") or {}
    status: Any = "running" if said.get("status") == "running" else "queued"
    return RunRecord(id=folder.name, folder=folder, config="{}", status=status)
