"""Lines on a GRPO step of the run: its time and peak memory at its real shape, and its gradient beside TRL's.

The first step has completions of the full length, all of them in the loss: the most that a step can need. The next ones
are as the base samples and the rewards say; their time is what an estimate takes for measured.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from datasets import Dataset, Features, Image, Value
from transformers import TrainerCallback

from inference.common.files import Json
from inference.model.device import hardware_name
from training.config.run_config import RunConfig
from training.doctor.model_checks import Finding, too_large
from training.doctor.subject import Subject
from training.grpo.fitting import settled
from training.grpo.micro_batches import select_rows
from training.grpo.reference import gradient_by_ours, gradient_by_trl
from training.grpo.trainer import RunTrainer, build_trainer
from training.runs.estimate.memory import GB, BatchChoice, memory_need
from training.runs.estimate.shapes import sizes_of
from training.runs.folder import RunFolder

MAX_STEPS = 4
"""The first step, and three that are timed."""
ENOUGH_SECONDS = 20.0
"""No further step is begun once the timed ones took this long."""
SHORT = 24
"""Tokens of the completions whose gradient is compared."""
FEW_ROWS = 4
GRADIENT_ERROR = {torch.float32: 1e-4, torch.bfloat16: 0.1}
"""Largest relative difference from TRL's gradient, by the weights' type."""
_SAMPLE_SECONDS = 0.02


def step(subject: Subject) -> Finding:
    """Steps of the run's own trainer; the estimate then has their time as measured."""
    if (obstacle := too_large(subject)) is not None:
        return obstacle
    trainer, config = _trainer(subject)
    watch = _StepWatch(trainer)
    trainer.add_callback(watch)
    with _Peak() as peak:
        watch.peak = peak
        trainer.train()
    history = [row for row in trainer.state.log_history if "completions/mean_length" in row]
    first, *timed = watch.seconds
    tokens = statistics.mean(row["completions/mean_length"] for row in history[1:])
    seconds, hardware = statistics.median(timed), hardware_name()
    measured = {"seconds": seconds, "num_steps": len(timed), "hardware": hardware}
    if torch.cuda.is_available():
        measured["peak_gb"] = watch.peak_gb
    subject.steps.append({"settings": subject.config.model_dump(mode="json"), "measured": measured})
    sizes = sizes_of(config.base, config.base_revision)
    batch = BatchChoice(int(config.micro_batch_size), config.gradient_checkpointing is True)
    need = memory_need(config, sizes, torch.cuda.is_available(), batch=batch, prompt_tokens=watch.prompt_tokens)
    saved = ", gradient checkpointing" if batch.gradient_checkpointing else ""
    of_what = "of the card" if torch.cuda.is_available() else "of the whole process"
    return Finding(
        "pass",
        f"{seconds:.3g} s for {config.completions_per_step} completions of {tokens:.0f} tokens on average (median of "
        f"{len(timed)}; {first:.3g} s at the full {config.max_completion_length}); micro-batches of "
        f"{batch.micro_batch_size}{saved}; peak {watch.peak_gb:.2f} GB {of_what}, {need.total_gb:.2f} by the sizes",
    )


def gradient(subject: Subject) -> Finding:
    """The gradient of a small batch, by the run's loss and by TRL's own."""
    if (obstacle := too_large(subject)) is not None:
        return obstacle
    trainer, config = _trainer(subject)
    if trainer.policy is None:
        return Finding("skip", "this run's rollouts and loss are TRL's own")
    inputs = _small_batch(trainer, int(config.micro_batch_size))
    ours, theirs = gradient_by_ours(trainer, inputs), gradient_by_trl(trainer, inputs)
    dtype = trainer.model.get_base_model().dtype
    off = float((ours - theirs).norm() / theirs.norm())
    limit, rows = GRADIENT_ERROR[dtype], len(inputs["advantages"])
    evidence = f"{off:.1e} from TRL's on {rows} rows in {str(dtype).removeprefix('torch.')}, at most {limit:g} allowed"
    if not off <= limit:  # also where it is not a number
        remedy = "train with share_prompts false, and attach this report to a bug report"
        return Finding("fail", evidence, remedy)
    return Finding("pass", evidence)


def _trainer(subject: Subject) -> tuple[RunTrainer, RunConfig]:
    """The run's trainer on problems of the doctor, in a folder of its own, and its settled configuration.

    Both lines use one; the subject lets go of it.
    """
    if subject.trainer is not None:
        return subject.trainer
    subject.free()  # the model that answers leaves its memory
    changes: Json = {"max_steps": MAX_STEPS, "warmup_steps": 0, "save_steps": 1_000_000, "logging_steps": 1}
    changes |= {"eval_rows": 0, "curriculum": None}
    changes |= {"report_to": (), "publish_to": None, "max_hours": None, "choose_checkpoint": False}
    config = settled(subject.config.model_copy(update=changes))
    problems = subject.problems(config.prompts_per_step * MAX_STEPS)
    rows = Dataset.from_dict(
        {
            "image": [problem.image for problem in problems],
            "problem": [problem.problem for problem in problems],
            "solution": [f"<answer>{problem.answer}</answer>" for problem in problems],
        },
        features=Features({"image": Image(), "problem": Value("string"), "solution": Value("string")}),
    )
    folder = subject.resources.enter_context(tempfile.TemporaryDirectory(prefix="lookthink-doctor-"))
    transformers.set_seed(config.seed)
    trainer = build_trainer(config, rows, RunFolder.create(Path(folder) / "run", config), [])
    trainer.remove_callback(transformers.PrinterCallback)
    subject.trainer = trainer, config
    return subject.trainer


class _StepWatch(TrainerCallback):
    """Forces the first step to its full length, with a signal in every group; times the others, and ends in time."""

    def __init__(self, trainer: RunTrainer) -> None:
        self.seconds: list[float] = []
        self.peak: _Peak
        self.peak_gb = 0.0
        """Of the first step."""
        self.prompt_tokens = 0
        self._trainer, self._rewards, self._options = trainer, list(trainer.reward_funcs), trainer.generation_kwargs
        self._began = 0.0
        trainer.reward_funcs = [alternating] * len(self._rewards)
        trainer.generation_kwargs = {"min_new_tokens": trainer.args.max_completion_length}

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = _now()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds.append(_now() - self._began)
        if len(self.seconds) == 1:
            self.peak_gb = self.peak.gb
            self.prompt_tokens = _prompt_tokens(self._trainer)
            self._trainer.reward_funcs, self._trainer.generation_kwargs = self._rewards, self._options
        elif sum(self.seconds[1:]) > ENOUGH_SECONDS:
            control.should_training_stop = True


class _Peak:
    """The peak of memory within the block: of the card by torch, else of this process by its resident set."""

    def __init__(self) -> None:
        self._most, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._sample, name="peak", daemon=True)

    def __enter__(self) -> _Peak:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        else:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def gb(self) -> float:
        """So far."""
        return (torch.cuda.max_memory_reserved() if torch.cuda.is_available() else self._most) / GB

    def _sample(self) -> None:
        process = psutil.Process()
        while not self._over.wait(_SAMPLE_SECONDS):
            self._most = max(self._most, process.memory_info().rss)


def alternating(completions: list[Any], **columns: Any) -> list[float | None]:
    """Rewards 0 and 1 in turns, so that no group is without a signal."""
    return [float(number % 2) for number in range(len(completions))]


def _small_batch(trainer: RunTrainer, micro_batch_size: int) -> dict[str, Any]:
    """Short rollouts of two prompts at most, on a LoRA away from its start, where half of the gradient is 0."""
    trainer.args.max_completion_length = trainer.max_completion_length = SHORT
    trainer.current_gradient_accumulation_steps = 1
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
    trainer.model.train()
    size = trainer.num_generations
    batch = [dict(row) for row in next(iter(trainer.get_train_dataloader()))]
    inputs = trainer._generate_and_score_completions(batch[: 2 * size])
    num = len(inputs["advantages"])
    inputs["advantages"] = torch.linspace(-1, 2, num, device=inputs["advantages"].device) + 0.01
    few = sorted({0, num - 1, 1, num // 2})[: min(FEW_ROWS, micro_batch_size)]
    made: dict[str, Any] = select_rows(inputs, few)
    return made


def _prompt_tokens(trainer: RunTrainer) -> int:
    """Tokens of the longest prompt of the batch that was just trained on."""
    batches: Any = trainer._buffered_inputs
    return max(int(batch["prompt_mask"].sum(1).max()) for batch in batches)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
