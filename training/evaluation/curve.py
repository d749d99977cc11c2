"""Draws a run's rewards by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

LINES = {
    "rewards/format_reward/mean": ("format", "#2a78d6"),
    "rewards/accuracy_reward/mean": ("accuracy (strict)", "#e08a1e"),
}


def draw_curve(history: Sequence[dict[str, Any]], picture: Path) -> None:
    """The rewards of `metrics.jsonl` as a PNG: each step pale, the mean of the ten around it strong."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for key, (label, colour) in LINES.items():
        points = [(row["step"], row[key]) for row in history if row.get(key) is not None]
        if not points:
            continue
        steps, values = zip(*points)
        smooth = [sum(values[max(0, i - 5) : i + 5]) / len(values[max(0, i - 5) : i + 5]) for i in range(len(values))]
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
        axes.plot(steps, smooth, color=colour, linewidth=2, label=label)
    axes.set(xlabel="step", ylabel="mean reward of the step's completions", ylim=(0, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(picture, dpi=110)
