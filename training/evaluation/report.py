"""The report of an evaluation: shares with intervals, paired differences and a verdict, overall and by kind of problem.

All else is computed from the outcomes. `Report.to_json` makes `evaluation.json`, `Report.markdown`
the tables of the terminal, `training.evaluation.verdict` the sentence, `training.evaluation.plots` the plots.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property

from inference.common.files import Json
from training.evaluation.conditions import CONDITIONS
from training.evaluation.statistics import (
    Clusters,
    Estimate,
    PairedDifference,
    mean_share,
    paired_difference,
    pass_at_k,
    share,
)
from training.evaluation.verdict import Changes, levels, verdict

COMPARED = ("adapter-thinking", "base-thinking")
"""The two conditions of the headline: the change by training, on the same rows with the same prompt."""
AGAINST_FORCED = ("adapter-thinking", "base-forced")
AGAINST_CAREFUL = ("adapter-thinking", "base-careful")
AGAINST_DIRECT = ("adapter-thinking", "base-direct")
VOTING = "base-forced-sampled"
"""The condition whose majority the adapter has to beat."""
_OTHERS = tuple((c.name, c.reference) for c in CONDITIONS if c.reference and c.name != COMPARED[0])
PAIRS = (COMPARED, AGAINST_FORCED, AGAINST_CAREFUL, AGAINST_DIRECT, *_OTHERS)
"""Each difference that is shown if both conditions were measured, as (after, before)."""
DIRECT = tuple(c.name for c in CONDITIONS if c.is_direct)
MAX_KINDS = 12
"""Kinds in a table at most; the rarer ones are joined."""
_MAX_KIND_CHARS = 24
HEADINGS = {"format": "format", "strict": "strict accuracy", "lenient": "lenient accuracy"}
_MEANING = """- format: the whole completion is one thought and one answer in their tags;
- strict: the answer in its tags is right; lenient: the last answer stated is right, tags or not;
- base-direct is asked for the answer alone: its whole completion is graded, so strict is lenient there;
- base-forced is made to think: its completion begins with `<think>`; base-careful begins as its most careful way does;
- shares and differences with their 95 % intervals, bootstrapped over what the pictures show, since rows share it; p is
  that of the exact McNemar test of lenient accuracy, for independent rows."""
_OWN_PROMPT = (
    "\n- the adapter has a system prompt of its own and is asked with it: the differences are those of both together."
)
_SHOWN = {True: "shown", False: "not shown", None: "not measured"}
_MANY_TESTS = "Of twenty such tests one has p below 0.05 by chance."


@dataclass(frozen=True)
class GradedCompletion:
    """One completion of one row, graded."""

    well_formed: bool
    strict: bool
    """The answer in its tags is right."""
    lenient: bool
    """The last answer stated is right, tags or not."""
    num_tokens: int
    truncated: bool
    text: str = ""


MEASURES: dict[str, Callable[[GradedCompletion], bool]] = {
    "format": lambda o: o.well_formed,
    "strict": lambda o: o.strict,
    "lenient": lambda o: o.lenient,
}


def graded_share(outcomes: Sequence[GradedCompletion], measure: str, clusters: Clusters | None = None) -> Estimate:
    """The share of outcomes that pass a measure of `MEASURES`; `clusters` are those of their rows."""
    return share([MEASURES[measure](outcome) for outcome in outcomes], clusters)


def graded_difference(
    after: Sequence[GradedCompletion],
    before: Sequence[GradedCompletion],
    measure: str,
    clusters: Clusters | None = None,
) -> PairedDifference:
    """The share that passes a measure in `after`, less that in `before`, on the same rows; `clusters` are theirs."""
    passes = MEASURES[measure]
    return paired_difference([passes(o) for o in after], [passes(o) for o in before], clusters)


@dataclass(frozen=True)
class Report:
    """The outcomes of each condition, row by row in one order, with the settings of the evaluation."""

    kinds: Sequence[str | None]
    """The kind of problem of each row."""
    outcomes: dict[str, list[GradedCompletion]]
    """One outcome for each row of each condition; the first of several samples."""
    about: Json = field(default_factory=dict)
    """Base, adapter, rows, seed, lengths: all that is needed to repeat the evaluation."""
    baselines: dict[str, Estimate] = field(default_factory=dict)
    """Accuracy of answers that do not depend on the picture."""
    samples: dict[str, list[list[GradedCompletion]]] = field(default_factory=dict)
    """All outcomes of each row, for conditions that were sampled more than once."""
    votes: dict[str, list[bool]] = field(default_factory=dict)
    """For the same conditions: for each row, whether the majority of its samples is right."""
    clusters: Clusters | None = None
    """For each row a number that it shares with the rows whose pictures show the same."""

    @cached_property
    def by_kind(self) -> dict[str, list[int]]:
        """The rows of each kind of problem, in alphabetical order; empty if there is only one kind.

        Names from a dataset are shortened and made plain, and the rarest kinds are joined.
        """
        names = [_plain(kind) for kind in self.kinds]
        counts = Counter(names)
        shown = set(counts) if len(counts) <= MAX_KINDS else {name for name, _ in counts.most_common(MAX_KINDS - 1)}
        groups: dict[str, list[int]] = {name: [] for name in sorted(shown)}
        for row, name in enumerate(names):
            groups.setdefault(name if name in shown else "other kinds", []).append(row)
        return groups if len(groups) > 1 else {}

    def estimate(self, condition: str, measure: str, rows: Sequence[int] | None = None) -> Estimate:
        """The share of rows (all, or these) that pass a measure."""
        return graded_share(self._of(condition, rows), measure, self._clusters(rows))

    def difference(
        self, measure: str, rows: Sequence[int] | None = None, pair: tuple[str, str] = COMPARED
    ) -> PairedDifference:
        """The share under the first condition of `pair` less that under the second, on the same rows."""
        return graded_difference(self._of(pair[0], rows), self._of(pair[1], rows), measure, self._clusters(rows))

    @property
    def over_majority(self) -> PairedDifference | None:
        """Lenient accuracy of the adapter's greedy completion less that of the majority of the base's samples."""
        if VOTING not in self.votes or COMPARED[0] not in self.outcomes:
            return None
        return paired_difference([o.lenient for o in self.outcomes[COMPARED[0]]], self.votes[VOTING], self.clusters)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs of `PAIRS` of which both conditions were measured."""
        return [(after, before) for after, before in PAIRS if after in self.outcomes and before in self.outcomes]

    @property
    def has_difference(self) -> bool:
        return COMPARED in self.pairs

    @property
    def changes(self) -> Changes | None:
        """The differences of the verdict; `None` unless base and adapter were measured with the thinking prompt."""
        if not self.has_difference:
            return None
        forced, careful, direct = (
            self.difference("lenient", pair=pair) if pair in self.pairs else None
            for pair in (AGAINST_FORCED, AGAINST_CAREFUL, AGAINST_DIRECT)
        )
        form, strict, lenient = (self.difference(measure) for measure in MEASURES)
        return Changes(form, strict, lenient, forced, careful, self.over_majority, direct)

    @property
    def verdict(self) -> str | None:
        """One sentence; `None` unless base and adapter were both measured with the thinking prompt."""
        return verdict(self.changes) if self.changes else None

    def pass_at(self, condition: str, measure: str) -> dict[int, Estimate]:
        """pass@k of a sampled condition, for k = 1, 2, 4, … and all of its samples."""
        rights = [sum(MEASURES[measure](o) for o in row) for row in self.samples[condition]]
        num = len(self.samples[condition][0])
        ks = sorted({num, *(2**i for i in range(num.bit_length()) if 2**i <= num)})
        return {k: mean_share([pass_at_k(right, num, k) for right in rights], num // k, self.clusters) for k in ks}

    def majority(self, condition: str) -> Estimate:
        """The share of rows where the majority of a sampled condition's completions is right."""
        return share(self.votes[condition], self.clusters)

    def mean_tokens(self, condition: str, rows: Sequence[int] | None = None) -> float:
        """The mean length of a completion in tokens."""
        outcomes = self._of(condition, rows)
        return sum(o.num_tokens for o in outcomes) / len(outcomes)

    def truncated(self, condition: str, rows: Sequence[int] | None = None) -> Estimate:
        """The share of completions that the token limit cut off."""
        return share([o.truncated for o in self._of(condition, rows)], self._clusters(rows))

    def to_json(self, completions: bool = False) -> Json:
        """Plain data: the figures of `markdown`, and every completion if `completions`."""
        groups: dict[str, list[int] | None] = {"overall": None, **self.by_kind}
        data: Json = {"about": self.about, "baselines": _to_json(self.baselines)}
        data["conditions"] = {c: {n: self._summary(c, rows) for n, rows in groups.items()} for c in self.outcomes}
        if self.has_difference:
            smallest = self.difference("lenient").smallest_shown
            data["verdict"] = self.verdict
            data["levels"] = [asdict(level) for level in levels(self.changes)] if self.changes else []
            data["smallest_difference"] = None if smallest is None else round(smallest, 4)
            data["differences"] = {
                m: {n: self.difference(m, rows).to_json() for n, rows in groups.items()} for m in MEASURES
            }
        data["comparisons"] = [
            {"after": pair[0], "before": pair[1]}
            | {measure: self.difference(measure, pair=pair).to_json() for measure in measures_of(pair)}
            for pair in self.pairs
        ]
        if (difference := self.over_majority) is not None:
            data["over_majority"] = difference.to_json()
        data["samples"] = {condition: self._sampled(condition) for condition in self.samples}
        if completions:
            every = {c: [[o] for o in outcomes] for c, outcomes in self.outcomes.items()} | self.samples
            data["completions"] = {c: [asdict(o) for row in rows for o in row] for c, rows in every.items()}
        return data

    def summary(self) -> str:
        """The verdict, its levels and the conditions, as lines for a terminal."""
        parts = []
        if self.changes and self.verdict:
            shown = enumerate(levels(self.changes), 1)
            parts.append("\n".join(textwrap.wrap(self.verdict, 100)))
            parts.append("\n".join(["It learnt", *(f"{i}. {each.name}: {_SHOWN[each.is_shown]}" for i, each in shown)]))
        parts += [_overall_table(self), *self._left_out()]
        return "\n\n".join(parts) + "\n"

    def markdown(self) -> str:
        """The verdict, the conditions and their differences, then both by kind, as tables for a terminal."""
        parts = [f"**{self.verdict}**", level_table(self)] if self.verdict else []
        parts += [_overall_table(self), _MEANING + self._circumstances()]
        if self.pairs:
            parts += ["What changes, points of 100, on the same rows:", _comparison_table(self), _power(self)]
        if self.by_kind:
            for m in ("strict", "lenient"):
                parts.append(f"{HEADINGS[m].capitalize()} by kind of problem:\n\n{_kind_table(self, m)}")
            if self.has_difference:
                parts.append(f"{COMPARED[0]} less {COMPARED[1]} by kind of problem:\n\n{_difference_table(self)}")
                parts.append(_MANY_TESTS)
        if self.samples:
            parts.append(_sample_table(self))
        if self.baselines:
            parts.append("\n".join(f"- {name}: {estimate}" for name, estimate in self.baselines.items()))
        parts += self._left_out()
        return "\n\n".join(part for part in parts if part) + "\n"

    def _left_out(self) -> list[str]:
        dropped = self.about.get("dropped")
        return [f"Rows that were left out: {dropped}."] if dropped else []

    def _circumstances(self) -> str:
        """Lines on how these conditions were asked, where that is not the usual way."""
        penalty = self.about.get("repetition_penalty", 1.0)
        lines = _OWN_PROMPT if self.about.get("own_system_prompt") else ""
        return lines + (
            f"\n- the base's repetition penalty, {penalty:g}, holds in all conditions." if penalty != 1 else ""
        )

    def _of(self, condition: str, rows: Sequence[int] | None) -> list[GradedCompletion]:
        outcomes = self.outcomes[condition]
        return outcomes if rows is None else [outcomes[row] for row in rows]

    def _clusters(self, rows: Sequence[int] | None) -> Clusters | None:
        return self.clusters if rows is None or self.clusters is None else [self.clusters[row] for row in rows]

    def _summary(self, condition: str, rows: Sequence[int] | None) -> Json:
        shares = {measure: self.estimate(condition, measure, rows).to_json() for measure in MEASURES}
        cut_off = self.truncated(condition, rows).to_json()
        return shares | {"mean_tokens": round(self.mean_tokens(condition, rows), 1), "truncated": cut_off}

    def _sampled(self, condition: str) -> Json:
        data: Json = {"num_samples": len(self.samples[condition][0])}
        for measure in ("strict", "lenient"):
            data[measure] = _to_json({f"pass@{k}": e for k, e in self.pass_at(condition, measure).items()})
        return data | {"majority": share(self.votes[condition]).to_json()}


def measures_of(pair: tuple[str, str]) -> list[str]:
    """The measures that two conditions can be compared in; only lenient where one was not asked for tags."""
    return ["lenient"] if set(pair) & set(DIRECT) else list(MEASURES)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with its columns aligned."""
    widths = [max(map(len, column)) for column in zip(headings, *rows)]
    lines = [headings, ["-" * max(1, width) for width in widths], *rows]
    return "\n".join("| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths)) + " |" for line in lines)


def _to_json(estimates: Mapping[str, Estimate]) -> Json:
    return {name: estimate.to_json() for name, estimate in estimates.items()}


def _plain(kind: str | None) -> str:
    """A kind's name, short and plain enough for a table and a plot."""
    text = " ".join("".join(c if c.isprintable() and c not in "|<>`" else " " for c in str(kind or "")).split())
    text = text if len(text) <= _MAX_KIND_CHARS else text[: _MAX_KIND_CHARS - 1] + "…"
    return {"": "no kind", "overall": "overall (kind)"}.get(text, text)


def _overall_table(report: Report) -> str:
    rows = []
    for name in report.outcomes:
        shares = [str(report.estimate(name, measure)) for measure in MEASURES]
        if name in DIRECT:
            shares[0] = "not asked for"
        cut_off = f"{100 * report.truncated(name).value:.1f} %"
        rows.append([name, *shares, f"{report.mean_tokens(name):.0f}", cut_off])
    return table(["condition", *HEADINGS.values(), "tokens", "cut off"], rows)


def _comparison_table(report: Report) -> str:
    rows = []
    for pair in report.pairs:
        differences = {m: report.difference(m, pair=pair) for m in measures_of(pair)}
        lenient = differences["lenient"]
        cells = [str(differences.get(m, "")) for m in MEASURES]
        rows.append([f"{pair[0]} less {pair[1]}", *cells, str(lenient.gained), str(lenient.lost), _p_text(lenient)])
    return table(["", *HEADINGS.values(), "gained", "lost", "p"], rows)


def _power(report: Report) -> str:
    if not report.has_difference:
        return ""
    smallest, num = report.difference("lenient").smallest_shown, len(report.kinds)
    if smallest is None:
        return f"{num:,} rows are too few to show any difference in lenient accuracy with a power of 80 % at 5 %."
    return (
        f"The smallest difference in lenient accuracy that {num:,} rows show with a power of 80 % at 5 %, as many "
        f"changing as did here: {100 * smallest:.1f} points."
    )


def _kind_table(report: Report, measure: str) -> str:
    rows = [
        [name, *(f"{100 * report.estimate(name, measure, of_kind).value:.1f} %" for of_kind in report.by_kind.values())]
        for name in report.outcomes
    ]
    counts = ["rows", *(f"{len(of_kind):,}" for of_kind in report.by_kind.values())]
    return table(["condition", *report.by_kind], [*rows, counts])


def _difference_table(report: Report) -> str:
    rows = []
    for name, of_kind in report.by_kind.items():
        differences = {m: report.difference(m, of_kind) for m in MEASURES}
        p_value = _p_text(differences["lenient"])
        rows.append([name, f"{len(of_kind):,}", *map(str, differences.values()), p_value])
    return table(["kind", "rows", *HEADINGS.values(), "p"], rows)


def _sample_table(report: Report) -> str:
    """pass@k and majority, one row for each condition."""
    rows: list[list[str]] = []
    headings: list[str] = []
    for condition, samples in report.samples.items():
        passed = report.pass_at(condition, "lenient")
        strict = report.pass_at(condition, "strict")[1]
        headings = ["condition", "strict pass@1", *(f"pass@{k}" for k in passed), f"majority@{len(samples[0])}"]
        rows.append([condition, str(strict), *map(str, passed.values()), str(report.majority(condition))])
    title = f"Several samples of each row, at temperature {report.about.get('temperature', 1)}, lenient unless said:"
    return f"{title}\n\n{table(headings, rows)}"


def level_table(report: Report) -> str:
    """The levels of the verdict, one a row."""
    shown = levels(report.changes) if report.changes else []
    rows = [[f"{number}. {each.name}", _SHOWN[each.is_shown], each.evidence] for number, each in enumerate(shown, 1)]
    return table(["it learnt", "", "evidence, points of 100"], rows)


def _p_text(difference: PairedDifference) -> str:
    """A p-value with three decimals."""
    return "< 0.001" if difference.p_value < 0.001 else f"{difference.p_value:.3f}"
