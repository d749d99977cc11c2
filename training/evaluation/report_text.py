"""A report as Markdown: a verdict and tables that read well in a terminal too."""

from __future__ import annotations

from collections.abc import Sequence

from training.evaluation.report import COMPARED, DIRECT, MEASURES, Report, measures_of
from training.evaluation.statistics import PairedDifference, share

HEADINGS = {"format": "format", "strict": "strict accuracy", "lenient": "lenient accuracy"}
MEANING = """- format: the whole completion is one thought and one answer in their tags;
- strict: the answer in its tags is right; lenient: the last answer stated is right, tags or not;
- base-direct is asked for the answer alone: its whole completion is graded, so strict is lenient there;
- shares and differences with their 95 % intervals; p is that of the exact McNemar test of lenient accuracy."""

_OWN_PROMPT = (
    "\n- the adapter has a system prompt of its own and is asked with it: the differences are those of both together."
)


def markdown(report: Report) -> str:
    """The verdict, the conditions, their differences, then both by kind."""
    parts = [f"**{report.verdict}**"] if report.verdict else []
    parts += [_overall_table(report), MEANING + (_OWN_PROMPT if report.about.get("own_system_prompt") else "")]
    if report.pairs:
        parts += ["What changes, points of 100, on the same rows:", _comparison_table(report), _power(report)]
    for title, groups in (("kind of problem", report.by_kind), ("kind of answer", report.by_answer_kind)):
        if groups:
            parts += [f"{HEADINGS[m].capitalize()} by {title}:\n\n{_kind_table(report, m, groups)}" for m in _SHOWN]
            if report.has_difference:
                parts += [f"{COMPARED[0]} less {COMPARED[1]} by {title}:\n\n{_difference_table(report, groups)}", _MANY]
    if report.samples:
        parts.append(_sample_table(report))
    if report.baselines:
        parts.append("\n".join(f"- {name}: {estimate}" for name, estimate in report.baselines.items()))
    return "\n\n".join(part for part in parts if part) + "\n"


_SHOWN = ("strict", "lenient")
_MANY = "Of twenty such tests one has p below 0.05 by chance."


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
        found = {m: report.difference(m, pair=pair) for m in measures_of(pair)}
        lenient = found["lenient"]
        cells = [str(found[m]) if m in found else "" for m in MEASURES]
        rows.append([f"{pair[0]} less {pair[1]}", *cells, str(lenient.gained), str(lenient.lost), p_text(lenient)])
    return table(["", *HEADINGS.values(), "gained", "lost", "p"], rows)


def _power(report: Report) -> str:
    if not report.has_difference:
        return ""
    smallest, num = report.smallest_difference, len(report.kinds)
    if smallest is None:
        return f"{num:,} rows are too few to show any difference in lenient accuracy with a power of 80 % at 5 %."
    return (
        f"The smallest difference in lenient accuracy that {num:,} rows show with a power of 80 % at 5 %, as many "
        f"changing as did here: {100 * smallest:.1f} points."
    )


def _kind_table(report: Report, measure: str, groups: dict[str, list[int]]) -> str:
    rows = [
        [name, *(f"{100 * report.estimate(name, measure, of_kind).value:.1f} %" for of_kind in groups.values())]
        for name in report.outcomes
    ]
    counts = ["rows", *(f"{len(of_kind):,}" for of_kind in groups.values())]
    return table(["condition", *groups], [*rows, counts])


def _difference_table(report: Report, groups: dict[str, list[int]]) -> str:
    rows = []
    for name, of_kind in groups.items():
        found = {m: report.difference(m, of_kind) for m in MEASURES}
        rows.append([name, f"{len(of_kind):,}", *map(str, found.values()), p_text(found["lenient"])])
    return table(["kind", "rows", *HEADINGS.values(), "p"], rows)


def _sample_table(report: Report) -> str:
    """pass@k and majority, each condition a row."""
    rows: list[list[str]] = []
    headings: list[str] = []
    for condition, samples in report.samples.items():
        passed = report.pass_at(condition, "lenient")
        strict = report.pass_at(condition, "strict")[1]
        headings = ["condition", "strict pass@1", *(f"pass@{k}" for k in passed), f"majority of {len(samples[0])}"]
        rows.append([condition, str(strict), *map(str, passed.values()), str(share(report.votes[condition]))])
    title = f"Several samples of each row, at temperature {report.about.get('temperature', 1)}, lenient unless said:"
    return f"{title}\n\n{table(headings, rows)}"


def p_text(difference: PairedDifference) -> str:
    """A p-value as people write it."""
    return "< 0.001" if difference.p_value < 0.001 else f"{difference.p_value:.3f}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with its columns aligned, so that it reads well in a terminal too."""
    widths = [max(map(len, column)) for column in zip(headings, *rows)]
    lines = [headings, ["-" * max(1, width) for width in widths], *rows]
    return "\n".join("| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths)) + " |" for line in lines)
