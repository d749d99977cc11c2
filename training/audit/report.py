"""What an audit found of a dataset: counts, spreads and findings in plain language, and all of it as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from PIL import Image

from training.audit.audit_projection import Projection
from training.audit.sample import Rollouts
from training.data.dropped import Dropped
from training.data.splits import ROLES
from training.evaluation.statistics import Estimate

MANY_UNVERIFIED, MANY_DROPPED, MANY_WITHOUT_SIGNAL, MANY_CUT_OFF, MUCH_OF_ONE_LETTER = 0.02, 0.05, 0.5, 0.1, 0.4
"""Shares above which a finding says so."""


@dataclass(frozen=True)
class Spread:
    """How a number varies over the rows."""

    smallest: int
    median: int
    p95: int
    """95 % of the rows have at most this."""
    largest: int

    @classmethod
    def of(cls, values: Sequence[int]) -> Spread:
        """Of one value or more."""
        ordered = sorted(values)

        def at(part: float) -> int:
            return ordered[min(len(ordered) - 1, int(part * len(ordered)))]

        return cls(ordered[0], at(0.5), at(0.95), ordered[-1])


@dataclass(frozen=True)
class Gold:
    """A gold that the grader does not find equal to itself: no completion can score on it."""

    row_id: str
    gold: str
    rule: str


@dataclass(frozen=True)
class Example:
    """A row to look at."""

    row_id: str
    role: str
    problem: str
    gold: str
    rule: str
    """The rule by which the grader found the gold equal to itself, or not."""
    image: Image.Image = field(repr=False)
    prompt_tokens: int | None = None


@dataclass(frozen=True)
class AuditReport:
    """All of it."""

    about: dict[str, Any]
    kept: dict[str, int]
    dropped: Dropped
    rules: dict[str, int]
    """How many golds each rule of the grader decided, each gold graded against itself."""
    verified: Estimate
    unverified: list[Gold]
    letters: dict[str, int]
    """How often each choice letter is the gold."""
    pictures: dict[str, Spread]
    """`width`, `height` and `pixels` as the model gets them, `original pixels` as they came."""
    num_scaled: int
    """Pictures that were larger than `max_pixels`."""
    prompts: dict[str, Spread] | None
    """Tokens of `text`, `picture` and the whole `prompt`; `None` if no base was named."""
    duplicates: dict[str, int]
    """Rows of each role that repeat an earlier one of it, picture and problem."""
    shared_pictures: int
    """Train rows whose picture is in test or validation too, with another problem."""
    examples: list[Example] = field(default_factory=list, repr=False)
    rollouts: Rollouts | None = None
    projection: Projection | None = None

    @property
    def num_kept(self) -> int:
        return sum(self.kept.values())

    @property
    def leaks(self) -> dict[str, int]:
        """Rows dropped because they are in a split that is kept apart."""
        return {f"{role}, {why}": n for role in ROLES for why, n in self.dropped.counts(role).items() if "also" in why}

    def findings(self) -> list[str]:
        """What to know before money is spent, the worst first."""
        found = []
        unverified = self.num_kept - round(self.verified.value * self.num_kept)
        if unverified > MANY_UNVERIFIED * self.num_kept:
            found.append(
                f"{unverified:,} of {self.num_kept:,} golds cannot be verified: rollouts of these rows never score."
            )
        if self.rollouts and self.rollouts.zero_std.value > MANY_WITHOUT_SIGNAL:
            why = "too easy" if self.rollouts.always_right > self.rollouts.never_right else "too hard"
            found.append(
                f"All completions got the same reward in {percent(self.rollouts.zero_std.value, 0)} of groups: "
                f"the problems are {why} for this base, and such groups teach nothing."
            )
        if self.rollouts and self.rollouts.truncated_rate > MANY_CUT_OFF:
            found.append(f"{percent(self.rollouts.truncated_rate, 0)} of completions were cut off; allow more tokens.")
        total = self.num_kept + len(self.dropped)
        if len(self.dropped) > MANY_DROPPED * total:
            first, num = next(iter(self.dropped.counts().items()))
            found.append(f"{len(self.dropped):,} of {total:,} rows were dropped, {num:,} of them for “{first}”.")
        if leaks := sum(self.leaks.values()):
            found.append(
                f"Rows that were in two of the splits: {leaks:,}. They were dropped, so that test stays unseen."
            )
        if repeated := sum(self.duplicates.values()):
            found.append(f"Rows that repeat another one of their split: {repeated:,}.")
        if len(self.letters) > 1:
            letter, num = max(self.letters.items(), key=lambda item: item[1])
            part = num / sum(self.letters.values())
            if part > MUCH_OF_ONE_LETTER:
                found.append(f"{letter} is the gold of {percent(part, 0)} of the multiple choices.")
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain data, pictures and examples left out."""
        return {
            "about": self.about,
            "kept": self.kept,
            "dropped": {"counts": self.dropped.counts(), "rows": self.dropped.to_json()},
            "rules": self.rules,
            "verified": self.verified.to_json(),
            "unverified": [asdict(gold) for gold in self.unverified],
            "letters": self.letters,
            "pictures": {name: asdict(spread) for name, spread in self.pictures.items()},
            "num_scaled": self.num_scaled,
            "prompts": {n: asdict(s) for n, s in self.prompts.items()} if self.prompts else "unknown",
            "duplicates": self.duplicates,
            "leaks": self.leaks,
            "shared_pictures": self.shared_pictures,
            "findings": self.findings(),
            "rollouts": self.rollouts.to_json() if self.rollouts else None,
            "projection": self.projection.to_json() if self.projection else None,
        }

    def text(self) -> str:
        """For a terminal."""
        return report_text(self)


def percent(part: float, digits: int = 1) -> str:
    """A share as shown everywhere: `12.5 %`."""
    return f"{100 * part:.{digits}f} %"


def tables(report: AuditReport) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, headings and cells of each table."""
    found = [
        ("Rows", ["", "kept", "dropped"], _row_cells(report)),
        ("Dropped", ["reason", "rows"], [[why, _n(num)] for why, num in report.dropped.counts().items()]),
        ("Golds against themselves", ["rule of the grader", "golds"], [[r, _n(n)] for r, n in report.rules.items()]),
        ("Sizes", ["", "smallest", "median", "95 % up to", "largest"], _size_cells(report)),
        ("Repeated", ["", "rows"], _repeat_cells(report)),
    ]
    if report.rollouts:
        found.append(("Base rollouts", ["", "value"], rollout_cells(report.rollouts)))
    if report.projection:
        found.append(("The planned run", ["", "value"], projection_cells(report.projection)))
    return [(title, headings, cells) for title, headings, cells in found if cells]


def report_text(report: AuditReport) -> str:
    """The tables and the findings for a terminal."""
    parts = [f"{title}\n{_aligned(headings, cells)}" for title, headings, cells in tables(report)]
    findings = "\n".join(f"- {finding}" for finding in report.findings()) or "- nothing stands out"
    return "\n\n".join([*parts, f"Findings\n{findings}"]) + "\n"


def _row_cells(report: AuditReport) -> list[list[str]]:
    return [[r, _n(report.kept[r]), _n(sum(report.dropped.counts(r).values()))] for r in ROLES]


def _size_cells(report: AuditReport) -> list[list[str]]:
    named = {f"picture, {name}": spread for name, spread in report.pictures.items()}
    named |= {f"tokens, {name}": spread for name, spread in (report.prompts or {}).items()}
    return [[name, *map(_n, asdict(spread).values())] for name, spread in named.items()]


def _repeat_cells(report: AuditReport) -> list[list[str]]:
    cells = [[f"again within {role}", _n(num)] for role, num in report.duplicates.items()]
    cells += [[f"dropped from {name}", _n(num)] for name, num in report.leaks.items()]
    return [*cells, ["train pictures that test or validation has, other problem", _n(report.shared_pictures)]]


def rollout_cells(found: Rollouts) -> list[list[str]]:
    """What the rollouts showed, in words."""
    sample = f"{found.num_prompts} prompts × {found.num_generations}"
    return [
        ["sample", f"{sample}, temperature as in training"],
        ["pass rate, answer in its tags", percent(found.pass_rate)],
        ["pass rate, last answer stated", percent(found.lenient_rate)],
        ["in the format", percent(found.format_rate)],
        ["zero-std groups", str(found.zero_std)],
        ["groups always right / never right", f"{percent(found.always_right)} / {percent(found.never_right)}"],
        ["tokens, mean", f"{found.mean_tokens:.0f}"],
        ["cut off", percent(found.truncated_rate)],
        ["speed", f"{found.completions_per_second:.2f} completions/s on {found.hardware}"],
    ]


def projection_cells(found: Projection) -> list[list[str]]:
    """What the plan would take; what is not known is called unknown."""
    step = "unknown" if found.step_seconds is None else f"{found.step_seconds:.2f} s"
    hours = "unknown" if found.hours is None else f"{found.hours:.2f} h"
    least = found.generation_seconds * found.num_steps / 3600
    if found.hours is None:
        hours += f"; the completions alone take {least:.2f} h"
    return [
        ["steps", _n(found.num_steps)],
        ["completions of a step", f"{found.generation_seconds:.2f} s, measured"],
        ["a whole step", f"{step} ({found.reason})"],
        ["time", hours],
        ["price", "unknown" if found.dollars is None else f"${found.dollars:,.2f}"],
    ]


def _n(number: int) -> str:
    return f"{number:,}"


def _aligned(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Columns under their headings: the first and words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(headings, *cells)]
    lines = []
    for line in [headings, *cells]:
        first, *others = (
            cell.ljust(w) if heading in ("", headings[0], "value") else cell.rjust(w)
            for cell, w, heading in zip(line, widths, headings)
        )
        lines.append("  ".join(["", first, *others]).rstrip())
    return "\n".join(lines)
