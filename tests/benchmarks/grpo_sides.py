"""The sides of `tests.benchmarks.grpo`: our trainer and TRL's, each built, run for a round, and freed again."""

from __future__ import annotations

import gc
import random
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForImageTextToText, AutoProcessor, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from inference.common.settings import base_source
from tests.benchmarks.table import now
from training.config.run_config import RunConfig
from training.grpo.lora import lora_config
from training.grpo.rollouts import prompt_rows
from training.grpo.trainer import build_trainer
from training.runs.folder import RunFolder


class Clock(TrainerCallback):
    """When steps ended, and how long the rollouts of each took."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.rollouts: list[float] = []

    def watch(self, trainer: Any) -> None:
        """Time what TRL calls for its rollouts, from prompts to completions."""
        generate = trainer._generate

        def timed(prompts: list[Any]) -> Any:
            started = now()
            result = generate(prompts)
            self.rollouts.append(now() - started)
            return result

        trainer._generate = timed

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step is over."""
        self.ends.append(now())


Build = Callable[[RunConfig, Dataset, Path, Clock], GRPOTrainer]
"""A trainer of these settings for these rows, which keeps its files in that folder."""


@dataclass
class Side:
    """One of those that are compared, with what its rounds took."""

    build: Build
    config: RunConfig
    """Its seed is the round's number, and its steps are one more than `num_steps`."""
    num_steps: int
    """On the clock in a round; one more goes before them."""
    seconds: list[float] = field(default_factory=list)
    """Seconds for one completion, by round."""
    rollout_seconds: list[float] = field(default_factory=list)
    """Seconds for the rollouts of a step, prompts and pictures read, by round: the median of its steps."""
    peak_bytes: int = 0
    """Of a GPU's memory, as torch allocated it; of all rounds."""
    problem: str = ""
    """Why there are no seconds."""

    def run(self, number: int, rows: Dataset, then: Callable[[Any], None] | None = None) -> str:
        """Build a trainer, take round `number` with it, and free it; returns what is to say of the round.

        `then` may use the trainer before it is freed. A GPU that is too small for a side is that side's `problem`.
        """
        if self.problem:
            return self.problem
        _free()  # whatever was there before
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        try:
            with tempfile.TemporaryDirectory() as folder:
                self._take_round(number, rows, Path(folder), then)
        except torch.OutOfMemoryError:
            self.problem = "out of memory"
        if torch.cuda.is_available():
            self.peak_bytes = max(self.peak_bytes, torch.cuda.max_memory_allocated())
        _free()
        return self.problem or f"{1 / self.seconds[-1]:.2f} completions/s"

    def _take_round(self, number: int, rows: Dataset, folder: Path, then: Callable[[Any], None] | None) -> None:
        clock = Clock()
        values = {"seed": number, "max_steps": self.num_steps + 1, "warmup_steps": 0}
        trainer = self.build(self.config.model_copy(update=values), rows, folder, clock)
        trainer.remove_callback(PrinterCallback)
        clock.watch(trainer)
        trainer.train()
        _check(trainer.state.log_history, self.config.max_completion_length)
        self.rollout_seconds.append(statistics.median(clock.rollouts[1:]))
        first, *_, last = clock.ends
        self.seconds.append((last - first) / self.num_steps / self.config.completions_per_step)
        if then is not None:
            then(trainer)


def random_reward(completions: list[Any], **columns: Any) -> list[float | None]:
    """A different reward for each completion."""
    return [random.random() for _ in completions]


def ours(config: RunConfig, rows: Dataset, folder: Path, clock: Clock) -> GRPOTrainer:
    """As `python -m training train` builds it, but for the rewards and the forced length."""
    config = config.model_copy(update={"report_to": (), "save_steps": 1000})
    trainer = build_trainer(config, rows, RunFolder.create(folder / "run", config), [clock])
    trainer.reward_funcs = [random_reward] * len(trainer.reward_funcs)
    trainer.generation_kwargs["min_new_tokens"] = config.max_completion_length
    return trainer


def trl(**values: Any) -> Build:
    """TRL's own trainer with its defaults (gradient checkpointing on, say), at the configuration's batch,
    micro-batches and LoRA; `values` are `GRPOConfig`'s."""

    def build(config: RunConfig, rows: Dataset, folder: Path, clock: Clock) -> GRPOTrainer:
        on_gpu = torch.cuda.is_available()
        base = base_source(config.base)
        processor = AutoProcessor.from_pretrained(base)
        processor.tokenizer.padding_side = "left"
        model = AutoModelForImageTextToText.from_pretrained(base, dtype="bfloat16" if on_gpu else "float32")
        micro = min(int(config.micro_batch_size), config.completions_per_step)
        defaults: dict[str, Any] = {
            "output_dir": str(folder),
            "max_steps": config.max_steps,
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": config.completions_per_step // micro,
            "num_generations": config.num_generations,
            "max_completion_length": config.max_completion_length,
            "generation_kwargs": {"min_new_tokens": config.max_completion_length},
            "seed": config.seed,
            "use_cpu": not on_gpu,
            "bf16": on_gpu,  # like ours; on a CPU it would be slower
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "dataloader_pin_memory": on_gpu,
        }
        return GRPOTrainer(
            model=model,
            processing_class=processor,
            reward_funcs=[random_reward],
            train_dataset=prompt_rows(rows, processor.tokenizer.all_special_tokens),
            peft_config=lora_config(config, model),
            callbacks=[clock],
            args=GRPOConfig(**defaults | values),
        )

    return build


def _free() -> None:
    """Give back what nobody holds; a trainer and its callbacks know each other."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _check(history: list[dict[str, Any]], length: int) -> None:
    """Raise `RuntimeError` if a step was not the work that the table says."""
    wanted = {
        "completions/min_length": length,
        "completions/max_length": length,
        "frac_reward_zero_std": 0,
        "frac_rows_trained": 1,  # ours alone has it
    }
    for row in history:
        for name in wanted.keys() & row.keys():
            if row[name] != wanted[name]:
                raise RuntimeError(f"{name} was {row[name]}, not {wanted[name]}: the sides did not do the same work")
    if not any("completions/min_length" in row for row in history):
        raise RuntimeError("the steps left no figures to check")
