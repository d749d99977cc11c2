"""Where LoRA goes: linear layers of the language model, never of the tower; and a tower without a backward pass."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from torch import nn

from inference.common.errors import UserError
from inference.model.lora_layers import decoder_path
from training.config.run_config import RunConfig

TOWERS = ("visual", "vision_tower", "vision_model", "connector", "multi_modal_projector")
"""What the families call the parts that see."""


def lora_targets(model: nn.Module, layers: Sequence[str]) -> str:
    """A pattern over module names for PEFT: the named linear layers inside the model's text decoder.

    The vision tower often has layers of the same names (`gate_proj`), so the decoder is found first.
    """
    path = decoder_path(model)
    modules = model.get_submodule(path).named_modules()
    linear = {name.rpartition(".")[2] for name, module in modules if isinstance(module, nn.Linear)}
    if missing := [name for name in layers if name not in linear]:
        raise UserError(
            f"lora_modules has {', '.join(missing)}, which this model's language model has not; "
            f"it has {', '.join(sorted(linear))}"
        )
    return rf".*\b{re.escape(path.rpartition('.')[2])}\b.*\.({'|'.join(layers)})"


def stop_tower_gradient(model: nn.Module) -> list[str]:
    """Run the frozen parts that see without recording a graph; returns their names.

    With gradient checkpointing, PEFT makes embeddings require gradients, and the frozen tower gets a full backward.
    """
    stopped: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{done}.") for done in stopped)
        if name.rpartition(".")[2] not in TOWERS or inside:
            continue
        if any(parameter.requires_grad for parameter in module.parameters()):
            continue
        module.forward = torch.no_grad()(functools.partial(type(module).forward, module))
        stopped.append(name)
    return stopped


def lora_config(config: RunConfig, model: Any) -> LoraConfig:
    """LoRA on the language model alone."""
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=lora_targets(model, config.lora_modules),
        task_type="CAUSAL_LM",
    )


def load_adapter(model: Any, folder: str) -> PeftModel:
    """The model with the adapter to train on from; safetensors only."""
    path = Path(folder).expanduser()
    if not (path / "adapter_model.safetensors").is_file():
        raise UserError(
            f"start_adapter is {folder}, which holds no adapter_model.safetensors; name an adapter's folder"
        )
    try:
        return PeftModel.from_pretrained(model, str(path), is_trainable=True)
    except (RuntimeError, ValueError) as error:
        said = str(error).strip().splitlines()[0]
        raise UserError(f"start_adapter {folder} does not fit this base ({said}); name one made for it") from None
