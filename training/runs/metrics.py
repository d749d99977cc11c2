"""The one list of a run's figures: label, unit and column, for every plot, table and log line.

METRICS["accuracy"].label                       # "Correct (strict)"
METRICS["accuracy"].text(0.8125)                # "81 %"
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard


@dataclass(frozen=True)
class Metric:
    """A figure of a training step or of an evaluation."""

    label: str
    unit: str = ""
    """`%` for a share from 0 to 1, which is shown in per cent."""
    column: str = ""
    """Its column in `metrics.jsonl`, as TRL names it; empty for a figure of evaluations only."""
    meaning: str = ""
    """What its curve shows, in a sentence or two."""
    evaluated: str = ""
    """The figure of an evaluation that it can be compared with; empty if there is none."""

    def text(self, value: float) -> str:
        """A value with its unit."""
        return number(value, self.unit)


METRICS = {
    "reward": Metric(
        "Mean reward",
        "",
        "reward",
        "The weighted sum of all rewards, averaged over the answers of a step. Training raises it. It is noisy: each "
        "step asks other problems.",
    ),
    "format": Metric(
        "Format kept",
        "%",
        "rewards/format_reward/mean",
        "The share of answers with one thought and one answer, each in its tags.",
        "format",
    ),
    "accuracy": Metric(
        "Correct (strict)",
        "%",
        "rewards/accuracy_reward/mean",
        "The share of answers whose tagged answer is right, on the training problems of a step. How good the adapter "
        "is, the test problems say after the last step.",
        "strict",
    ),
    "cookbook_format": Metric(
        "Format kept (the cookbook's)",
        "%",
        "rewards/cookbook_format_reward/mean",
        "The share of answers that the cookbook's pattern for the tags accepts.",
    ),
    "cookbook_accuracy": Metric(
        "Correct (by the cookbook's reward)",
        "%",
        "rewards/cookbook_accuracy_reward/mean",
        "The mean of the cookbook's accuracy reward, which compares the whole completion with the solution.",
    ),
    "completion_tokens": Metric(
        "Answer length",
        "tokens",
        "completions/mean_length",
        "Tokens of an answer with its thought, on average. A fall towards zero, or a rise to the limit, needs a look.",
    ),
    "zero_std_share": Metric(
        "Problems with nothing to learn (all answers scored alike)",
        "%",
        "frac_reward_zero_std",
        "The share of problems whose answers all got the same reward: their advantages are 0, so the step learns "
        "nothing from them. Problems that are too easy or too hard do this.",
    ),
    "loss": Metric(
        "Loss",
        "",
        "loss",
        "The loss of GRPO. It is near 0 by its definition, and is no measure of progress; jumps can mean a learning "
        "rate that is too high.",
    ),
    "strict": Metric("Correct (strict)", "%"),
    "lenient": Metric("Correct (lenient)", "%"),
}
CURVES = {name: metric.column for name, metric in METRICS.items() if metric.column}
"""The figures that are drawn as curves over the steps, with their columns."""
COOKBOOK = ("cookbook_format", "cookbook_accuracy")
"""The figures that only runs with the cookbook's rewards have."""
REWARDED = ("format", "accuracy", *COOKBOOK)
"""The figures that are mean rewards and have a name here; `reward_labels` has those of all reward functions."""
_MEAN = re.compile(r"rewards/[^/]+/mean")
MAX_FIGURE = 1e300
"""The limit of a run's metrics, however it diverges."""
MAX_STEP = 10**12
EVALUATED = ("format", "strict", "lenient")
"""The figures of an evaluation, in the order of its tables."""


def reward_labels(history: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """The label of each reward function's mean by its column, of those that a run ever has a value of.

    >>> reward_labels([{"rewards/brevity_reward/mean": 0.5, "rewards/format_reward/mean": 1.0}])
    {'rewards/format_reward/mean': 'Format kept', 'rewards/brevity_reward/mean': 'brevity_reward'}
    """
    seen = {name for row in history for name, value in row.items() if _MEAN.fullmatch(name) and is_figure(value)}
    known = {METRICS[name].column: METRICS[name].label for name in REWARDED if METRICS[name].column in seen}
    return known | {name: name.split("/")[1] for name in sorted(seen - known.keys())}


def step_in(row: Mapping[str, object]) -> int | None:
    """The step that a line of a run's files is about; `None` where it is no whole number from 0 on."""
    step = row.get("step")
    return step if isinstance(step, int) and not isinstance(step, bool) and 0 <= step < MAX_STEP else None


def figures_of(row: Mapping[str, object]) -> dict[str, object] | None:
    """A line of `metrics.jsonl` with what is no figure left out; `None` for a line without a step.

    `None`, infinite values and NaN stay: `training.runs.diagnosis` tells what they mean.
    """
    if step_in(row) is None:
        return None
    is_kept = {name: value is None or isinstance(value, float) or is_figure(value) for name, value in row.items()}
    return {name: value for name, value in row.items() if is_kept[name]}


def is_figure(value: object) -> TypeGuard[float]:
    """True for a finite number that a run's metrics may have."""
    return is_number(value, MAX_FIGURE)


def is_number(value: object, below: float = 1e15) -> TypeGuard[float]:
    """True for a number of usable size: not of 400 digits, not infinite or NaN, not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < below


def number(value: float, unit: str = "") -> str:
    """A value with its unit, as short as it is clear.

    >>> number(0.8125, "%"), number(34.2, "tokens"), number(0.0138)
    ('81 %', '34 tokens', '0.014')
    """
    if unit == "%":
        return f"{100 * value:.0f} %".replace("-0 %", "0 %")
    size = abs(value)
    decimals = 0 if size >= 100 or value == 0 else 1 if size >= 20 else 2 if size >= 0.1 else 3
    if unit:
        decimals = 0 if size >= 20 or value == 0 else 1
    text = f"{value:.0e}" if 0 < size < 0.0005 else f"{value:,.{decimals}f}"
    return text.replace("-", "−" if text.startswith("-") else "-", 1) + (f" {unit}" if unit else "")
