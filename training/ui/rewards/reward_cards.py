"""Changes by other rewards as HTML: figures before and after, two curves, problems with another best answer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from inference.common.files import Json
from inference.common.html import escape
from training.grading.advantages import Floats
from training.learn.reward_lab import Change, Recorded, figures
from training.runs.metrics import METRICS
from training.runs.record import RunRecord
from training.ui.base.context import Context
from training.ui.base.html import finite, mapping
from training.ui.base.plots import curves_plot
from training.ui.sections.rollout_cards import group_html

MAX_GROUPS = 6
"""Problems that are shown; those whose advantages change most come first."""
BEFORE, AFTER = "was", "would be"


def figures_html(change: Change, recorded: Recorded) -> str:
    """The figures as a table."""
    rows = "".join(
        f'<tr><th scope="row">{escape(label)}</th><td>{escape(was)}</td><td>{escape(now)}</td></tr>'
        for label, was, now in figures(change, recorded)
    )
    return (
        '<div class="lt-table" tabindex="0" role="group" aria-label="What changes"><table><thead><tr><td></td>'
        f'<th scope="col">Was</th><th scope="col">Would be</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def curves_html(change: Change) -> str:
    """Mean reward and share of dead groups over the steps, before and after."""
    plots = "".join(
        curves_plot({BEFORE: before, AFTER: after}, METRICS[name]) for name, (before, after) in change.curves.items()
    )
    return f'<div class="lt-plots lt-two-plots">{plots}</div>'


def changed_groups_html(
    change: Change, recorded: Recorded, rewards: Mapping[str, Floats], context: Context, record: RunRecord
) -> str:
    """The problems none of whose best answers is among the best now, with both advantages of each answer."""
    led_anew = np.flatnonzero(change.is_led_anew)
    if not len(led_anew):
        return '<p class="lt-note lt-quiet">Every problem keeps a best answer.</p>'
    size = np.zeros(len(recorded.steps))
    np.maximum.at(size, recorded.group, np.abs(change.advantages - recorded.advantages))
    cards = ""
    for at in sorted(led_anew, key=lambda each: (-size[each], each))[:MAX_GROUPS]:
        step, number = int(recorded.steps[at]), int(recorded.numbers[at])
        _, groups = context.rollouts(record, step)
        if number < len(groups) and groups[number].get("step") == step:
            rows = np.flatnonzero(recorded.group == at)
            group = _rescored(groups[number], rows, change, rewards)
            address = f"#/train/watch/{record.id}/{step}/{number + 1}" if record.launcher else ""  # a sample has none
            cards += group_html(group, address, is_open=not cards)
    more = len(led_anew) - MAX_GROUPS
    rest = f'<p class="lt-note lt-quiet">and {more:,} more</p>' if more > 0 else ""
    return (
        f'<h2 class="lt-group-title">Problems with another best answer</h2><div class="lt-groups">{cards}</div>{rest}'
    )


def _rescored(group: Json, rows: np.ndarray, change: Change, rewards: Mapping[str, Floats]) -> Json:
    """A group of `rollouts.jsonl` with the rewards and advantages that it would have had."""
    completions = []
    for one, at in zip(group["completions"], rows):
        given = {name: None if values[at] != values[at] else float(values[at]) for name, values in rewards.items()}
        before, reasons = mapping(one.get("rewards")), mapping(one.get("reasons"))
        same = {name for name, value in given.items() if name in before and finite(before[name]) == value}
        kept = {name: why for name, why in reasons.items() if {name, f"{name}_reward"} & same}
        changed = {"rewards": given, "reasons": kept, "advantage": round(float(change.advantages[at]), 5)}
        completions.append({**one, **changed, "advantage_before": one.get("advantage")})
    return {**group, "completions": completions}
