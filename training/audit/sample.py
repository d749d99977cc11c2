"""Completions of the base for a sample of a dataset's problems, which say how hard they are for it.

rollouts = sample_rollouts(engine, rows, plan)
rollouts.pass_rate, rollouts.zero_std
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from PIL import Image

from inference.common.files import Json
from inference.model.request import Request
from training.config.run_config import RunConfig
from training.data.pictures import pictures_of
from training.evaluation.outcomes import GradedCompletion
from training.evaluation.resume import KeptCompletion
from training.evaluation.scoring import grade_rows
from training.evaluation.statistics import Estimate, share

if TYPE_CHECKING:
    from datasets import Dataset

    from inference.engine.engine import Engine


@dataclass(frozen=True)
class Rollouts:
    """A sample of the base's completions, in groups of one prompt, graded as the reward grades."""

    num_prompts: int
    num_generations: int
    pass_rate: float
    """Share of completions that are correct (strict): the answer is in its tags."""
    lenient_rate: float
    """Share that is correct (lenient): the last answer stated counts."""
    format_rate: float
    truncated_rate: float
    mean_tokens: float
    zero_std: Estimate
    """Share of groups whose completions all got the same format and accuracy rewards: there is nothing to learn."""
    always_right: float
    """Share of groups in which every completion was correct."""
    never_right: float
    seconds: float
    hardware: str
    blind_rate: float = 0.0
    """Share of completions that are correct (strict) where the picture is blank, one for each prompt."""
    pass_rates: dict[str, float] = field(default_factory=dict)
    """Share of correct completions by row id; a curriculum orders the rows by it."""

    @property
    def completions_per_second(self) -> float:
        return self.num_prompts * self.num_generations / self.seconds

    def to_json(self) -> Json:
        """Plain data."""
        return asdict(self) | {
            "zero_std": self.zero_std.to_json(),
            "completions_per_second": round(self.completions_per_second, 3),
        }


def sample_rollouts(
    engine: Engine,
    rows: Dataset,
    plan: RunConfig,
    *,
    seed: int = 0,
    batch_size: int = 64,
    tolerance: float = 0.0,
    progress: Callable[[int], object] | None = None,
) -> Rollouts:
    """Completes each of `rows` (columns `image`, `problem`, `solution`) as often as the planned run would.

    `progress` is called with the number of completions that each batch adds.
    """
    prompts_per_batch = max(1, batch_size // plan.num_generations)
    outcomes: list[GradedCompletion] = []
    from inference.model.device import hardware_name  # loads torch

    started = time.perf_counter()
    for first in range(0, len(rows), prompts_per_batch):
        batch = rows[first : first + prompts_per_batch]
        requests = [
            _request(images, problem, plan, (seed * 1_000_003 + first + i) * plan.num_generations + generation)
            for i, (images, problem) in enumerate(zip(pictures_of(batch), batch["problem"]))
            for generation in range(plan.num_generations)
        ]
        solutions = [solution for solution in batch["solution"] for _ in range(plan.num_generations)]
        problems = [problem for problem in batch["problem"] for _ in range(plan.num_generations)]
        outcomes += _graded(engine, requests, solutions, problems, tolerance)
        if progress:
            progress(len(requests))
    seconds = time.perf_counter() - started
    blind = _blind(engine, rows, plan, seed, batch_size, tolerance)
    names = rows["row_id"] if "row_id" in rows.column_names else [str(i) for i in range(len(rows))]
    size = plan.num_generations
    groups = [outcomes[i : i + size] for i in range(0, len(outcomes), size)]
    num_correct = [sum(outcome.strict for outcome in group) for group in groups]
    return Rollouts(
        num_prompts=len(groups),
        num_generations=size,
        pass_rate=statistics.fmean(outcome.strict for outcome in outcomes),
        lenient_rate=statistics.fmean(outcome.lenient for outcome in outcomes),
        format_rate=statistics.fmean(outcome.well_formed for outcome in outcomes),
        truncated_rate=statistics.fmean(outcome.truncated for outcome in outcomes),
        mean_tokens=statistics.fmean(outcome.num_tokens for outcome in outcomes),
        zero_std=share([len({(outcome.strict, outcome.well_formed) for outcome in group}) == 1 for group in groups]),
        always_right=num_correct.count(size) / len(groups),
        never_right=num_correct.count(0) / len(groups),
        seconds=seconds,
        hardware=hardware_name(),
        blind_rate=statistics.fmean(outcome.strict for outcome in blind),
        pass_rates={name: round(num / size, 4) for name, num in zip(names, num_correct, strict=True)},
    )


def _blind(
    engine: Engine, rows: Dataset, plan: RunConfig, seed: int, batch_size: int, tolerance: float
) -> list[GradedCompletion]:
    """A graded completion of each problem with grey pictures of its own pictures' sizes."""
    outcomes: list[GradedCompletion] = []
    for first in range(0, len(rows), batch_size):
        batch = rows[first : first + batch_size]
        blank = [[Image.new("RGB", image.size, "grey") for image in images] for images in pictures_of(batch)]
        requests = [
            _request(grey, problem, plan, seed * 1_000_003 + first + i)
            for i, (grey, problem) in enumerate(zip(blank, batch["problem"]))
        ]
        outcomes += _graded(engine, requests, batch["solution"], batch["problem"], tolerance)
    return outcomes


def _request(images: Sequence[Image.Image], problem: str, plan: RunConfig, seed: int) -> Request:
    return Request(
        image=images[0],
        more_images=tuple(images[1:]),
        question=problem,
        max_new_tokens=plan.max_completion_length,
        temperature=1.0,
        seed=seed,
    )


def _graded(
    engine: Engine, requests: Sequence[Request], solutions: Sequence[str], problems: Sequence[str], tolerance: float
) -> list[GradedCompletion]:
    """A graded completion of each request."""
    completions = [KeptCompletion(c.text, c.num_tokens, c.truncated) for c in engine.generate(list(requests))]
    return grade_rows(solutions, completions, False, problems, tolerance)
