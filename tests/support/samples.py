"""Things that several tests and benchmarks need: the starter's place, a small run's settings, adapters, problems."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from tests import ROOT
from training.starter.problems import Problem, iterate_problems

STARTER = ROOT / "inference" / "starter"
SMALL_RUN: dict[str, Any] = {
    "max_steps": 2,
    "warmup_steps": 0,
    "prompts_per_step": 2,
    "num_generations": 4,
    "micro_batch_size": 8,
    "report_to": [],
}
"""Settings of a GRPO run of seconds; a test adds the length of its completions and its data."""
LANGUAGE_LINEARS = r"model\.(language|text)_model\..*\.(q|k|v|o|gate|up|down)_proj"


def random_adapter(folder: Path, seed: int = 0, strength: float = 0.5, base: Path = STARTER, **config: Any) -> Path:
    """Save a LoRA with random non-zero weights on the language model of `base`, as PEFT saves it; returns `folder`."""
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    options: dict[str, Any] = {"r": 8, "lora_alpha": 16, "target_modules": LANGUAGE_LINEARS} | config
    tuned = get_peft_model(model, LoraConfig(**options))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=strength * parameter.shape[1] ** -0.5)
    tuned.save_pretrained(str(folder))
    return folder


def perturbed_adapter(folder: Path, seed: int = 0, strength: float = 0.02) -> Path:
    """The starter's own adapter with noise on its weights, quickly made; returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(STARTER / "adapter" / "adapter_config.json", folder / "adapter_config.json")
    generator = torch.Generator().manual_seed(seed)
    weights = load_file(STARTER / "adapter" / "adapter_model.safetensors")
    noisy = {name: w + strength * torch.randn(w.shape, generator=generator) for name, w in weights.items()}
    save_file(noisy, folder / "adapter_model.safetensors")
    return folder


def problems(num: int, seed: int = 0, split: str = "test") -> list[Problem]:
    """The first `num` problems of a side."""
    return list(itertools.islice(iterate_problems(split, seed), num))
