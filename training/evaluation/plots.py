"""Plots: accuracy by condition, the changes by training by kind of problem, and a run's rewards by step."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inference.common.files import Json
from training.evaluation.outcomes import COMPARED, DIRECT
from training.evaluation.report import Report
from training.evaluation.statistics import Estimate
from training.runs.metrics import is_figure, reward_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"strict": "#e08a1e", "lenient": "#2a78d6"}
LABELS = {"strict": "strict: the answer in its tags", "lenient": "lenient: the last answer stated"}
REWARD_COLOURS = ("#2a78d6", "#e08a1e")
"""Of the rewards in a run's plot, in turn."""


def draw_plots(report: Report, folder: Path, stem: str) -> list[Path]:
    """Writes `<stem>-accuracy.png`, with an adapter `-differences.png`, and with samples `-calibration.png`.

    Returns their paths.
    """
    plots = {f"{stem}-accuracy.png": _accuracy(report)}
    if report.has_difference:
        plots[f"{stem}-differences.png"] = _differences(report)
    if report.calibration:
        plots[f"{stem}-calibration.png"] = _reliability(report)
    for name, figure in plots.items():
        figure.savefig(folder / name, dpi=110)
    return [folder / name for name in plots]


def draw_rewards(history: Sequence[Json], path: Path) -> None:
    """Writes the rewards of `metrics.jsonl` as a PNG: each step pale, the mean of the ten around it strong."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    lowest, highest = 0.0, 1.0
    for (key, label), colour in zip(reward_labels(history).items(), itertools.cycle(REWARD_COLOURS)):
        points = [(row["step"], row[key]) for row in history if is_figure(row.get(key))]
        steps, values = zip(*points)
        smooth = [sum(values[max(0, i - 5) : i + 5]) / len(values[max(0, i - 5) : i + 5]) for i in range(len(values))]
        lowest, highest = min(lowest, *values), max(highest, *values)
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
        axes.plot(steps, smooth, color=colour, linewidth=2, label=label)
    axes.set(
        xlabel="step",
        ylabel="mean reward of the step's completions",
        ylim=(lowest, highest + 0.02 * (highest - lowest)),
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    if axes.lines:
        axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=110)


def draw_checkpoints(found: Json, path: Path) -> None:
    """Writes the rates of `checkpoints.json` by step as a PNG; pale bands are 95 % intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    steps = found["steps"]
    names = [name for name in found if "@" in name]
    for name, colour in zip(names, ("#2a78d6", "#3a9d5d", "#e08a1e")):
        values, lows, highs = ([100 * each for each in column] for column in zip(*found[name]))
        axes.fill_between(steps, lows, highs, color=colour, alpha=0.15, linewidth=0)
        axes.plot(steps, values, color=colour, marker="o", markersize=4, label=name)
        axes.plot(
            steps[0], 100 * found["forced"][name][0], color=colour, marker="D", fillstyle="none", linestyle="none"
        )
    axes.plot([], [], color="#777777", marker="D", fillstyle="none", linestyle="none", label="base made to think")
    axes.set(xlabel="step (0: the base)", ylabel=f"right, % of {found['num_rows']:,} rows", ylim=(0, 102))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(path, dpi=110)


def _accuracy(report: Report) -> Figure:
    names = list(report.outcomes)
    figure, axes = _axes(names)
    for measure, shift in (("strict", 0.14), ("lenient", -0.14)):
        shown = [(i, name) for i, name in enumerate(names) if measure == "lenient" or name not in DIRECT]
        _points(axes, [i + shift for i, _ in shown], [report.estimate(n, measure) for _, n in shown], measure)
    for (name, estimate), style in zip(report.baselines.items(), itertools.cycle((":", "--", "-."))):
        axes.axvline(100 * estimate.value, color="#777777", linewidth=1, linestyle=style, label=name)
    axes.set(xlabel=f"right, % of {len(report.kinds):,} rows, with 95 % intervals", xlim=(0, 100))
    _legend(figure, axes)
    return figure


def _differences(report: Report) -> Figure:
    kinds: dict[str, list[int] | None] = {"overall": None, **report.by_kind}
    names = [f"{name} ({len(report.kinds if rows is None else rows):,})" for name, rows in kinds.items()]
    figure, axes = _axes(names)
    for measure, shift in (("strict", 0.14), ("lenient", -0.14)):
        differences = [report.difference(measure, rows) for rows in kinds.values()]
        _points(axes, [i + shift for i in range(len(names))], differences, measure)
    axes.axvline(0, color="#444444", linewidth=1)
    axes.set(xlabel=f"{COMPARED[0]} less {COMPARED[1]}, points of 100, with 95 % intervals")
    _legend(figure, axes)
    return figure


def _reliability(report: Report) -> Figure:
    """For each sampled condition the share that is right by the majority's share of votes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1 + 3.6 * len(report.calibration), 4), layout="constrained")
    panels = figure.subplots(1, len(report.calibration), sharey=True, squeeze=False)[0]
    for axes, (name, found) in zip(panels, report.calibration.items()):
        axes.plot((0, 100), (0, 100), color="#777777", linewidth=1, linestyle=":")
        values = [100 * each.right.value for each in found.bins]
        below = [100 * max(0.0, each.right.value - each.right.low) for each in found.bins]
        above = [100 * max(0.0, each.right.high - each.right.value) for each in found.bins]
        at = [100 * each.confidence for each in found.bins]
        axes.errorbar(at, values, yerr=(below, above), fmt="none", ecolor=COLOURS["lenient"], capsize=3)
        axes.scatter(at, values, s=[15 + each.right.num_rows for each in found.bins], color=COLOURS["lenient"])
        axes.set(title=name, xlabel=f"share of {found.num_samples} votes, %", xlim=(0, 104), ylim=(0, 104))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("majority right, %, with 95 % intervals")
    return figure


def _axes(names: Sequence[str]) -> tuple[Figure, Axes]:
    """A figure with a line for each name, the first on top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.7 + 0.42 * len(names)), layout="constrained")
    axes = figure.subplots()
    # Dollar signs in a dataset's names are not mathematics.
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    return figure, axes


def _points(axes: Axes, heights: Sequence[float], estimates: Sequence[Estimate], measure: str) -> None:
    values = [100 * e.value for e in estimates]
    below = [100 * max(0.0, e.value - e.low) for e in estimates]
    above = [100 * max(0.0, e.high - e.value) for e in estimates]
    colour, label = COLOURS[measure], LABELS[measure]
    axes.errorbar(values, heights, xerr=(below, above), fmt="o", color=colour, markersize=5, capsize=3, label=label)


def _legend(figure: Figure, axes: Axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
