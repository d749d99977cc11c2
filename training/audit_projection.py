"""What a planned run would take and cost, by the steps of a run that was measured under the same conditions.

A projection uses times measured on this very hardware; where there is none, it is unknown and says why.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inference.errors import UserError
from training.audit_rollouts import Plan, Rollouts, Step, plain_base

WARM_UP_STEPS = 2
"""The first steps of a run are slower: compilation, caches. They are left out of a measurement."""
MIN_STEPS = 3
"""Fewer measured steps than this say nothing."""


@dataclass(frozen=True)
class MeasuredSteps:
    """What the steps of an earlier run took."""

    seconds: float
    """Median, without the first steps."""
    num_steps: int
    step: Step
    hardware: str


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


def read_measured_run(folder: Path) -> MeasuredSteps:
    """The steps of a run's last start: times in `metrics.jsonl`, conditions in `config.json` and `versions.json`."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        start = json.loads((folder / "versions.json").read_text(encoding="utf-8"))[-1]
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
        # An earlier start may have been on other hardware, or with other settings.
        steps = [row.get("step_time") for row in rows if row.get("step", 0) > start.get("step", 0)]
        step = Step(
            plain_base(config["base"]),
            int(config["prompts_per_step"]) * int(config["num_generations"]),
            int(config["max_completion_length"]),
            int(config["data"]["max_pixels"]),
            bool(config["gradient_checkpointing"]),
            int(start["num_gpus"]),
        )
        hardware = str(start["hardware"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"--measured-run is {folder}, which is no run folder with config.json, versions.json and metrics.jsonl "
            f"({type(error).__name__}: {error}). Name the folder of a run."
        ) from error
    seconds = [float(step) for step in steps if isinstance(step, int | float)][WARM_UP_STEPS:]
    if len(seconds) < MIN_STEPS:
        raise UserError(
            f"--measured-run is {folder}, which has {len(seconds)} timed steps after the first {WARM_UP_STEPS} of its "
            f"last start; at least {MIN_STEPS} are needed. Let it run a little longer."
        )
    return MeasuredSteps(statistics.median(seconds), len(seconds), step, hardware)
