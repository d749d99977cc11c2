"""One GRPO step on rollouts that are given, not sampled: writes the reduced LoRA gradient, rewards and advantages.

Run as `python -m tests.support.gradient_probe FOLDER`, alone or by several processes under torchrun, which share the
base's weights with the argument `sharded`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from training.config.run_config import load_config
from training.data.dataset import load_rows
from training.grpo.trainer import build_trainer
from training.runs.folder import RunFolder

COMPLETIONS = (
    "<think>3 + 4 = 7.</think>\n<answer>7</answer>",
    "7",
    "<think>There are 2 red circles.</think>\n<answer>A</answer>",
    "<think>5 - 3 = 2. That is choice B.</think>\n<answer>B</answer>",
    "The answer is 12.",
    "<think>The sides are 3 and 4.</think>\n<answer>14</answer>",
    "<think>Bar A is 8.</think>",
    "<answer>9</answer>",
)
"""Wrong, right or without a format, so that each has an advantage: rows without one would fill up a process."""


LONG = "There are 2 red circles. " * 12
"""What every completion of the first prompt has besides, so that they are of like length and need one pass, while those
of the second need two: processes that share a step may not rely on running the model equally often."""


def completion(number: int) -> str:
    """By its place in the batch of all processes, of two prompts."""
    before, think, after = COMPLETIONS[number % len(COMPLETIONS)].rpartition("<think>")
    return before + think + LONG * (number < 16) + after


class KeepGradient(TrainerCallback):
    """The gradient as the optimizer gets it, after it was averaged over the processes."""

    gradient: torch.Tensor

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        found = {n.removeprefix("module."): p.grad for n, p in model.named_parameters() if p.grad is not None}
        self.gradient = torch.cat([found[name].flatten() for name in sorted(found)])


def main(folder: Path, shard_weights: bool = False) -> None:
    """Train one step and keep what it was made of."""
    config = load_config(
        "starter",
        {
            **{"max_steps": 1, "warmup_steps": 0, "prompts_per_step": 2, "num_generations": 16, "micro_batch_size": 32},
            **{"max_grad_norm": 1e9, "report_to": [], "save_steps": 9, "data": {"train_rows": 2, "test_rows": 2}},
            "shard_weights": shard_weights,
        },
    )
    rank = int(os.environ.get("RANK", "0"))
    kept = KeepGradient()
    run = RunFolder.create(folder / f"run{rank}", config)
    trainer = build_trainer(config, load_rows(config.data, home=folder / f"home{rank}").train, run, [kept])
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sorted(trainer.model.named_parameters()):
        if "lora_" in name:  # away from their start, where half of the gradient is 0
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.02

    def given(prompts: list, trainer: Any) -> dict[str, Any]:
        """TRL's `rollout_func`: the completions of this process, by their place in the batch of all."""
        first = trainer.accelerator.process_index * len(prompts)
        tokenizer = trainer.processing_class.tokenizer
        texts = [completion(n) for n in range(first, first + len(prompts))]
        ids = [[*tokenizer(text).input_ids, tokenizer.eos_token_id] for text in texts]
        batch = trainer._rollouts
        with trainer._sampling():
            batch.prompts = trainer.policy.prompts(prompts, batch.pictures)
        prompt_ids = [list(prompt.ids) for prompt in batch.prompts]
        columns = {"image": [images[0] for images in batch.pictures], "images": batch.pictures}
        return {"prompt_ids": prompt_ids, "completion_ids": ids, "logprobs": None} | columns

    trainer.rollout_func = given
    trainer.train()
    if trainer.accelerator.is_main_process:
        torch.save(kept.gradient, folder / "gradient.pt")
        records = {
            "rewards": {name: list(values) for name, values in trainer._logs["rewards"].items()},
            "advantages": list(trainer._logs["advantages"]),
            "entropy": trainer.state.log_history[0]["entropy"],
            "completions": [c[0]["content"] for c in trainer._logs["completion"]],
        }
        (folder / "records.json").write_text(json.dumps(records))


if __name__ == "__main__":
    main(Path(sys.argv[1]), shard_weights="sharded" in sys.argv[2:])
