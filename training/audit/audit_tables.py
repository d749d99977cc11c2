"""An audit's report as tables: the terminal and the page show the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from training.audit.audit_projection import Projection
from training.audit.report import AuditReport, percent
from training.audit.sample import Rollouts
from training.data.splits import ROLES


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


def text(report: AuditReport) -> str:
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
