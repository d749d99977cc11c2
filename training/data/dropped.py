"""What was dropped from a dataset, and why: counted by reason, never silently.

>>> print(Dropped([Drop("train", "train[3]", "no gold", "empty")]))
dropped 1 row: 1 no gold (train)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from training.data.clean_row import REASONS


@dataclass(frozen=True)
class Drop:
    """One row that was left out."""

    role: str
    """`train`, `validation` or `test`: where it would have gone."""
    place: str
    """Its split and position, as in `train[17]`."""
    reason: str
    """One of `cells.REASONS`."""
    detail: str = ""

    def __post_init__(self) -> None:
        assert self.reason in REASONS, self.reason


@dataclass(frozen=True)
class Dropped:
    """All that was left out of a dataset."""

    rows: Sequence[Drop] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        if not self.rows:
            return "dropped no row"
        roles = {reason: sorted({d.role for d in self.rows if d.reason == reason}) for reason in self.counts()}
        parts = [f"{num} {reason} ({', '.join(roles[reason])})" for reason, num in self.counts().items()]
        return f"dropped {len(self.rows)} row{'s' if len(self.rows) > 1 else ''}: {'; '.join(parts)}"

    def counts(self, role: str | None = None) -> dict[str, int]:
        """Rows by reason, the most frequent first; of one role, or of all."""
        counted = Counter(drop.reason for drop in self.rows if role in (None, drop.role))
        return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))

    def with_more(self, more: Sequence[Drop]) -> Dropped:
        """These and others."""
        return Dropped([*self.rows, *more])

    def to_json(self) -> list[dict[str, Any]]:
        """Every dropped row as plain data."""
        return [asdict(drop) for drop in self.rows]
