"""A run's budget of hours: the time of all its starts, and the stop before the budget is exceeded.

All time of a start counts, from the beginning of its process to its end. The budget is checked before each step: a run
that has begun the choice of the checkpoint, the evaluation or the comparison after its last step finishes them, unless
the launcher stops it (`training.launch.local`). `hours.json` in the run folder has the count, and of the newest start
the seconds of loading and of all steps. It is written at every step and stage, so that a kill loses at most one of
them.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from inference.common.files import Json, read_json, read_lines, write_json
from training.runs.metrics import is_number

RECENT_STEPS = 8
"""The next step is expected to take at most as long as the longest of these."""
log = logging.getLogger(__name__)


class BudgetSpent(Exception):
    """One more step would exceed the budget; its `str` is the message for the user."""


class Budget:
    """The clock of one start of the run in `folder`, whose process began `already` seconds ago."""

    def __init__(self, folder: Path, max_hours: float | None, already: float = 0.0) -> None:
        self.path = folder / "hours.json"
        self.max_hours = max_hours
        record = self._read(folder / "metrics.jsonl")
        self._starts: list[Json] = record["starts"]
        self._before = sum(start["seconds"] for start in self._starts)
        self._steps: deque[float] = deque(_all_seconds(record.get("recent_step_seconds")), maxlen=RECENT_STEPS)
        self._save, self._load = (sum(_all_seconds([record.get(name)])) for name in ("save_seconds", "load_seconds"))
        self._trained = 0.0
        self._opened = self._lap = time.monotonic()
        self._began = self._opened - already
        self._starts.append({"time": time.time(), "seconds": 0.0})

    def _read(self, metrics: Path) -> Json:
        """The record so far. Where starts of it cannot be read, the hours are at least those of the steps.

        So a damaged record costs the hours of loading and evaluating, never the run or its budget.
        """
        record = read_json(self.path) or {}
        listed = record.get("starts")
        rows = listed if isinstance(listed, list) else []
        starts: list[Json] = [row for row in rows if isinstance(row, dict) and _all_seconds([row.get("seconds")])]
        if self.path.exists() and (not isinstance(listed, list) or len(starts) < len(rows)):
            of_steps = sum(_all_seconds(row.get("step_time") for row in read_lines(metrics)))
            missing = max(0.0, of_steps - sum(start["seconds"] for start in starts))
            starts.append({"time": time.time(), "seconds": missing, "by": "the times of its steps"})
            log.warning("%s is damaged; %.2f h are counted by the times of its steps", self.path, missing / 3600)
        return record | {"starts": starts}

    @property
    def spent(self) -> float:
        """Seconds of all starts."""
        return self._before + time.monotonic() - self._began

    def needed(self, *, is_saving: bool = False, is_starting: bool = False) -> float:
        """Seconds that one more step and its checkpoint may take; 0 before the first step.

        With `is_saving` also those of a checkpoint that is due now, with `is_starting` also those of loading. A
        checkpoint counts as much as a step until one was measured.
        """
        step = max(self._steps, default=0.0)
        return step + (self._save or step) * (2 if is_saving else 1) + (self._load if is_starting else 0.0)

    def is_over(self, *, is_saving: bool = False, is_starting: bool = False) -> bool:
        """True if one more step and its checkpoint would exceed the budget; the arguments are those of `needed`."""
        if self.max_hours is None:
            return False
        return self.spent + self.needed(is_saving=is_saving, is_starting=is_starting) > 3600 * self.max_hours

    def loaded(self) -> None:
        """Records that loading has ended and the first step begins."""
        self._lap = time.monotonic()
        self._load = self._lap - self._opened
        self.record()

    def step_done(self) -> None:
        """Records that a step has ended."""
        self._steps.append(self._end_lap())
        self.record()

    def save_done(self) -> None:
        """Records that a checkpoint is written."""
        self._save = max(self._save, self._end_lap())
        self.record()

    def record(self) -> None:
        """Writes `hours.json`."""
        self._starts[-1]["seconds"] = round(time.monotonic() - self._began, 3)
        steps = {"recent_step_seconds": list(self._steps), "save_seconds": self._save, "load_seconds": self._load}
        steps["trained_seconds"] = self._trained
        write_json(self.path, {"starts": self._starts} | steps)

    def reason(self, step: int, path: Path) -> str:
        """The reason why the run ends at `step`, and the remedy."""
        return (
            f"the budget of {self.max_hours:g} {'hour' if self.max_hours == 1 else 'hours'} (max_hours) is used up: "
            f"{self.spent / 3600:.3g} are spent at step {step}, and one more step with its checkpoint may take "
            f"{self.needed():.3g} s; raise max_hours and go on with --resume {path}"
        )

    def _end_lap(self) -> float:
        before, self._lap = self._lap, time.monotonic()
        self._trained += self._lap - before
        return self._lap - before


def _all_seconds(values: object) -> list[float]:
    """The values that are seconds: finite numbers from 0 on."""
    rows = values if isinstance(values, Iterable) and not isinstance(values, str | dict) else ()
    return [float(value) for value in rows if is_number(value) and value >= 0]
