"""Where LoRA goes: linear layers of the language model, never of the tower; and a tower without a backward pass."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora.layer import Linear, LoraLayer, LoraVariant
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


class InPlaceTerm(LoraVariant):
    """Plain LoRA; merged and unmerged as PEFT does it, since that is how TRL hands the policy to vLLM."""

    @staticmethod
    def forward(module: LoraLayer, active_adapter: str, x: torch.Tensor, result: torch.Tensor, **kwargs: Any) -> Any:
        """(…, out): `result` of the base layer, which is overwritten, and the term of `x` (…, in)."""
        a, b = module.lora_A[active_adapter], module.lora_B[active_adapter]
        low = a(module.lora_dropout[active_adapter](x))  # (…, r)
        scaling = module.scaling[active_adapter]
        if not low.dtype == result.dtype == b.weight.dtype:  # mixed precision
            return result + b(low) * scaling
        return _AddTerm.apply(result, low, b.weight, scaling)

    @staticmethod
    def merge_safe(module: Any, active_adapter: str, orig_weight: torch.Tensor) -> torch.Tensor:
        return orig_weight + module.get_delta_weight(active_adapter).to(orig_weight.dtype)

    @staticmethod
    def merge_unsafe(module: Any, active_adapter: str, orig_weight: torch.Tensor) -> None:
        orig_weight.data += module.get_delta_weight(active_adapter)

    @staticmethod
    def unmerge(module: Any, active_adapter: str, orig_weight: torch.Tensor) -> torch.Tensor:
        return orig_weight - module.get_delta_weight(active_adapter).to(orig_weight.dtype)


class _AddTerm(torch.autograd.Function):
    """result (…, out) += scaling * low (…, r) @ b (out, r)ᵀ."""

    @staticmethod
    def forward(ctx: Any, result: torch.Tensor, low: torch.Tensor, b: torch.Tensor, scaling: float) -> torch.Tensor:
        ctx.mark_dirty(result)
        ctx.save_for_backward(low, b)
        ctx.scaling = scaling
        result.view(-1, result.shape[-1]).addmm_(low.flatten(0, -2), b.t(), alpha=scaling)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        (gradient,) = gradients
        low, b = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        of_low = (rows @ b).mul_(ctx.scaling).view_as(low)
        of_b = (rows.t() @ low.flatten(0, -2)).mul_(ctx.scaling)
        return gradient, of_low, of_b, None


def add_in_place(model: nn.Module) -> int:
    """Let the LoRA layers of a PEFT model compute that way, those that are plain LoRA; returns how many there are."""
    changed = 0
    for module in model.modules():
        if type(module) is not Linear:
            continue
        for name, b in module.lora_B.items():
            if name not in module.lora_variant and b.bias is None:
                module.lora_variant[name] = InPlaceTerm()
                changed += 1
    return changed
