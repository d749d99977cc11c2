"""Stalls: a run in training that makes no step for many times its usual one.

    stalls = StallWatch()
    stalls.look(record)         # at each look at the run: what to tell, and whether to end it

The time is counted by this process's own clock from when a step was last seen to end, so that a changed clock, a
sleeping machine or a restart of the app only make it longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from inference.common.files import Json, read_json
from training.runs import outcome
from training.runs.record import RunRecord

MIN_STALL_SECONDS = 600.0
"""No step that is shorter is taken for a stall."""
NO_STEP = "no step has ended for "
"""The beginning of the reason of a run that seems to have stalled."""
TELL_SHARE = 0.5
"""Of the time after which a stalled run is ended: then the owner is told."""
MAX_STALLS = 1
"""Stalls after which a run is resumed."""


@dataclass(frozen=True)
class Stall:
    """A run that makes no step."""

    words: str
    is_over: bool
    """True if the run is to be ended."""


class StallWatch:
    """Remembers of the newest start when its files last told of a step."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: tuple[object, ...] = ()
        self._since = 0.0

    def look(self, record: RunRecord) -> Stall | None:
        """The stall of a run that trains; `None` while it makes steps, does something else, or has no usual step."""
        signs = (record.launch, *_signs(record))
        now = self._clock()
        if signs != self._seen:
            self._seen, self._since = signs, now
        limit = limit_seconds(record)
        waited = now - self._since
        if limit is None or waited < TELL_SHARE * limit or not _is_training(record):
            return None
        words = f"{NO_STEP}{_minutes(waited)}, and one usually takes {_usual(record):.3g} s"
        if waited < limit:
            return Stall(f"{words}; after {_minutes(limit)} it is ended at a checkpoint and resumed", False)
        return Stall(words, True)


def told(record: RunRecord, stall: Stall | None) -> str:
    """The reason of a running run's record: the stall, or what it was where there is none any more."""
    if stall is not None:
        return stall.words
    return "" if record.reason.startswith(NO_STEP) else record.reason


def limit_seconds(record: RunRecord) -> float | None:
    """Seconds without a step that are a stall; `None` where that is turned off or no step is known."""
    try:
        factor = record.run_config.stall_factor
    except ValueError:  # of another version
        return None
    usual = _usual(record)
    if not factor or usual is None:
        return None
    return max(MIN_STALL_SECONDS, factor * usual + 2 * outcome.save_seconds(record.folder))


def after_stall(record: RunRecord, step: int) -> tuple[outcome.End | None, Json]:
    """The end of a run that has stalled again, else `None`; and the changes to its record."""
    counted: Json = {"stalls": record.stalls + 1}
    if record.stalls < MAX_STALLS:
        return None, counted
    words = outcome.log_tail(record.folder, lines=12)[-1500:] or "nothing"
    return outcome.End(
        "failed",
        f"stalled again after it was resumed ({record.reason}), at step {step}. Look for what a step waits for: a "
        "reward function, a disk, another process; raise stall_factor if its steps may take so long. Its last words:\n"
        f"{words}",
    ), counted


def _signs(record: RunRecord) -> list[object]:
    """The files that change at each step, checkpoint and stage."""
    signs: list[object] = []
    for name in ("hours.json", "metrics.jsonl", "status.json"):
        try:
            about = (record.folder / name).stat()
            signs.append((about.st_mtime_ns, about.st_size))
        except OSError:
            signs.append(None)
    return signs


def _is_training(record: RunRecord) -> bool:
    """True while the trainer makes steps, not while it loads, evaluates or waits."""
    status = read_json(record.folder / "status.json") or {}
    return status.get("status") == "running" and str(status.get("reason")).startswith("training")


def _usual(record: RunRecord) -> float | None:
    return outcome.seconds_a_step(record.folder) or outcome.estimated_step_seconds(record.folder)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
