"""What the base makes of a sample of the problems, and what a run of so many steps would take and cost.

A projection uses times measured on this very hardware; where there is none, it is unknown and says why.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from inference.errors import UserError
from inference.format import is_well_formed
from inference.rows import Row
from training.grading import grade, grade_lenient
from training.hardware import hardware_name
from training.statistics import Estimate, share

WARM_UP_STEPS = 2
"""The first steps of a run are slower: compilation, caches. They are left out of a measurement."""
MIN_STEPS = 3
"""Fewer measured steps than this say nothing."""


@dataclass(frozen=True)
class Plan:
    """The run that is thought of."""

    num_generations: int
    prompts_per_step: int
    num_steps: int
    max_new_tokens: int
    dollars_per_hour: float | None = None

    @property
    def completions_per_step(self) -> int:
        return self.num_generations * self.prompts_per_step


@dataclass(frozen=True)
class Rollouts:
    """A sample of the base's completions, in groups of one prompt, graded as the reward grades."""

    num_prompts: int
    num_generations: int
    pass_rate: float
    """Share of completions that are right with the answer in its tags."""
    lenient_rate: float
    """Share that is right by the last answer stated."""
    format_rate: float
    truncated_rate: float
    mean_tokens: float
    zero_std: Estimate
    """Share of groups in which all completions got the same format and accuracy: no signal, whatever the weights."""
    always_right: float
    """Share of groups in which every completion was right."""
    never_right: float
    seconds: float
    hardware: str
    pass_rates: dict[str, float] = field(default_factory=dict)
    """Share of right completions by row id, which a curriculum orders the rows by."""

    @property
    def completions_per_second(self) -> float:
        return self.num_prompts * self.num_generations / self.seconds

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {
            "zero_std": self.zero_std.to_json(),
            "completions_per_second": round(self.completions_per_second, 3),
        }


@dataclass(frozen=True)
class MeasuredSteps:
    """What the steps of an earlier run took."""

    seconds: float
    """Median, without the first steps."""
    num_steps: int
    completions_per_step: int
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


def sample_rollouts(
    engine: Any,
    rows: Any,
    plan: Plan,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 64,
    progress: Callable[[int], object] | None = None,
) -> Rollouts:
    """Complete each of `rows` (columns `image`, `problem`, `solution`) `num_generations` times with the base.

    `progress` is told how many more completions are done.
    """
    per_batch = max(1, batch_size // plan.num_generations)
    graded: list[tuple[bool, bool, bool, bool, int]] = []
    started = time.perf_counter()
    for first in range(0, len(rows), per_batch):
        batch = rows[first : first + per_batch]
        asked = [
            Row(
                image=image.convert("RGB"),
                question=problem,
                max_new_tokens=plan.max_new_tokens,
                temperature=temperature,
                seed=(seed * 1_000_003 + first + i) * plan.num_generations + generation,
            )
            for i, (image, problem) in enumerate(zip(batch["image"], batch["problem"]))
            for generation in range(plan.num_generations)
        ]
        completions = engine.generate(asked)
        solutions = [solution for solution in batch["solution"] for _ in range(plan.num_generations)]
        for solution, completion in zip(solutions, completions, strict=True):
            strict, lenient = (judge(solution, completion.text).correct for judge in (grade, grade_lenient))
            form = is_well_formed(completion.text)
            graded.append((strict, lenient, form, completion.truncated, completion.num_tokens))
        if progress:
            progress(len(asked))
    names = rows["row_id"] if "row_id" in rows.column_names else [str(i) for i in range(len(rows))]
    return _summary(graded, plan.num_generations, time.perf_counter() - started, list(names))


def _summary(
    graded: Sequence[tuple[bool, bool, bool, bool, int]], size: int, seconds: float, names: Sequence[str]
) -> Rollouts:
    groups = [graded[i : i + size] for i in range(0, len(graded), size)]
    strict, lenient, form, truncated, tokens = zip(*graded)
    rights = [sum(rollout[0] for rollout in group) for group in groups]
    return Rollouts(
        num_prompts=len(groups),
        num_generations=size,
        pass_rate=statistics.fmean(strict),
        lenient_rate=statistics.fmean(lenient),
        format_rate=statistics.fmean(form),
        truncated_rate=statistics.fmean(truncated),
        mean_tokens=statistics.fmean(tokens),
        zero_std=share([len({(rollout[0], rollout[2]) for rollout in group}) == 1 for group in groups]),
        always_right=rights.count(size) / len(groups),
        never_right=rights.count(0) / len(groups),
        seconds=seconds,
        hardware=hardware_name(),
        pass_rates={name: round(right / size, 4) for name, right in zip(names, rights, strict=True)},
    )


def project(rollouts: Rollouts, plan: Plan, measured: MeasuredSteps | None) -> Projection:
    """What the plan would take by steps measured on this hardware with as many completions; else unknown."""
    step_seconds: float | None = None
    if measured is None:
        reason = "no run of this kind was measured here; name one with --measured-run"
    elif measured.hardware != rollouts.hardware:
        reason = f"the measured run was on {measured.hardware}, and this is {rollouts.hardware}"
    elif measured.completions_per_step != plan.completions_per_step:
        reason = (
            f"the measured steps had {measured.completions_per_step} completions, "
            f"the planned ones have {plan.completions_per_step}"
        )
    else:
        step_seconds = measured.seconds
        reason = f"median of {measured.num_steps} measured steps on {measured.hardware}"
    hours = None if step_seconds is None else step_seconds * plan.num_steps / 3600
    dollars = None if hours is None or plan.dollars_per_hour is None else hours * plan.dollars_per_hour
    generation = plan.completions_per_step / rollouts.completions_per_second
    return Projection(generation, step_seconds, reason, plan.num_steps, hours, dollars)


def read_measured_run(folder: Path) -> MeasuredSteps:
    """The steps of a run folder: times in `metrics.jsonl`, their size in `config.json`, hardware in `versions.json`."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        hardware = json.loads((folder / "versions.json").read_text(encoding="utf-8"))[-1]["hardware"]
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        steps = [json.loads(line).get("step_time") for line in lines if line.strip()]
        completions = int(config["prompts_per_step"]) * int(config["num_generations"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"--measured-run is {folder}, which is no run folder with config.json and metrics.jsonl "
            f"({type(error).__name__}: {error}). Name the folder of a run."
        ) from error
    seconds = [float(step) for step in steps if isinstance(step, int | float)][WARM_UP_STEPS:]
    if len(seconds) < MIN_STEPS:
        raise UserError(
            f"--measured-run is {folder}, which has {len(seconds)} timed steps after the first {WARM_UP_STEPS}; "
            f"at least {MIN_STEPS} are needed. Let it run a little longer."
        )
    return MeasuredSteps(statistics.median(seconds), len(seconds), completions, hardware)
