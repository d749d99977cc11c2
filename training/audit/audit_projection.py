"""What a planned run would take and cost, by the steps of a run that was measured under the same conditions.

A projection uses times measured on this very hardware; where there is none, it is unknown and says why.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from training.audit.sample import Plan, Rollouts
from training.runs.estimate import MeasuredSteps


@dataclass(frozen=True)
class Projection:
    """What the plan would take."""

    generation_seconds: float
    """Of one step, for its completions alone: measured here, so a step takes longer than this."""
    step_seconds: float | None
    reason: str
    """Where the step's time is from, or why it is unknown."""
    num_steps: int
    hours: float | None
    dollars: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is not known is the word `unknown`."""
        return {name: "unknown" if value is None else value for name, value in asdict(self).items()}


def project(rollouts: Rollouts, plan: Plan, measured: MeasuredSteps | None) -> Projection:
    """What the plan would take by steps measured on this hardware under the same conditions; else unknown."""
    step_seconds: float | None = None
    if measured is None:
        reason = "no run of this kind was measured here; name one with --measured-run"
    elif differing := _differences(rollouts, plan, measured):
        reason = "; ".join(differing)
    else:
        step_seconds = measured.seconds
        reason = f"median of {measured.num_steps} measured steps on {measured.hardware}"
    hours = None if step_seconds is None else step_seconds * plan.num_steps / 3600
    dollars = None if hours is None or plan.dollars_per_hour is None else hours * plan.dollars_per_hour
    generation = plan.step.completions / rollouts.completions_per_second
    return Projection(generation, step_seconds, reason, plan.num_steps, hours, dollars)


def _differences(rollouts: Rollouts, plan: Plan, measured: MeasuredSteps) -> list[str]:
    """Why the measured steps say nothing of the planned ones."""
    found = []
    if measured.hardware != rollouts.hardware:
        found.append(f"the measured run was on {measured.hardware}, and this is {rollouts.hardware}")
    for name, planned in asdict(plan.step).items():
        if (had := getattr(measured.step, name)) != planned:
            found.append(f"the measured steps had {name} {had}, the planned ones have {planned}")
    return found
