"""LoRA's term added to the base's result where that stands, in one product.

PEFT's own formula makes three more tensors of the result's size, in the forward and again in the backward. This goes in
where PEFT keeps kinds of LoRA (`LoraVariant`), which its authors may change; a test compares the gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear, LoraLayer, LoraVariant
from torch import nn


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
