"""Changes by other rewards as HTML: figures before and after, two curves, problems whose answers change places."""

from __future__ import annotations

import numpy as np

from inference.common.files import Json
from inference.common.html import escape
from training.learn.regrading import Needs
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
    change: Change, recorded: Recorded, needs: Needs, limit: int, context: Context, record: RunRecord
) -> str:
    """The problems with answers that change places, those with another best answer first, with both advantages.

    `needs` and `limit` (tokens) are those of the other settings.
    """
    changes = change.is_led_anew.copy()
    changes[recorded.group[change.swapped]] = True
    changed = np.flatnonzero(changes)
    if not len(changed):
        return ""
    size = np.zeros(len(recorded.steps))
    np.maximum.at(size, recorded.group, np.nan_to_num(np.abs(change.advantages - recorded.advantages)))
    cards = ""
    for at in sorted(changed, key=lambda each: (not change.is_led_anew[each], -size[each], each))[:MAX_GROUPS]:
        step, number = int(recorded.steps[at]), int(recorded.numbers[at])
        _, groups = context.rollouts(record, step)
        if number < len(groups) and groups[number].get("step") == step:
            rows = np.flatnonzero(recorded.group == at)
            group = _rescored(groups[number], rows, change, needs, limit)
            address = f"#/train/watch/{record.id}/{step}/{number + 1}" if record.launcher else ""  # a sample has none
            cards += group_html(group, address, is_open=not cards)
    more = len(changed) - MAX_GROUPS
    rest = f'<p class="lt-note lt-quiet">and {more:,} more</p>' if more > 0 else ""
    return (
        '<h2 class="lt-group-title">Problems whose answers change places</h2>'
        f'<div class="lt-groups">{cards}</div>{rest}'
    )


def _rescored(group: Json, rows: np.ndarray, change: Change, needs: Needs, limit: int) -> Json:
    """A group of `rollouts.jsonl` with the rewards and advantages that it would have had, and what is cut then."""
    completions = []
    for one, at in zip(group["completions"], rows):
        values = {name: float(each[at]) for name, each in needs.rewards.items()}
        given = {name: None if np.isnan(value) else value for name, value in values.items()}
        before, reasons = mapping(one.get("rewards")), mapping(one.get("reasons"))
        same = {name for name, value in given.items() if name in before and finite(before[name]) == value}
        kept = {name: why for name, why in reasons.items() if {name, f"{name}_reward"} & same}
        changed = {"rewards": given, "reasons": kept, "advantage": round(float(change.advantages[at]), 5)}
        changed |= {"advantage_before": one.get("advantage"), "changes_places": bool(change.swapped[at])}
        if needs.cut[at]:  # what was read, and why, was of the whole text
            changed |= {"reasons": {}, "answer": None, "truncated": False, "cut_at": limit}
        completions.append({**one, **changed})
    return {**group, "completions": completions}
