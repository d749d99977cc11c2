"""A measurement, and many of them as a table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Measurement:
    """One line of the table."""

    name: str
    value: str
    """With its unit."""
    goal: str = ""
    """What the product is to reach, on two idle cores."""
    note: str = ""


def now() -> float:
    """Seconds on the clock, once the device has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_of(*actions: Callable[[], object], repeats: int = 5) -> list[list[float]]:
    """Seconds each action took, `repeats` times, after one unmeasured round; the actions take turns, so that what
    else the machine does meets all of them alike."""
    for action in actions:
        action()
    rounds = [[_timed(action) for action in actions] for _ in range(repeats)]
    return [list(column) for column in zip(*rounds)]


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


HEAD = "| measured | value | goal | note |\n| --- | --- | --- | --- |"


def line(measurement: Measurement) -> str:
    """A row of the table in Markdown, under `HEAD`."""
    return f"| {measurement.name} | {measurement.value} | {measurement.goal} | {measurement.note} |"


def _timed(action: Callable[[], object]) -> float:
    started = now()
    action()
    return now() - started
