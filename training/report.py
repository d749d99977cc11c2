"""What an evaluation found: shares with intervals, overall and by kind of problem, as JSON and as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from training.statistics import Estimate, paired_difference, share

COMPARED = ("adapter-thinking", "base-thinking")
"""The two conditions whose difference is the headline: what training changed, on the same rows and prompt."""


@dataclass(frozen=True)
class Outcome:
    """One completion of one row, graded."""

    well_formed: bool
    strict: bool
    """The answer stood in its tags and was right."""
    lenient: bool
    """The last answer stated was right, tags or not."""
    num_tokens: int
    truncated: bool
    text: str = ""


MEASURES: dict[str, Callable[[Outcome], bool]] = {
    "format": lambda o: o.well_formed,
    "strict": lambda o: o.strict,
    "lenient": lambda o: o.lenient,
}
HEADINGS = {"format": "format", "strict": "strict accuracy", "lenient": "lenient accuracy"}


@dataclass(frozen=True)
class Report:
    """The outcomes of each condition, row by row in one order, and what they are outcomes of."""

    kinds: Sequence[str]
    """The kind of each row."""
    outcomes: dict[str, list[Outcome]]
    about: dict[str, Any] = field(default_factory=dict)
    """Base, adapter, rows, seed, lengths: what it takes to repeat the evaluation."""
    baselines: dict[str, Estimate] = field(default_factory=dict)
    """Accuracy of answers given without looking."""

    def estimate(self, condition: str, measure: str, kind: str | None = None) -> Estimate:
        """The share of rows (of one kind, or all) that pass a measure."""
        return share([MEASURES[measure](o) for o in self._of(condition, kind)])

    def difference(self, measure: str, kind: str | None = None) -> Estimate:
        """Adapter less base with the thinking prompt, on the same rows."""
        after, before = ([MEASURES[measure](o) for o in self._of(name, kind)] for name in COMPARED)
        return paired_difference(after, before)

    @property
    def has_difference(self) -> bool:
        return all(name in self.outcomes for name in COMPARED)

    @property
    def kind_names(self) -> list[str]:
        """The kinds of problem, in order of the alphabet; empty if there is but one."""
        names = sorted(set(self.kinds))
        return names if len(names) > 1 else []

    def to_json(self, completions: bool = False) -> dict[str, Any]:
        """Plain data: `about`, `conditions`, `differences`, `baselines`, and every completion if asked for."""
        groups: list[str | None] = [None, *self.kind_names]
        data: dict[str, Any] = {"about": self.about, "baselines": {n: e.to_json() for n, e in self.baselines.items()}}
        data["conditions"] = {c: {g or "overall": self._summary(c, g) for g in groups} for c in self.outcomes}
        if self.has_difference:
            data["differences"] = {
                m: {g or "overall": self.difference(m, g).to_json() for g in groups} for m in MEASURES
            }
        if completions:
            data["completions"] = {c: [asdict(o) for o in outcomes] for c, outcomes in self.outcomes.items()}
        return data

    def markdown(self) -> str:
        """The tables, overall first, then by kind, then the differences."""
        parts = [self._overall_table()]
        if self.kind_names:
            parts += [f"{HEADINGS[m].capitalize()} by kind:\n\n{self._kind_table(m)}" for m in ("strict", "lenient")]
        if self.has_difference:
            parts.append(f"Adapter less base, thinking prompt, same rows:\n\n{self._difference_table()}")
        if self.baselines:
            parts.append("\n".join(f"- {name}: {estimate}" for name, estimate in self.baselines.items()))
        return "\n\n".join(parts) + "\n"

    def _of(self, condition: str, kind: str | None) -> list[Outcome]:
        return [o for o, k in zip(self.outcomes[condition], self.kinds, strict=True) if kind in (None, k)]

    def _summary(self, condition: str, kind: str | None) -> dict[str, Any]:
        outcomes = self._of(condition, kind)
        shares = {measure: self.estimate(condition, measure, kind).to_json() for measure in MEASURES}
        return shares | {"mean_tokens": round(_mean_tokens(outcomes), 1), "truncated": _truncated(outcomes).to_json()}

    def _overall_table(self) -> str:
        rows = []
        for name, outcomes in self.outcomes.items():
            shares = [str(self.estimate(name, measure)) for measure in MEASURES]
            cut_off = f"{100 * _truncated(outcomes).value:.1f} %"
            rows.append([name, *shares, f"{_mean_tokens(outcomes):.0f}", cut_off])
        return _table(["condition", *HEADINGS.values(), "tokens", "cut off"], rows)

    def _kind_table(self, measure: str) -> str:
        rows = [
            [name, *(f"{100 * self.estimate(name, measure, kind).value:.1f} %" for kind in self.kind_names)]
            for name in self.outcomes
        ]
        return _table(["condition", *self.kind_names], rows)

    def _difference_table(self) -> str:
        groups: list[str | None] = [None, *self.kind_names]
        rows = [[HEADINGS[m], *(_points(self.difference(m, kind)) for kind in groups)] for m in MEASURES]
        return _table(["points", "overall", *self.kind_names], rows)


def _mean_tokens(outcomes: Sequence[Outcome]) -> float:
    return sum(o.num_tokens for o in outcomes) / len(outcomes)


def _truncated(outcomes: Sequence[Outcome]) -> Estimate:
    return share([o.truncated for o in outcomes])


def _points(estimate: Estimate) -> str:
    return f"{100 * estimate.value:+.1f} ({100 * estimate.low:+.1f} to {100 * estimate.high:+.1f})"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with its columns aligned, so that it reads well in a terminal too."""
    widths = [max(map(len, column)) for column in zip(headings, *rows)]
    lines = [headings, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths)) + " |" for line in lines)
