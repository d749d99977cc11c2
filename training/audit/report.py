"""The report of an audit: counts, spreads and findings in plain words, as tables for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from PIL import Image

from inference.common.files import Json
from training.data.refusals import Dropped
from training.data.splits import ROLES
from training.evaluation.statistics import Estimate
from training.runs.metrics import METRICS

if TYPE_CHECKING:
    from training.audit.sample import Rollouts
    from training.runs.estimate.run_estimate import RunEstimate

MANY_UNVERIFIED, MANY_DROPPED, MANY_WITHOUT_SIGNAL, MANY_CUT_OFF, MUCH_OF_ONE_LETTER = 0.02, 0.05, 0.5, 0.1, 0.4
MUCH_OF_ONE_GOLD, MUCH_WITHOUT_PICTURE = 0.3, 0.5
"""Shares above which there is a finding."""


@dataclass(frozen=True)
class Spread:
    """The distribution of a number over the rows."""

    smallest: int
    median: int
    p95: int
    """95 % of the rows have at most this."""
    largest: int

    @classmethod
    def of(cls, values: Sequence[int]) -> Spread:
        """The spread of at least one value."""
        ordered = sorted(values)

        def at(part: float) -> int:
            return ordered[min(len(ordered) - 1, int(part * len(ordered)))]

        return cls(ordered[0], at(0.5), at(0.95), ordered[-1])


@dataclass(frozen=True)
class Gold:
    """A gold answer that the grader does not find equal to itself, so that no completion can score on it."""

    row_id: str
    gold: str
    rule: str


@dataclass(frozen=True)
class Example:
    """A row that the page shows."""

    row_id: str
    role: str
    problem: str
    gold: str
    rule: str
    """The rule by which the grader compared the gold with itself."""
    images: list[Image.Image] = field(repr=False)
    prompt_tokens: int | None = None


@dataclass(frozen=True)
class AuditReport:
    """All measurements of an audit."""

    about: Json
    kept_rows: dict[str, int]
    dropped: Dropped
    rules: dict[str, int]
    """Number of golds by the rule that decided when each was graded against itself."""
    verified: Estimate
    unverified: list[Gold]
    letters: dict[str, int]
    """Number of golds by choice letter."""
    pictures: dict[str, Spread]
    """`width`, `height` and `pixels` of pictures after scaling, `original pixels` of rows before, and the number of
    pictures of `a row` if there are several."""
    num_scaled: int
    """Rows with a picture that was scaled down."""
    prompts: dict[str, Spread] | None
    """Tokens of `text`, `picture` and the whole `prompt`; `None` if no base was named."""
    duplicates: dict[str, int]
    """For each role, the rows that repeat the picture and problem of an earlier one."""
    shared_pictures: int
    """Train rows whose picture is also in test or validation, with another problem."""
    num_outside: int = 0
    """Golds that are none of their problem's options."""
    outside: Gold | None = None
    """The first of them."""
    num_several: int = 0
    """Golds that name several of their problem's options."""
    several: Gold | None = None
    """The first of them."""
    earlier_turns: int = 0
    """Rows with user turns before the one that is read."""
    letters_alone: int = 0
    """Golds that are a letter, of problems that give no options."""
    worked: int = 0
    """Golds of so many words that they are no answers but worked solutions."""
    majority: tuple[str, int] = ("", 0)
    """The most frequent gold and its number."""
    look_alikes: int = 0
    """Train rows whose picture is not in test and looks like one that is."""
    examples: list[Example] = field(default_factory=list, repr=False)
    rollouts: Rollouts | None = None
    estimate: RunEstimate | None = None
    """Of the planned run; only with `rollouts`."""

    @property
    def num_kept(self) -> int:
        return sum(self.kept_rows.values())

    @property
    def leaks(self) -> dict[str, int]:
        """Number of rows dropped because they are in test or validation too."""
        return {f"{role}, {why}": n for role in ROLES for why, n in self.dropped.counts(role).items() if "also" in why}

    def findings(self) -> list[str]:
        """Problems to know of before money is spent, the worst first."""
        return [*self._gold_findings(), *self._rollout_findings(), *self._row_findings()]

    def _gold_findings(self) -> Iterator[str]:
        if tolerance := self.about.get("config", {}).get("tolerance"):
            yield f"Numbers within {percent(tolerance, 1)} of the gold count as right (`tolerance`)."
        if num_unreadable := self.dropped.counts().get("gold unreadable"):
            golds = _number(num_unreadable, "gold cannot be read as an answer and was", "golds cannot be read and were")
            yield f"{golds} dropped; mark the answer, as in #### 7."
        num_unverified = self.num_kept - round(self.verified.value * self.num_kept)
        if num_unverified > MANY_UNVERIFIED * self.num_kept:
            yield (
                f"{num_unverified:,} of {self.num_kept:,} golds cannot be verified: rollouts of these rows never score."
            )
        alone = (
            ", where the problem gives none: nobody can answer that. Call the column of the options `options`, or "
            "write them into the problem."
        )
        letters = ("gold is the letter of an option", "golds are the letter of an option")
        yield from _counted(self.letters_alone, *letters, alone)
        if self.outside:
            example = f"e.g. “{self.outside.gold[:40]}” of {self.outside.row_id}"
            rest = f" none of the options, {example}. Write the letter of an option, or correct the options."
            yield from _counted(self.num_outside, "row: the gold is", "rows: the gold is", rest)
        if self.several:
            example = f", e.g. “{self.several.gold[:40]}” of {self.several.row_id}"
            rest = f"{example}: a completion must name all of them, and no other."
            yield from _counted(self.num_several, "gold names several options", "golds name several options", rest)
        worked = ("gold is longer than an answer", "golds are longer than an answer")
        yield from _counted(self.worked, *worked, "; mark the answer, as in #### 7.")
        gold, num = self.majority
        if num > max(2, MUCH_OF_ONE_GOLD * self.num_kept):
            part = percent(num / self.num_kept, 0)
            yield f"“{gold[:40]}” is the gold of {part} of rows: whoever always answers it scores as much."

    def _rollout_findings(self) -> Iterator[str]:
        rollouts = self.rollouts
        if rollouts and rollouts.zero_std.value > MANY_WITHOUT_SIGNAL:
            why = "too easy" if rollouts.always_right > rollouts.never_right else "too hard"
            yield (
                f"All completions got the same reward in {percent(rollouts.zero_std.value, 0)} of groups: "
                f"the problems are {why} for this base, and such groups teach nothing."
            )
        if rollouts and rollouts.truncated_rate > MANY_CUT_OFF:
            yield f"{percent(rollouts.truncated_rate, 0)} of completions were cut off; allow more tokens."
        if rollouts and rollouts.blind_rate > MUCH_WITHOUT_PICTURE * rollouts.pass_rate > 0:
            yield (
                f"With a blank picture {percent(rollouts.blind_rate, 0)} of completions are correct, and "
                f"{percent(rollouts.pass_rate, 0)} with theirs: many problems can be answered from their text alone."
            )

    def _row_findings(self) -> Iterator[str]:
        yield from (self.about.get("reading") or {}).get("doubts", ())
        turns = " several user turns: the last one and the answer after it are read, without those before."
        yield from _counted(self.earlier_turns, "row has", "rows have", turns)
        num_rows = self.num_kept + len(self.dropped)
        if len(self.dropped) > MANY_DROPPED * num_rows:
            reason, num = next(iter(self.dropped.counts().items()))
            yield f"{len(self.dropped):,} of {num_rows:,} rows were dropped, {num:,} of them for “{reason}”."
        if num_leaks := sum(self.leaks.values()):
            yield f"Rows that were in two of the splits: {num_leaks:,}. They were dropped, so that test stays unseen."
        if num_repeated := sum(self.duplicates.values()):
            yield f"Rows that repeat another one of their split: {num_repeated:,}."
        apart = (
            " a picture that is in test or validation too, with another problem; --group-by image keeps each picture "
            "on one side."
        )
        alike = " a picture that looks like one in test; look at some of them."
        for num, rest in ((self.shared_pictures, apart), (self.look_alikes, alike)):
            yield from _counted(num, "train row shows", "train rows show", rest)
        if len(self.letters) > 1:
            letter, num = max(self.letters.items(), key=lambda item: item[1])
            part = num / sum(self.letters.values())
            if part > MUCH_OF_ONE_LETTER:
                yield f"{letter} is the gold of {percent(part, 0)} of the multiple choices."

    def to_json(self) -> Json:
        """Plain data, without pictures and examples."""
        return {
            "about": self.about,
            "kept": self.kept_rows,
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
            "look_alikes": self.look_alikes,
            "outside_options": {"rows": self.num_outside, "first": asdict(self.outside) if self.outside else None},
            "several_options": {"rows": self.num_several, "first": asdict(self.several) if self.several else None},
            "earlier_turns": self.earlier_turns,
            "letters_alone": self.letters_alone,
            "worked": self.worked,
            "majority": {"gold": self.majority[0], "rows": self.majority[1]},
            "findings": self.findings(),
            "tables": [
                {"title": title, "headings": headings, "cells": cells} for title, headings, cells in tables(self)
            ],
            "rollouts": self.rollouts.to_json() if self.rollouts else None,
            "estimate": self.estimate.to_json() if self.estimate else None,
        }

    def text(self) -> str:
        """The tables and the findings for a terminal."""
        parts = [f"{title}\n{_aligned(headings, cells)}" for title, headings, cells in tables(self)]
        findings = "\n".join(f"- {finding}" for finding in self.findings()) or "- no problems found"
        return "\n\n".join([*parts, f"Findings\n{findings}"]) + "\n"


def _number(number: int, one: str, several: str) -> str:
    """The number before the words for one or for several."""
    return f"{number:,} {one if number == 1 else several}"


def _counted(num: int, one: str, several: str, rest: str) -> Iterator[str]:
    """The finding on a number of rows, if it is not 0: the words for one or for several, and what follows them."""
    if num:
        yield _number(num, one, several) + rest


def percent(part: float, digits: int = 1) -> str:
    """A share as shown everywhere: `12.5 %`."""
    return f"{100 * part:.{digits}f} %"


def tables(report: AuditReport) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, headings and cells of each table that has cells."""
    counts = [[reason, f"{num:,}"] for reason, num in report.dropped.counts().items()]
    rules = [[rule, f"{num:,}"] for rule, num in report.rules.items()]
    reading = (report.about.get("reading") or {}).get("words", {})
    rows = [[role, f"{report.kept_rows[role]:,}", f"{sum(report.dropped.counts(role).values()):,}"] for role in ROLES]
    all_tables = [
        ("Rows", ["", "kept", "dropped"], rows),
        ("Read as", ["split", "columns"], [[split, words] for split, words in reading.items()]),
        ("Dropped", ["reason", "rows"], counts),
        ("Golds against themselves", ["rule of the grader", "golds"], rules),
        ("Sizes", ["", "smallest", "median", "95 % up to", "largest"], _size_cells(report)),
        ("Repeated", ["", "rows"], _repeat_cells(report)),
    ]
    if report.rollouts:
        all_tables.append(("Base rollouts", ["", "value"], rollout_cells(report.rollouts)))
    if report.rollouts and report.estimate:
        all_tables.append(("The planned run", ["", "value"], estimate_cells(report.rollouts, report.estimate)))
    return [table for table in all_tables if table[2]]


def _size_cells(report: AuditReport) -> list[list[str]]:
    spreads = {f"picture, {name}": spread for name, spread in report.pictures.items()}
    spreads |= {f"tokens, {name}": spread for name, spread in (report.prompts or {}).items()}
    return [[name, *(f"{number:,}" for number in asdict(spread).values())] for name, spread in spreads.items()]


def _repeat_cells(report: AuditReport) -> list[list[str]]:
    cells = [[f"again within {role}", f"{num:,}"] for role, num in report.duplicates.items()]
    cells += [[f"dropped from {name}", f"{num:,}"] for name, num in report.leaks.items()]
    return [*cells, ["train pictures also in test or validation, other problem", f"{report.shared_pictures:,}"]]


def rollout_cells(rollouts: Rollouts) -> list[list[str]]:
    """Labels and values of the base's rollouts."""
    sample = f"{rollouts.num_prompts} prompts × {rollouts.num_generations}, temperature as in training"
    extremes = f"{percent(rollouts.always_right)} / {percent(rollouts.never_right)}"
    return [
        ["sample", sample],
        [METRICS["strict"].label, percent(rollouts.pass_rate)],
        [METRICS["lenient"].label, percent(rollouts.lenient_rate)],
        [METRICS["format"].label, percent(rollouts.format_rate)],
        [METRICS["zero_std_share"].label, str(rollouts.zero_std)],
        ["Problems always correct / never correct", extremes],
        [f"{METRICS['completion_tokens'].label}, mean", METRICS["completion_tokens"].text(rollouts.mean_tokens)],
        ["cut off", percent(rollouts.truncated_rate)],
        ["correct (strict) with a blank picture", percent(rollouts.blind_rate)],
        ["speed", f"{rollouts.completions_per_second:.2f} completions/s on {rollouts.hardware}"],
    ]


def estimate_cells(rollouts: Rollouts, estimate: RunEstimate) -> list[list[str]]:
    """Labels and values of the planned run's estimate."""
    sampling = estimate.completions / estimate.num_steps / rollouts.completions_per_second
    price = "not known: give --hardware, or --dollars-per-hour"
    if estimate.dollars is not None:
        price = f"${estimate.dollars:,.2f} at ${estimate.dollars_per_hour:,.2f} an hour"
    notes = [["note", note] for note in (*estimate.notes, estimate.obstacle) if note]
    return [
        ["hardware", estimate.machine.name],
        ["steps", f"{estimate.num_steps:,}"],
        ["completions of a step", f"{sampling:.2f} s on {rollouts.hardware}, measured"],
        ["a whole step", f"{estimate.step_seconds:.3g} s ({estimate.basis})"],
        ["time", f"{estimate.hours:.3g} hours, between {estimate.hours_low:.3g} and {estimate.hours_high:.3g}"],
        ["price", price],
        *notes,
    ]


def _aligned(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """The table as text: the first column and words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(headings, *cells)]
    lines = []
    for line in [headings, *cells]:
        first, *others = (
            cell.ljust(w) if heading in ("", headings[0], "value") else cell.rjust(w)
            for cell, w, heading in zip(line, widths, headings)
        )
        lines.append("  ".join(["", first, *others]).rstrip())
    return "\n".join(lines)
