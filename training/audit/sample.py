"""What the base makes of a sample of the problems that a planned run is to be trained on."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from inference.model.request import Request
from training.evaluation.resume import KeptCompletion
from training.evaluation.scoring import judge
from training.evaluation.statistics import Estimate, share
from training.runs.estimate import Step, plain_base
from training.runs.provenance import hardware_name


@dataclass(frozen=True)
class Plan:
    """The run that is thought of."""

    num_generations: int
    prompts_per_step: int
    num_steps: int
    max_completion_length: int
    base: str
    max_pixels: int
    gradient_checkpointing: bool = False
    num_gpus: int = 0
    dollars_per_hour: float | None = None

    @property
    def step(self) -> Step:
        """One of its steps."""
        completions = self.num_generations * self.prompts_per_step
        sizes = self.max_completion_length, self.max_pixels
        return Step(plain_base(self.base), completions, *sizes, self.gradient_checkpointing, self.num_gpus)


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
            Request(
                image=image.convert("RGB"),
                question=problem,
                max_new_tokens=plan.max_completion_length,
                temperature=temperature,
                seed=(seed * 1_000_003 + first + i) * plan.num_generations + generation,
            )
            for i, (image, problem) in enumerate(zip(batch["image"], batch["problem"]))
            for generation in range(plan.num_generations)
        ]
        completions = engine.generate(asked)
        solutions = [solution for solution in batch["solution"] for _ in range(plan.num_generations)]
        kept = [KeptCompletion(c.text, c.num_tokens, c.truncated) for c in completions]
        outcomes = judge(solutions, kept, is_direct=False)
        graded += [(o.strict, o.lenient, o.well_formed, o.truncated, o.num_tokens) for o in outcomes]
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
