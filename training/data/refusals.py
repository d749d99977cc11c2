"""Rows that are left out of a dataset: the reasons, and their count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from inference.common.settings import DEFAULT_LIMITS

MAX_PROBLEM_CHARS = 20_000
"""A longer problem is refused, whatever the token limit."""
MAX_SOLUTION_CHARS = 100_000
REASONS = {
    "row unreadable": "the line is no JSON object, or a row is not what its file says",
    "picture missing": "there is no picture in the row, or no file where it says",
    "picture refused": "an address, or a path that leads out of the dataset's folder",
    "picture broken": "the file is no picture that can be read, or it is damaged",
    "picture too large": "more pixels, bytes or length than are read, of one picture or all of a row; bombs are here",
    "too many pictures": f"more than {DEFAULT_LIMITS.max_pictures} pictures in a row",
    "too many options": "more options than the grader has letters for",
    "options differ": "the problem gives other options than their column, or their gold is a letter in another order",
    "options are pictures": "its options name pictures, and a problem gives options as text",
    "unlike the first rows": "it has options, pictures or text in a column that is empty in the rows looked at first",
    "no problem": "the problem is empty or not text",
    "problem too long": f"more than {MAX_PROBLEM_CHARS:,} characters",
    "no gold": "the solution is empty, holds no answer, or is neither text nor a number",
    "gold too long": f"the solution has more than {MAX_SOLUTION_CHARS:,} characters",
    "gold unreadable": "no answer can be read in it: a text with no marked answer, or braces that do not match",
    "prompt too long": "more tokens than max_prompt_tokens, those of the picture included",
    "also in test": "the same picture and problem are in test: a leak, dropped here",
    "also in validation": "the same picture and problem are in validation: a leak, dropped here",
}
"""The reasons for dropping a row, with their meaning."""


@dataclass(frozen=True)
class Refusal(Exception):
    """The reason, one of `REASONS`, why a row is dropped, and a detail."""

    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Drop:
    """A row that was left out."""

    role: str
    """`train`, `validation` or `test`: the split it was meant for."""
    place: str
    """Its split and position, as in `train[17]`."""
    reason: str
    """One of `REASONS`."""
    detail: str = ""

    def __post_init__(self) -> None:
        assert self.reason in REASONS, self.reason


@dataclass(frozen=True)
class Dropped:
    """The rows that were left out of a dataset.

    >>> print(Dropped([Drop("train", "train[3]", "no gold", "empty")]))
    dropped 1 row: 1 no gold (train)
    """

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
        """Number of rows by reason, the most frequent first; of one role, or of all."""
        counted = Counter(drop.reason for drop in self.rows if role in (None, drop.role))
        return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))

    def words(self, role: str | None = None) -> str:
        """The counts in words, as in `3 no gold, 1 picture missing`; empty if there are none."""
        return ", ".join(f"{num} {reason}" for reason, num in self.counts(role).items())

    def with_more(self, more: Sequence[Drop]) -> Dropped:
        """These rows and others."""
        return Dropped([*self.rows, *more])

    def to_json(self) -> list[dict[str, str]]:
        """The rows as plain data."""
        return [asdict(drop) for drop in self.rows]
