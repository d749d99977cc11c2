"""What a GRPO step of our trainer is made of: seconds by part, and by what the processor does in them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from tests.benchmarks.table import Measurement, now
from training.grpo.trainer import RunTrainer

KINDS = {"matrix products": ("mm", "addmm", "addmm_", "bmm", "baddbmm"), "attention": ("_scaled_dot_product",)}
"""Names of torch's operations, without `aten::`: as they are, or as they begin where they begin with `_`."""


def measure_parts(trainer: RunTrainer) -> list[Measurement]:
    """Two lines: the seconds of a step by its parts, and on a CPU what kinds of work another one is.

    Each is the second of two steps, all its micro-batches taken together. On CUDA the parts wait for the device at
    their ends, and a step is too many operations for the profiler.
    """
    seconds: dict[str, list[float]] = defaultdict(list)
    undo = [
        _time(trainer.policy, "prompts", seconds["pictures and prompts"]),
        _time(trainer.policy, "generate", seconds["rollouts"]),
        _time(trainer, "_compute_loss", seconds["loss"]),
        _time(trainer.accelerator, "backward", seconds["backward"]),
        _time(trainer, "training_step", seconds["step"]),
    ]
    _train(trainer)
    for put_back in undo:
        put_back()
    last = {name: sum(times[len(times) // 2 :]) for name, times in seconds.items()}
    last["rest"] = 2 * last["step"] - sum(last.values())
    parts = ", ".join(f"{name} {share / last['step']:.0%}" for name, share in last.items() if name != "step")
    lines = [Measurement("GRPO, parts of our step", f"{last['step']:.2f} s", "", parts)]
    if not torch.cuda.is_available():
        lines.append(Measurement("GRPO, kinds of work", f"{last['step']:.2f} s", "", _kinds(trainer)))
    return lines


def _time(owner: Any, name: str, seconds: list[float]) -> Callable[[], None]:
    """Note how long each call of a method takes; returns what puts it back."""
    method = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        started = now()
        result = method(*args, **kwargs)
        seconds.append(now() - started)
        return result

    setattr(owner, name, timed)
    return lambda: delattr(owner, name)


def _kinds(trainer: RunTrainer) -> str:
    """Shares of the operations' own time in the second step; torch's profiler slows what is between them."""
    step, seen, calls = trainer.training_step, profile(activities=[ProfilerActivity.CPU]), itertools.count()

    def watched(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == trainer.args.gradient_accumulation_steps:
            seen.start()
        return step(*args, **kwargs)

    trainer.training_step = watched  # type: ignore[method-assign]
    _train(trainer)
    seen.stop()
    del trainer.training_step
    seconds: dict[str, float] = defaultdict(float)
    for event in seen.key_averages():
        name = event.key.removeprefix("aten::")
        kind = next((kind for kind, names in KINDS.items() if _is_one(name, names)), "other operations")
        seconds[kind] += event.self_cpu_time_total
    total = sum(seconds.values())
    return ", ".join(f"{kind} {seconds[kind] / total:.0%}" for kind in (*KINDS, "other operations"))


def _train(trainer: RunTrainer) -> None:
    """Two steps, of pictures that were not seen before."""
    assert trainer.policy is not None
    trainer.policy.engine.encoder.forget()
    trainer.args.max_steps = 2
    trainer.train()


def _is_one(name: str, names: tuple[str, ...]) -> bool:
    return any(name.startswith(other) if other.startswith("_") else name == other for other in names)
