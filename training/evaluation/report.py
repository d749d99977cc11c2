"""What an evaluation found: shares with intervals, paired differences and a verdict, overall and by kind.

The outcomes are plain; everything else follows from them. `training.evaluation.report_text` shows it in a terminal,
`training.evaluation.plots` as pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from training.evaluation.conditions import CONDITIONS
from training.evaluation.statistics import (
    Estimate,
    PairedDifference,
    mean_share,
    paired_difference,
    pass_at_k,
    share,
    smallest_difference,
)
from training.evaluation.verdict import verdict
from training.grading.kinds import KINDS

COMPARED = ("adapter-thinking", "base-thinking")
"""The two conditions whose difference is the headline: what training changed, on the same rows and prompt."""
AGAINST_DIRECT = ("adapter-thinking", "base-direct")
_OTHERS = tuple((c.name, c.reference) for c in CONDITIONS if c.reference and c.name != COMPARED[0])
PAIRS = (COMPARED, AGAINST_DIRECT, *_OTHERS)
"""After and before of each difference that is shown where both were asked."""
DIRECT = tuple(c.name for c in CONDITIONS if c.is_direct)
MAX_KINDS = 12
"""More kinds than this make no table; the rarer ones go together."""
_MAX_KIND_CHARS = 24


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


@dataclass(frozen=True)
class Report:
    """The outcomes of each condition, row by row in one order, and what they are outcomes of."""

    kinds: Sequence[str | None]
    """The kind of problem of each row."""
    outcomes: dict[str, list[Outcome]]
    """Of each condition one outcome for each row, the first where several were sampled."""
    about: dict[str, Any] = field(default_factory=dict)
    """Base, adapter, rows, seed, lengths: what it takes to repeat the evaluation."""
    baselines: dict[str, Estimate] = field(default_factory=dict)
    """Accuracy of answers given without looking."""
    answer_kinds: Sequence[str] = ()
    """The kind of the gold of each row (`training.grading.kinds`)."""
    samples: dict[str, list[list[Outcome]]] = field(default_factory=dict)
    """Of conditions that were sampled more than once: for each row all its outcomes."""
    votes: dict[str, list[bool]] = field(default_factory=dict)
    """Of the same conditions: for each row, whether the majority of its samples is right."""

    @cached_property
    def by_kind(self) -> dict[str, list[int]]:
        """The rows of each kind of problem, kinds in order of the alphabet; empty if there is but one kind."""
        return _grouped(self.kinds, sorted)

    @cached_property
    def by_answer_kind(self) -> dict[str, list[int]]:
        """The rows of each kind of answer; empty if there is but one kind."""
        return _grouped(self.answer_kinds, lambda names: sorted(names, key=[*KINDS, *names].index))

    def estimate(self, condition: str, measure: str, rows: Sequence[int] | None = None) -> Estimate:
        """The share of rows (of all, or of these) that pass a measure."""
        return share(self._hits(condition, measure, rows))

    def difference(
        self, measure: str, rows: Sequence[int] | None = None, pair: tuple[str, str] = COMPARED
    ) -> PairedDifference:
        """How much larger a share is under the first condition than under the second, on the same rows."""
        after, before = (self._hits(name, measure, rows) for name in pair)
        return paired_difference(after, before)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The differences that can be told: `PAIRS` of which both conditions were asked."""
        return [(after, before) for after, before in PAIRS if after in self.outcomes and before in self.outcomes]

    @property
    def has_difference(self) -> bool:
        return COMPARED in self.pairs

    @property
    def smallest_difference(self) -> float | None:
        """The smallest difference in lenient accuracy that these rows could have shown; see `training.evaluation.statistics`."""
        found = self.difference("lenient")
        return smallest_difference(found.num_rows, (found.gained + found.lost) / found.num_rows)

    @property
    def verdict(self) -> str | None:
        """One sentence; `None` where base and adapter were not both asked with the thinking prompt."""
        if not self.has_difference:
            return None
        direct = self.difference("lenient", pair=AGAINST_DIRECT) if AGAINST_DIRECT in self.pairs else None
        form, strict, lenient = (self.difference(measure) for measure in MEASURES)
        return verdict(form, strict, lenient, direct, self.smallest_difference)

    def pass_at(self, condition: str, measure: str) -> dict[int, Estimate]:
        """pass@k of a sampled condition, for k = 1, 2, 4, … and all of its samples."""
        rights = [sum(MEASURES[measure](o) for o in row) for row in self.samples[condition]]
        num = len(self.samples[condition][0])
        ks = sorted({num, *(2**i for i in range(num.bit_length()) if 2**i <= num)})
        return {k: mean_share([pass_at_k(right, num, k) for right in rights], num // k) for k in ks}

    def to_json(self, completions: bool = False) -> dict[str, Any]:
        """Plain data: what `markdown` shows, and every completion if asked for."""
        data: dict[str, Any] = {"about": self.about, "baselines": {n: e.to_json() for n, e in self.baselines.items()}}
        data["conditions"] = self._summaries(self.by_kind)
        data["by_answer_kind"] = self._summaries(self.by_answer_kind)
        if self.has_difference:
            smallest = self.smallest_difference
            data["verdict"] = self.verdict
            data["smallest_difference"] = None if smallest is None else round(smallest, 4)
            data["differences"] = self._differences(self.by_kind)
            data["differences_by_answer_kind"] = self._differences(self.by_answer_kind)
        data["comparisons"] = [
            {"after": pair[0], "before": pair[1]}
            | {measure: self.difference(measure, pair=pair).to_json() for measure in measures_of(pair)}
            for pair in self.pairs
        ]
        data["samples"] = {condition: self._sampled(condition) for condition in self.samples}
        if completions:
            every = {c: [[o] for o in outcomes] for c, outcomes in self.outcomes.items()} | self.samples
            data["completions"] = {c: [asdict(o) for row in rows for o in row] for c, rows in every.items()}
        return data

    def markdown(self) -> str:
        """The verdict and the tables."""
        from training.evaluation.report_text import markdown  # it shows reports, so it knows them

        return markdown(self)

    def mean_tokens(self, condition: str, rows: Sequence[int] | None = None) -> float:
        """Tokens of a completion."""
        found = self._of(condition, rows)
        return sum(o.num_tokens for o in found) / len(found)

    def truncated(self, condition: str, rows: Sequence[int] | None = None) -> Estimate:
        """The share of completions that the token limit cut off."""
        return share([o.truncated for o in self._of(condition, rows)])

    def _of(self, condition: str, rows: Sequence[int] | None) -> list[Outcome]:
        outcomes = self.outcomes[condition]
        return outcomes if rows is None else [outcomes[row] for row in rows]

    def _hits(self, condition: str, measure: str, rows: Sequence[int] | None) -> list[bool]:
        return [MEASURES[measure](outcome) for outcome in self._of(condition, rows)]

    def _summaries(self, groups: dict[str, list[int]]) -> dict[str, Any]:
        return {c: {name: self._summary(c, rows) for name, rows in _with_overall(groups)} for c in self.outcomes}

    def _summary(self, condition: str, rows: Sequence[int] | None) -> dict[str, Any]:
        shares = {measure: self.estimate(condition, measure, rows).to_json() for measure in MEASURES}
        cut_off = self.truncated(condition, rows).to_json()
        return shares | {"mean_tokens": round(self.mean_tokens(condition, rows), 1), "truncated": cut_off}

    def _differences(self, groups: dict[str, list[int]]) -> dict[str, Any]:
        return {m: {n: self.difference(m, rows).to_json() for n, rows in _with_overall(groups)} for m in MEASURES}

    def _sampled(self, condition: str) -> dict[str, Any]:
        data: dict[str, Any] = {"num_samples": len(self.samples[condition][0])}
        for measure in ("strict", "lenient"):
            data[measure] = {f"pass@{k}": e.to_json() for k, e in self.pass_at(condition, measure).items()}
        return data | {"majority": share(self.votes[condition]).to_json()}


def measures_of(pair: tuple[str, str]) -> list[str]:
    """What two conditions can be compared in: a base asked for the answer alone was asked for no tags."""
    return ["lenient"] if set(pair) & set(DIRECT) else list(MEASURES)


def _with_overall(groups: dict[str, list[int]]) -> list[tuple[str, list[int] | None]]:
    return [("overall", None), *groups.items()]


def _grouped(kinds: Sequence[str | None], order: Callable[[list[str]], list[str]]) -> dict[str, list[int]]:
    """Rows by kind; names from a dataset become short and plain, and the rarest go together."""
    names = [_plain(kind) for kind in kinds]
    counts = Counter(names)
    kept = set(counts) if len(counts) <= MAX_KINDS else {name for name, _ in counts.most_common(MAX_KINDS - 1)}
    groups: dict[str, list[int]] = {name: [] for name in order(list(kept))}
    for row, name in enumerate(names):
        groups.setdefault(name if name in kept else "other kinds", []).append(row)
    return groups if len(groups) > 1 else {}


def _plain(kind: str | None) -> str:
    """A kind's name as a table and a plot can show it."""
    text = " ".join("".join(c if c.isprintable() and c not in "|<>`" else " " for c in str(kind or "")).split())
    text = text if len(text) <= _MAX_KIND_CHARS else text[: _MAX_KIND_CHARS - 1] + "…"
    return {"": "no kind", "overall": "overall (kind)"}.get(text, text)
