"""LoRA on the linear layers of the language model, never of the vision tower, which gets no backward pass."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import Linear, LoraLayer, LoraVariant
from torch import nn

from inference.common.errors import UserError
from inference.model.lora_file import read_lora
from inference.model.lora_layers import decoder_linears, decoder_path
from training.config.run_config import RunConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOWERS = ("visual", "vision_tower", "vision_model", "connector", "multi_modal_projector")
"""Names of the parts that encode pictures, in the families."""


def lora_targets(model: nn.Module, layers: Sequence[str]) -> str:
    """A pattern over module names for PEFT: the named linear layers inside the model's text decoder.

    The vision tower often has layers of the same names (`gate_proj`), so the pattern begins with the decoder's name.
    """
    path = decoder_path(model)
    modules = model.get_submodule(path).named_modules()
    linear = {name.rpartition(".")[2] for name, module in modules if isinstance(module, nn.Linear)}
    if missing := [name for name in layers if name not in linear]:
        raise UserError(
            f"lora_modules has {', '.join(missing)}, which this model's language model does not have; choose from "
            f"{', '.join(sorted(linear))}"
        )
    return rf".*\b{re.escape(path.rpartition('.')[2])}\b.*\.({'|'.join(layers)})"


def stop_tower_gradient(model: nn.Module) -> list[str]:
    """Run the frozen vision tower without recording a graph; returns the names of its parts.

    With gradient checkpointing, PEFT makes embeddings require gradients, and the frozen tower gets a full backward.
    """
    stopped: list[str] = []
    for name, module in model.named_modules():
        is_inside = any(name.startswith(f"{outer}.") for outer in stopped)
        is_trained = any(parameter.requires_grad for parameter in module.parameters())
        if name.rpartition(".")[2] in TOWERS and not is_inside and not is_trained:
            module.forward = torch.no_grad()(functools.partial(type(module).forward, module))
            stopped.append(name)
    return stopped


def lora_config(config: RunConfig, model: nn.Module) -> LoraConfig:
    """A run's settings of LoRA on the language model alone. Raises `UserError` for layers that it does not have."""
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=lora_targets(model, config.lora_modules),
        task_type="CAUSAL_LM",
    )


def load_adapter(model: PreTrainedModel, folder: str, base: str) -> PeftModel:
    """The model with the adapter that training starts from, read as it would be served (`read_lora`).

    Its LoRA keeps its own rank, alpha, dropout and layers, whatever the run's settings are. Raises `UserError`.
    """
    file = read_lora(Path(folder).expanduser(), model, base)
    ranks = {name: pair["A"].shape[0] for name, pair in file.pairs.items()}
    [(rank, _)] = Counter(ranks.values()).most_common(1)
    settings = LoraConfig(
        r=rank,
        lora_alpha=file.config["lora_alpha"],
        use_rslora=bool(file.config.get("use_rslora")),
        lora_dropout=file.config.get("lora_dropout") or 0.0,
        rank_pattern={re.escape(name): other for name, other in ranks.items() if other != rank},
        target_modules=_targets_of(model, ranks),
        task_type="CAUSAL_LM",
    )
    peft = get_peft_model(model, settings)
    layers = {n: m for n, m in peft.get_base_model().named_modules() if isinstance(m, LoraLayer)}
    assert layers.keys() == file.pairs.keys(), "the pattern names the adapter's layers, and no other"
    with torch.no_grad():
        for name, pair in file.pairs.items():
            for factor, side in ((layers[name].lora_A, "A"), (layers[name].lora_B, "B")):
                factor["default"].get_parameter("weight").copy_(pair[side])
            assert math.isclose(layers[name].scaling["default"], file.scaling(name)), name
    return peft


def _targets_of(model: nn.Module, names: Collection[str]) -> str | list[str]:
    """The pattern of `lora_targets` where it names exactly these layers, else their paths."""
    kinds = sorted({name.rpartition(".")[2] for name in names})
    all_of_them = {name for name in decoder_linears(model) if name.rpartition(".")[2] in kinds}
    return lora_targets(model, kinds) if all_of_them == set(names) else sorted(names)


class InPlaceTerm(LoraVariant):
    """Plain LoRA that adds its term in place."""

    @staticmethod
    def forward(
        module: LoraLayer, active_adapter: str, x: torch.Tensor, result: torch.Tensor, **kwargs: object
    ) -> torch.Tensor:
        """(…, out): the base layer's `result`, which is overwritten, plus the term of `x` (…, in)."""
        a, b = module.lora_A[active_adapter], module.lora_B[active_adapter]
        low = a(module.lora_dropout[active_adapter](x))  # (…, r)
        scaling = module.scaling[active_adapter]
        if not low.dtype == result.dtype == b.weight.dtype:  # mixed precision
            return result + b(low) * scaling
        return _AddTerm.apply(result, low, b.weight, scaling)


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
        low_gradient = (rows @ b).mul_(ctx.scaling).view_as(low)
        b_gradient = (rows.t() @ low.flatten(0, -2)).mul_(ctx.scaling)
        return gradient, low_gradient, b_gradient, None


def add_in_place(model: nn.Module) -> int:
    """Make the plain LoRA layers of a PEFT model add their term in place; returns their number."""
    num_changed = 0
    for module in model.modules():
        if type(module) is not Linear:
            continue
        for name, b in module.lora_B.items():
            if name not in module.lora_variant and b.bias is None:
                module.lora_variant[name] = InPlaceTerm()
                num_changed += 1
    return num_changed
