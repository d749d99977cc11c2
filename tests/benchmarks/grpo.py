"""GRPO steps: completions a second of our trainer, of the recipe's settings, and of TRL's defaults at our batch.

One model (the starter), one machine, one run, rounds in which the sides take turns. Every completion has the same
forced length, and rewards are random, so that no group is without signal and nothing is skipped; all of that is
checked. The gain by skipped groups needs real rewards: `tests.benchmarks.skipping` measures it apart. Each round has
pictures of its own, so that none is remembered from an earlier one. Everything is in fp32.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoModelForImageTextToText, AutoProcessor, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from inference.settings import STARTER
from tests.benchmarks.step_profile import measure_parts
from tests.benchmarks.table import Measurement, median_ratio
from training.config import RunConfig, load_config
from training.data import load_rows
from training.lora import lora_config
from training.prompt_rows import prompts
from training.run_folder import RunFolder
from training.trainer import build_trainer

LENGTH = 64
"""Tokens of every completion."""
ROUNDS = 5
NUM_STEPS = {"ours": 3, "recipe": 15, "defaults": 3, "no checkpointing": 3}
"""Steps on the clock in one round; one more goes before them."""


class _Clock(TrainerCallback):
    """When steps ended, and how long the rollouts of each took."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.rollouts: list[float] = []

    def watch(self, trainer: GRPOTrainer) -> None:
        """Time what TRL calls for its rollouts, from prompts to completions."""
        generate = trainer._generate

        def timed(prompts: list[Any]) -> Any:
            started = time.perf_counter()
            result = generate(prompts)
            self.rollouts.append(time.perf_counter() - started)
            return result

        trainer._generate = timed

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step is over."""
        self.ends.append(time.perf_counter())


@dataclass
class _Side:
    """A trainer that can be asked for a round at a time."""

    trainer: GRPOTrainer
    clock: _Clock
    completions_per_step: int
    seconds: list[float] = field(default_factory=list)
    """Seconds for one completion, by round."""
    rollout_seconds: list[float] = field(default_factory=list)
    """Seconds for the rollouts of a step, prompts and pictures read, by round: the median of its steps."""

    def run(self, number: int) -> float:
        """Round `number`; returns completions a second."""
        self.clock.ends.clear()
        self.clock.rollouts.clear()
        self.trainer.args.seed = number  # other rows in every round
        self.trainer.train()
        _check(self.trainer.state.log_history)
        self.rollout_seconds.append(statistics.median(self.clock.rollouts[1:]))
        first, *_, last = self.clock.ends
        self.seconds.append((last - first) / (len(self.clock.ends) - 1) / self.completions_per_step)
        return 1 / self.seconds[-1]


def random_reward(completions: list[Any], **columns: Any) -> list[float]:
    """A different reward for each completion."""
    return [random.random() for _ in completions]


def measure(rounds: int = ROUNDS) -> Iterator[Measurement]:
    """The four sides on the same rows, and what our step is made of; ours has the settings of the profile `starter`."""
    config = load_config("starter", {"max_completion_length": LENGTH, "data": {"train_rows": 1200, "test_rows": 4}})
    recipe = load_config("recipe")
    with tempfile.TemporaryDirectory() as home:
        rows = load_rows(config.data, home=Path(home)).train
        sides = {
            "ours": _ours(config, rows, Path(home)),
            "recipe": _trl(recipe, rows, home, learning_rate=recipe.learning_rate),
            "defaults": _trl(config, rows, home),
            "no checkpointing": _trl(config, rows, home, gradient_checkpointing=False),
        }
        for number in range(1, rounds + 1):
            speeds = ", ".join(f"{name} {side.run(number):.1f}" for name, side in sides.items())
            print(f"GRPO, round {number} of {rounds}: {speeds} completions/s", file=sys.stderr, flush=True)
        parts = measure_parts(sides["ours"].trainer)
    yield _line("GRPO, our trainer", sides["ours"], "", f"64 a step; every side: {LENGTH} tokens each, nothing skipped")
    yield _rollouts(sides["ours"], sides["no checkpointing"])
    for name, title, goal, what in (
        ("recipe", "GRPO, the recipe's settings", 12, "2 a step, its LoRA, TRL's trainer"),
        ("defaults", "GRPO, TRL's defaults", 2.5, "64 a step, our LoRA, TRL's trainer"),
        ("no checkpointing", "GRPO, TRL without checkpointing", 1.6, "the same, gradient checkpointing off"),
    ):
        ratios = [theirs / ours for theirs, ours in zip(sides[name].seconds, sides["ours"].seconds)]
        times = median_ratio(sides[name].seconds, sides["ours"].seconds)
        note = f"{what}; ours is {times:.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})"
        yield _line(title, sides[name], f"ours {goal} times", note)
    yield from parts


def _rollouts(ours: _Side, theirs: _Side) -> Measurement:
    tokens = ours.completions_per_step * LENGTH
    speed, peer = (tokens / statistics.median(side.rollout_seconds) for side in (ours, theirs))
    times = median_ratio(theirs.rollout_seconds, ours.rollout_seconds)
    note = f"8 prompts x 8, pictures included; TRL's own path {peer:.0f} tokens/s: {times:.2f} times as fast"
    return Measurement("GRPO, rollouts alone", f"{speed:.0f} tokens/s", "at least 2.5 times", note)


def _line(title: str, side: _Side, goal: str, note: str) -> Measurement:
    return Measurement(title, f"{1 / statistics.median(side.seconds):.1f} completions/s", goal, note)


def _ours(config: RunConfig, rows: Dataset, home: Path) -> _Side:
    clock = _Clock()
    values = {"max_steps": NUM_STEPS["ours"] + 1, "warmup_steps": 0, "report_to": (), "save_steps": 1000}
    config = config.model_copy(update=values)
    trainer = build_trainer(config, rows, RunFolder.create(home / "run", config), [clock])
    trainer.reward_funcs = [random_reward] * len(trainer.reward_funcs)
    return _side(trainer, clock, config)


def _trl(config: RunConfig, rows: Dataset, home: str, **values: Any) -> _Side:
    """TRL's own trainer with its defaults (gradient checkpointing on, say), at the configuration's batch and LoRA."""
    clock = _Clock()
    processor = AutoProcessor.from_pretrained(STARTER)
    processor.tokenizer.padding_side = "left"
    model = AutoModelForImageTextToText.from_pretrained(STARTER, dtype="float32")
    args = GRPOConfig(
        output_dir=home,
        max_steps=NUM_STEPS["recipe" if config.profile == "recipe" else "defaults"] + 1,
        per_device_train_batch_size=config.completions_per_step,
        num_generations=config.num_generations,
        max_completion_length=LENGTH,
        use_cpu=True,
        bf16=False,  # like ours; on a CPU it would be slower
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **values,
    )
    trainer = GRPOTrainer(
        model=model,
        processing_class=processor,
        reward_funcs=[random_reward],
        train_dataset=prompts(rows, processor.tokenizer.all_special_tokens),
        peft_config=lora_config(config, model),
        callbacks=[clock],
        args=args,
    )
    return _side(trainer, clock, config)


def _side(trainer: GRPOTrainer, clock: _Clock, config: RunConfig) -> _Side:
    trainer.remove_callback(PrinterCallback)
    clock.watch(trainer)
    trainer.generation_config.min_new_tokens = trainer.generation_kwargs["min_new_tokens"] = LENGTH
    return _Side(trainer, clock, config.completions_per_step)


def _check(history: list[dict[str, Any]]) -> None:
    """Raise `RuntimeError` if a step was not the work that the table says."""
    wanted = {
        "completions/min_length": LENGTH,
        "completions/max_length": LENGTH,
        "frac_reward_zero_std": 0,
        "frac_rows_trained": 1,  # ours alone has it
    }
    for row in history:
        for name in wanted.keys() & row.keys():
            if row[name] != wanted[name]:
                raise RuntimeError(f"{name} was {row[name]}, not {wanted[name]}: the sides did not do the same work")
    if not any("completions/min_length" in row for row in history):
        raise RuntimeError("the steps left no figures to check")
