"""GRPO steps: completions a second of our trainer, of the recipe's settings, and of TRL's defaults at our batch.

One model (the starter), one machine, one run: every completion has the same forced length, and rewards are random, so
that no group is without signal and nothing is skipped. The gain by skipped groups needs real rewards: see a run's metrics
(`frac_rows_trained`).
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import AutoModelForImageTextToText, AutoProcessor, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from inference.settings import STARTER
from tests.benchmarks.table import Measurement
from training.config import RunConfig, load_config
from training.data import load_rows
from training.run_folder import RunFolder
from training.trainer import build_trainer, lora_config, prompts

LENGTH = 64
"""Tokens of every completion."""
FORCED = {"min_new_tokens": LENGTH, "max_new_tokens": LENGTH}


class _Clock(TrainerCallback):
    """Seconds of the steps after the first."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step is over."""
        self.ends.append(time.perf_counter())

    @property
    def step_seconds(self) -> float:
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


def random_reward(completions: list[Any], **columns: Any) -> list[float]:
    """A different reward for each completion."""
    return [random.random() for _ in completions]


def measure() -> Iterator[Measurement]:
    """The three sides on the same rows; ours has the settings of the profile `starter`."""
    base = {"max_completion_length": LENGTH, "report_to": [], "warmup_steps": 0, "save_steps": 1000}
    ours = load_config("starter", {**base, "max_steps": 5})
    recipe = load_config("starter", {**base, "max_steps": 25, "prompts_per_step": 1, "num_generations": 2})
    speeds = {"ours": _ours(ours), "recipe": _trl(recipe), "defaults": _trl(ours)}
    unit = "completions/s"
    yield Measurement("GRPO, our trainer", f"{speeds['ours']:.1f} {unit}", "", f"64 a step, {LENGTH} tokens each")
    times = speeds["ours"] / speeds["recipe"]
    note = f"2 a step, TRL's trainer; ours is {times:.1f} times as fast"
    yield Measurement("GRPO, the recipe's batch", f"{speeds['recipe']:.1f} {unit}", "", note)
    times = speeds["ours"] / speeds["defaults"]
    note = f"64 a step, checkpointing on; ours is {times:.2f} times as fast"
    yield Measurement("GRPO, TRL's defaults", f"{speeds['defaults']:.1f} {unit}", "", note)


def _ours(config: RunConfig) -> float:
    clock = _Clock()
    with tempfile.TemporaryDirectory() as home:
        rows = load_rows(config.data, home=Path(home)).train
        trainer = build_trainer(config, rows, RunFolder.create(Path(home) / "run", config), [clock])
        trainer.reward_funcs = [random_reward] * len(trainer.reward_funcs)
        return _completions_a_second(trainer, clock, config.completions_per_step)


def _trl(config: RunConfig) -> float:
    """TRL's own trainer with its defaults (gradient checkpointing on), at the configuration's batch."""
    clock = _Clock()
    processor = AutoProcessor.from_pretrained(STARTER)
    processor.tokenizer.padding_side = "left"
    model = AutoModelForImageTextToText.from_pretrained(STARTER, dtype="float32")
    with tempfile.TemporaryDirectory() as home:
        rows = load_rows(config.data, home=Path(home)).train
        args = GRPOConfig(
            output_dir=home,
            max_steps=config.max_steps,
            per_device_train_batch_size=config.completions_per_step,
            num_generations=config.num_generations,
            max_completion_length=LENGTH,
            learning_rate=config.learning_rate,
            use_cpu=True,
            bf16=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
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
        return _completions_a_second(trainer, clock, config.completions_per_step)


def _completions_a_second(trainer: GRPOTrainer, clock: _Clock, completions_per_step: int) -> float:
    trainer.remove_callback(PrinterCallback)
    for name, value in FORCED.items():
        setattr(trainer.generation_config, name, value)
    trainer.generation_kwargs.update(FORCED)
    trainer.train()
    return completions_per_step / clock.step_seconds
