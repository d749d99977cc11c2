"""The report of an evaluation: shares with intervals, paired differences and a verdict, overall and by kind of problem.

All else is computed from the outcomes (`training.evaluation.outcomes`). `Report.to_json` makes `evaluation.json`,
`Report.markdown` the tables of the terminal, `training.evaluation.verdict` the sentence, `training.evaluation.plots`
the plots.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from inference.common.files import Json
from training.evaluation.measures.outside import Outside
from training.evaluation.outcomes import COMPARED, DIRECT, MEASURES, Outcomes, measures_of
from training.evaluation.statistics import Estimate, PairedDifference, share
from training.evaluation.verdict import levels

HEADINGS = {"format": "format", "strict": "strict accuracy", "lenient": "lenient accuracy"}
_MEANING = """- format: the whole completion is one thought and one answer in their tags;
- strict: the answer in its tags is right; lenient: the last answer stated is right, tags or not;
- base-direct is asked for the answer alone: its whole completion is graded, so strict is lenient there;
- base-forced is made to think: its completion begins with `<think>`; base-careful begins as its most careful way does;
- contradicts: the thought ends at another answer than the one given, as far as the grader can tell;
- shares and differences with their 95 % intervals, bootstrapped over what the pictures show, since rows share it; p is
  that of the exact McNemar test of lenient accuracy, for independent rows."""
_OWN_PROMPT = (
    "\n- the adapter has a system prompt of its own and is asked with it: the differences are those of both together."
)
_SHOWN = {True: "shown", False: "not shown", None: "not measured"}
_MANY_TESTS = "Of twenty such tests one has p below 0.05 by chance."


@dataclass(frozen=True)
class Report(Outcomes):
    """The outcomes of an evaluation, their figures, and both as JSON and as tables."""

    def to_json(self, completions: bool = False) -> Json:
        """Plain data: the figures of `markdown`, and every completion if `completions`."""
        groups: dict[str, list[int] | None] = {"overall": None, **self.by_kind}
        data: Json = {"about": self.about, "baselines": _to_json(self.baselines)}
        data["conditions"] = {
            c: {n: self._summary(c, rows) for n, rows in groups.items() if self.asked(rows, c) != []}
            for c in self.outcomes
        }
        if self.probes:
            data["probes"] = {condition: probe.to_json() for condition, probe in self.probes.items()}
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
        if self.calibration:
            data["calibration"] = {condition: each.to_json() for condition, each in self.calibration.items()}
        if self.outside:
            data["outside"] = self.outside.to_json()
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
        if self.probes:
            parts += ["Thoughts that were changed, on the rows that have one:", _probe_table(self)]
            parts.append("\n".join(f"- {name}: {probe.sentence}" for name, probe in self.probes.items()))
        if self.outside:
            parts += [self.outside.sentence, _outside_table(self.outside)]
        if self.samples:
            parts.append(_sample_table(self))
            parts.append("\n".join(f"- {name}: {each.sentence}" for name, each in self.calibration.items()))
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

    def _summary(self, condition: str, rows: Sequence[int] | None) -> Json:
        shares = {measure: self.estimate(condition, measure, rows).to_json() for measure in MEASURES}
        lengths = {"mean_tokens": round(self.mean_tokens(condition, rows), 1)}
        return (
            shares
            | lengths
            | {
                "truncated": self.truncated(condition, rows).to_json(),
                "contradictions": self.contradictions(condition, rows).to_json(),
            }
        )

    def _sampled(self, condition: str) -> Json:
        data: Json = {"num_samples": len(self.samples[condition][0])}
        for measure in ("strict", "lenient"):
            data[measure] = _to_json({f"pass@{k}": e for k, e in self.pass_at(condition, measure).items()})
        return data | {"majority": share(self.votes[condition]).to_json()}


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with its columns aligned."""
    widths = [max(map(len, column)) for column in zip(headings, *rows)]
    lines = [headings, ["-" * max(1, width) for width in widths], *rows]
    return "\n".join("| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths)) + " |" for line in lines)


def _to_json(estimates: Mapping[str, Estimate]) -> Json:
    return {name: estimate.to_json() for name, estimate in estimates.items()}


def _overall_table(report: Report) -> str:
    rows = []
    for name in report.outcomes:
        shares = [str(report.estimate(name, measure)) for measure in MEASURES]
        if name in DIRECT:
            shares[0] = "not asked for"
        few = [f"{100 * share.value:.1f} %" for share in (report.truncated(name), report.contradictions(name))]
        rows.append([name, *shares, f"{report.mean_tokens(name):.0f}", *few])
    return table(["condition", *HEADINGS.values(), "tokens", "cut off", "contradicts"], rows)


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
        [name, *(_percent(report, name, measure, of_kind) for of_kind in report.by_kind.values())]
        for name in report.outcomes
    ]
    counts = ["rows", *(f"{len(of_kind):,}" for of_kind in report.by_kind.values())]
    return table(["condition", *report.by_kind], [*rows, counts])


def _percent(report: Report, condition: str, measure: str, rows: Sequence[int]) -> str:
    return f"{100 * report.estimate(condition, measure, rows).value:.1f} %" if report.asked(rows, condition) else "none"


def _probe_table(report: Report) -> str:
    """The shares of answers that changed and that followed the thought, one row for each probe."""
    rows = []
    for name, probe in report.probes.items():
        counts = [f"{number:,}" for number in (len(probe.rows), probe.num_left_out, probe.num_anyway)]
        rows.append([name, *counts, str(probe.changed or "none"), str(probe.followed or "none")])
    headings = ["condition", "rows", "left out", "thought anyway", "other answer", "follows the thought"]
    return table(headings, rows)


def _outside_table(outside: Outside) -> str:
    rows = [[a.name, f"{a.before.num_rows:,}", *map(str, (a.before, a.after, a.difference))] for a in outside.abilities]
    return table(["", "rows", "base", "adapter", "points of 100"], rows)


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
