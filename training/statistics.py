"""Shares and differences of shares with their 95 % intervals.

>>> print(share([True] * 9 + [False]))
90.0 % (59.6 to 98.2)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

Z = 1.959964
"""Of the normal distribution, for two-sided 95 %."""


@dataclass(frozen=True)
class Estimate:
    """A share, or a difference of two, as a fraction of 1, with its 95 % interval and the number of rows."""

    value: float
    low: float
    high: float
    num_rows: int

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"

    def to_json(self) -> dict[str, Any]:
        return {name: round(number, 4) for name, number in asdict(self).items()}


def share(hits: Sequence[bool]) -> Estimate:
    """The share of true ones, with Wilson's score interval: inside 0 to 1, and of some width at 0 and 1 too."""
    n = len(hits)
    if n == 0:
        raise ValueError("a share of no rows was asked for; give at least 1 row")
    p = sum(hits) / n
    centre = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return Estimate(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)), n)


def paired_difference(after: Sequence[bool], before: Sequence[bool]) -> Estimate:
    """How much larger the share of true ones is in `after` than in `before`, the same rows in the same order.

    The interval is Bonett and Price's (2012) adjusted Wald interval for paired proportions: with `gained` and `lost`
    the rows that changed, a = (gained + 1) / (n + 2) and b = (lost + 1) / (n + 2), it is
    a - b ± z · sqrt((a + b - (a - b)²) / (n + 2)). It keeps some width when no row, or every row, changed.
    """
    n = len(after)
    if n == 0 or n != len(before):
        raise ValueError(f"{n} rows after and {len(before)} before; a paired difference needs the same rows, and some")
    gained = sum(a and not b for a, b in zip(after, before))
    lost = sum(b and not a for a, b in zip(after, before))
    a, b = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = Z * math.sqrt((a + b - (a - b) ** 2) / (n + 2))
    return Estimate((gained - lost) / n, max(-1.0, a - b - half), min(1.0, a - b + half), n)
