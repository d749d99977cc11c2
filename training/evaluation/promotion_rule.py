"""The rule by which a new adapter may be promoted automatically, apart from how its figures come about.

The rule looks at the 95 % intervals of strict and of lenient accuracy, new less served, on the same validation rows.
The new adapter is better where neither interval reaches below zero and at least one lies wholly above zero.

Bonett and Price's interval (`training.evaluation.statistics`) has a width even where no row changed, so it then reaches
below zero for want of knowledge, not of rows that were lost. Where no row was gained and none lost, the interval counts
as [0, 0]: such a measure is no reason for the adapter, and none against it.
"""

from __future__ import annotations

from pathlib import Path

from inference.adapters.record import read_beside
from inference.common.files import Json
from training.evaluation.statistics import PairedDifference

REQUEST_FILE = "request.json"
"""In the run folder: what the run was started with; `promote` and `asked_by` are read here."""


def counted(difference: PairedDifference) -> tuple[float, float]:
    """The interval as the rule takes it, low and high: [0, 0] where no row changed.

    >>> from training.evaluation.statistics import paired_difference
    >>> counted(paired_difference([True, False], [True, False]))
    (0.0, 0.0)
    """
    if difference.gained == difference.lost == 0:
        return 0.0, 0.0
    return difference.low, difference.high


def is_better(strict: PairedDifference, lenient: PairedDifference) -> bool:
    """True if the rule lets the new adapter be promoted. Never true for both directions of one comparison."""
    lows = [counted(difference)[0] for difference in (strict, lenient)]
    return min(lows) >= 0 and max(lows) > 0


def reason(strict: PairedDifference, lenient: PairedDifference, against: str) -> str:
    """The figures and what follows from them, in a few sentences."""
    measures = {"strict": strict, "lenient": lenient}
    figures = ", ".join(f"{name} accuracy {difference}" for name, difference in measures.items())
    start = f"On {strict.num_rows:,} validation rows, in points against {against}: {figures}."
    if is_better(strict, lenient):
        return f"{start} Neither interval reaches below zero and one lies above it: it is better."
    below = [name for name, difference in measures.items() if counted(difference)[0] < 0]
    if not below:
        return f"{start} No row came out otherwise: neither is better."
    worse = [name for name, difference in measures.items() if difference.high < 0]
    if worse:
        return f"{start} It is worse in {' and '.join(worse)} accuracy."
    reaches = "intervals reach" if len(below) > 1 else "interval reaches"
    return f"{start} In {' and '.join(below)} accuracy the {reaches} below zero: it is not surely better."


def summary(comparison: Json) -> str:
    """The result of the comparison and what followed from it, in a few sentences."""
    return " ".join(str(comparison[name]) for name in ("reason", "outcome") if comparison.get(name))


def read_request(run_folder: Path) -> Json:
    """The run's request; empty where there is none or it is broken, for then nobody requested anything."""
    return read_beside(run_folder, REQUEST_FILE)
