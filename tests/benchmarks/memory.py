"""Memory of whole GRPO steps by the estimate, beside the bytes of tensors that live in them on a CPU.

Each configuration is built anew, samples completions of a forced length, and takes one step with everything in the
loss. `tests/training/runs/estimate/test_memory.py` asks the same of the cheap ones.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks import shapes
from tests.benchmarks.table import Measurement
from tests.support.live_bytes import LiveBytes
from training.config.run_config import load_config
from training.data.dataset import load_rows
from training.grpo.trainer import build_trainer
from training.runs.estimate.memory import BatchChoice, MemoryNeed, memory_need
from training.runs.estimate.shapes import sizes_of
from training.runs.folder import RunFolder

GROUPS = {"prompts_per_step": 2, "num_generations": 8, "max_completion_length": 64}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "starter, 16 at once": {"micro_batch_size": 16},
    "starter, 8 at once": {"micro_batch_size": 8},
    "starter, 2 at once": {"micro_batch_size": 2},
    "starter, prompts not shared": {"micro_batch_size": 16, "share_prompts": False},
    "starter, checkpointing": {"micro_batch_size": 16, "gradient_checkpointing": True},
    "starter, q and v alone": {"micro_batch_size": 8, "lora_modules": ["q_proj", "v_proj"], "lora_rank": 8},
    "starter, longer": {"micro_batch_size": 8, "max_completion_length": 200},
    "small, 16 at once": {"base": "qwen2.5-vl-small", "micro_batch_size": 16},
    "small, 4 at once": {"base": "qwen2.5-vl-small", "micro_batch_size": 4},
    "small, checkpointing": {"base": "qwen2.5-vl-small", "micro_batch_size": 16, "gradient_checkpointing": True},
}
"""By name: the starter in fp32 and a model of no one's shape, with what differs from `GROUPS`."""


def measure() -> Iterator[Measurement]:
    """A line for each configuration."""
    with tempfile.TemporaryDirectory() as home:
        for number, (name, values) in enumerate(CONFIGURATIONS.items()):
            need, peak = estimate_and_peak(values, Path(home) / str(number))
            off = 100 * (need.tensors / peak - 1)
            note = f"estimate {need.tensors / 1e6:.0f} MB: {off:+.0f} %"
            yield Measurement(f"memory, {name}", f"{peak / 1e6:.0f} MB", "estimate within 15 %", note)


def estimate_and_peak(values: dict[str, Any], home: Path) -> tuple[MemoryNeed, int]:
    """The estimate for a step of that configuration, and the peak of live bytes of such a step."""
    home.mkdir(parents=True)
    fixed = {"max_steps": 1, "warmup_steps": 0, "skip_zero_signal": False, "report_to": [], "eval_rows": 0}
    fixed |= {"gradient_checkpointing": False, "data": {"train_rows": 2, "test_rows": 2}}
    if values.get("base", "starter") != "starter":
        shapes.write(values["base"], home / "base")
        values = values | {"base": str(home / "base")}
    config = load_config("starter", GROUPS | fixed | values)
    trainer = build_trainer(config, load_rows(config.data, home=home).train, RunFolder.create(home / "run", config), [])
    trainer.generation_kwargs = {"min_new_tokens": config.max_completion_length}
    live, lengths = LiveBytes(), []
    live.add([*trainer.model.parameters(), *trainer.model.buffers()])
    roll_out = trainer.policy.prompts

    def prompts(*args: Any) -> Any:
        made = roll_out(*args)
        lengths.extend(len(prompt.ids) for prompt in made)
        return made

    trainer.policy.prompts = prompts
    with live:
        trainer.train()
    batch = BatchChoice(int(config.micro_batch_size), config.gradient_checkpointing is True)
    sizes = sizes_of(config.base)
    return memory_need(config, sizes, torch.cuda.is_available(), batch=batch, prompt_tokens=max(lengths)), live.peak
