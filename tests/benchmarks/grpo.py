"""GRPO steps: completions a second of our trainer, of the recipe's settings, and of TRL's defaults at our batch.

One model (the starter, or random weights of a real shape), one machine, one run, rounds in which the sides take turns:
each is built, runs, and is freed before the next, so that a GPU's peak memory is its own. Every completion has the same
forced length, and rewards are random, so that no group is without signal and nothing is skipped; all of that is
checked. The gain by skipped groups needs real rewards: `tests.benchmarks.skipping` measures it apart. On a CPU
everything is in fp32, on CUDA in bf16.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from tests.benchmarks import shapes
from tests.benchmarks.grpo_sides import Side, ours, trl
from tests.benchmarks.step_profile import measure_parts
from tests.benchmarks.table import Measurement, median_ratio
from training.config.run_config import load_config
from training.data.dataset import load_rows
from training.grpo.fitting import settled


@dataclass(frozen=True)
class Plan:
    """What is measured of a model, and what it is to reach."""

    profile: str
    """Whose batch, micro-batches and LoRA are ours."""
    length: int
    """Tokens of every completion."""
    rounds: int
    num_steps: dict[str, int]
    """On the clock in a round, by side."""
    goals: dict[str, str]


_STEPS = {"ours": 3, "recipe": 2, "defaults": 1, "no checkpointing": 1}
PLANS = {
    "starter": Plan(
        profile="starter",
        length=64,
        rounds=5,
        num_steps={"ours": 3, "recipe": 15, "defaults": 3, "no checkpointing": 3},
        goals={
            "rollouts": "at least 2.5 times",
            "recipe": "ours 12 times",
            "defaults": "ours 2.5 times",
            "no checkpointing": "ours 1.6 times",
        },
    ),
    "qwen2.5-vl-3b": Plan(
        profile="a100",
        length=512,
        rounds=1,  # about ten minutes
        num_steps=_STEPS,
        goals={
            "ours": "at least 10 completions/s, under 60 GB",
            "recipe": "ours 20 times",
            "defaults": "ours 3 times",
        },
    ),
    "qwen2.5-vl-small": Plan(profile="a100", length=32, rounds=1, num_steps=_STEPS, goals={}),
}


def measure(shape: str = "starter", rounds: int | None = None, length: int | None = None) -> Iterator[Measurement]:
    """The sides on the same rows, and what our step is made of; `rounds` and `length` go before the plan's."""
    plan = PLANS[shape]
    rounds, length = rounds or plan.rounds, length or plan.length
    parts: list[Measurement] = []
    with tempfile.TemporaryDirectory() as home:
        rows, sides = _sides(shape, plan, length, Path(home))
        for number in range(1, rounds + 1):
            for name, side in sides.items():
                is_last = number == rounds
                profile = name == "ours" and is_last
                said = side.run(number, rows, (lambda t: parts.extend(measure_parts(t))) if profile else None)
                print(f"GRPO, round {number} of {rounds}: {name} {said}", file=sys.stderr, flush=True)
    yield from _lines(sides, plan, length)
    yield from parts


def _sides(shape: str, plan: Plan, length: int, home: Path) -> tuple[Dataset, dict[str, Side]]:
    """The rows for all of them, and the sides by name; with a shape, its weights are in `home`."""
    data = load_config("starter", {"data": {"train_rows": 1200, "test_rows": 4}}).data
    base = "starter" if shape == "starter" else str(home / "base")
    if shape != "starter":
        shapes.write(shape, home / "base")
    values: dict[str, Any] = {"max_completion_length": length, "data": data, "base": base}
    config, recipe = (settled(load_config(name).model_copy(update=values)) for name in (plan.profile, "recipe"))
    sides = {
        "ours": Side(ours, config, plan.num_steps["ours"]),
        "recipe": Side(trl(learning_rate=recipe.learning_rate), recipe, plan.num_steps["recipe"]),
        "defaults": Side(trl(), config, plan.num_steps["defaults"]),
        "no checkpointing": Side(trl(gradient_checkpointing=False), config, plan.num_steps["no checkpointing"]),
    }
    return load_rows(data, home=home).train, sides


def _lines(sides: dict[str, Side], plan: Plan, length: int) -> Iterator[Measurement]:
    mine = sides["ours"]
    batch = f"{mine.config.completions_per_step} a step"
    if int(mine.config.micro_batch_size) < mine.config.completions_per_step:
        batch += f" in micro-batches of {mine.config.micro_batch_size}"
    what = f"{batch}; every side: {length} tokens each, nothing skipped"
    yield _line("GRPO, our trainer", mine, plan.goals.get("ours", ""), what)
    yield _rollouts(mine, sides["no checkpointing"], plan.goals.get("rollouts", ""))
    for name, title, what in (
        ("recipe", "GRPO, the recipe's settings", "2 a step, its LoRA, TRL's trainer"),
        ("defaults", "GRPO, TRL's defaults", f"{batch}, our LoRA, TRL's trainer"),
        ("no checkpointing", "GRPO, TRL without checkpointing", "the same, gradient checkpointing off"),
    ):
        side = sides[name]
        if not (side.problem or mine.problem):
            what += f"; ours is {_times(side.seconds, mine.seconds)}"
        yield _line(title, side, plan.goals.get(name, ""), what)


def _times(theirs: list[float], ours: list[float]) -> str:
    """How many times as fast ours is, and the range of the rounds."""
    ratios = [t / o for t, o in zip(theirs, ours, strict=True)]
    span = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    return f"{statistics.median(ratios):.2f} times as fast{span}"


def _rollouts(ours: Side, theirs: Side, goal: str) -> Measurement:
    title, group = "GRPO, rollouts alone", f"{ours.config.prompts_per_step} prompts x {ours.config.num_generations}"
    if ours.problem:
        return Measurement(title, ours.problem, goal, group)
    tokens = ours.config.completions_per_step * ours.config.max_completion_length
    speed = f"{tokens / statistics.median(ours.rollout_seconds):.0f} tokens/s"
    if theirs.problem:
        return Measurement(title, speed, goal, f"{group}, pictures included; TRL's own path: {theirs.problem}")
    peer = tokens / statistics.median(theirs.rollout_seconds)
    times = median_ratio(theirs.rollout_seconds, ours.rollout_seconds)
    note = f"{group}, pictures included; TRL's own path {peer:.0f} tokens/s: {times:.2f} times as fast"
    return Measurement(title, speed, goal, note)


def _line(title: str, side: Side, goal: str, note: str) -> Measurement:
    if side.problem:
        return Measurement(title, side.problem, goal, note)
    note += f"; steps on the clock: {side.num_steps * len(side.seconds)}"
    if side.peak_bytes:
        note += f"; {side.peak_bytes / 1e9:.1f} GB at most"
    speed = 1 / statistics.median(side.seconds)
    return Measurement(title, f"{speed:.1f} completions/s" if speed >= 1 else f"{speed:.3f} completions/s", goal, note)
