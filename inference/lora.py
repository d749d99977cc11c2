"""Many LoRA adapters over one base, each row of a batch with its own.

The language model's linear layers become `RoutedLinear`: the base result, and each row's own low-rank term,
y += scaling * mask(x Aᵀ) Bᵀ, where A and B are those of all adapters in the batch, one below the other, and the mask
zeroes what is another adapter's. So the work is the same in whatever order the rows stand, and rows of the base get the
base's own result. Nothing is merged, so no weight ever changes.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText

from inference.adapters import CONFIG_FILE, WEIGHTS_FILE, check_size
from inference.errors import UserError

_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(\.\w+)?\.weight")
_EARLIER_NAME = re.compile(r"^model\.(layers\.\d+\.)")
"""How transformers before 4.52 named the layers of Qwen2-VL's and Qwen2.5-VL's language model."""
_PLAIN_INIT = (True, False, None, "gaussian", "orthogonal", "eva")
"""Ways to begin that leave the base's weights alone; others (PiSSA, OLoRA, LoftQ, LoRA-GA, …) do not."""
_HARMLESS = frozenset(
    "auto_mapping base_model_name_or_path eva_config exclude_modules inference_mode layers_pattern layers_to_transform "
    "lora_alpha lora_dropout megatron_core peft_type peft_version qalora_group_size r rank_pattern revision "
    "target_modules task_type use_rslora".split()
)
"""Settings that plain LoRA may have with any value; what else is set to something makes it another method."""


@dataclass(frozen=True)
class Factors:
    """One layer's low-rank term: A transposed (in, r), B transposed (r, out), and what scales it."""

    a: torch.Tensor
    b: torch.Tensor
    scaling: float


Adapter = dict[str, Factors]
"""An adapter: module name of a linear layer to its factors."""
MAX_TOGETHER = 4
"""Adapters that rows of one batch may have; rows of a fifth one wait."""
MAX_RANK = 512
"""Highest rank of an adapter; each row of a batch pays for the ranks of all its adapters."""


@dataclass(frozen=True)
class Route:
    """One layer's low-rank term for the rows of a batch."""

    a: torch.Tensor
    """(in, R), of one adapter or of several side by side."""
    b: torch.Tensor
    """(R, out)."""
    scaling: float
    others: torch.Tensor | None
    """(B, 1, R or 1), true where a rank is not the row's own; `None` if all rows have the one adapter."""


Routes = dict[str, Route]
"""For one batch: module name to its low-rank term."""


class RoutedLinear(nn.Linear):
    """A linear layer that adds each row's own adapter. Takes over the weight of the layer it replaces."""

    def __init__(self, linear: nn.Linear, name: str) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.name = name
        self.route: Route | None = None
        """Of the forward that runs now; see `Router.use`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 (torch's name)
        """(B, T, in) to (B, T, out)."""
        output = F.linear(input, self.weight, self.bias)
        route = self.route
        if route is not None:
            low = input @ route.a  # (B, T, R)
            if route.others is not None:
                low.masked_fill_(route.others, 0.0)  # not a product: infinity times 0 is none
            output.view(-1, self.out_features).addmm_(low.view(-1, low.shape[-1]), route.b, alpha=route.scaling)
        return output


class Router:
    """The `RoutedLinear` layers of a model, and what they add in the forward that runs now."""

    def __init__(self, layers: Iterable[RoutedLinear]) -> None:
        self.layers = {layer.name: layer for layer in layers}
        self._used: Routes = {}

    def use(self, routes: Routes) -> None:
        """The next forwards are for the batch of these routes."""
        if routes is self._used:
            return
        for name in self._used:
            self.layers[name].route = None
        for name, route in routes.items():
            self.layers[name].route = route
        self._used = routes


def decoder_path(model: nn.Module) -> str:
    """Where in `model` its language model is, such as `model.language_model`."""
    decoder = model.get_decoder()  # type: ignore[operator]
    return next(name for name, module in model.named_modules() if module is decoder)


def route_linears(model: nn.Module) -> Router:
    """Replace every linear layer of the language model by a `RoutedLinear`, named by its path in `model`."""
    layers, path = [], decoder_path(model)
    for name, module in list(model.get_submodule(path).named_modules(prefix=path)):
        if type(module) is nn.Linear:
            parent, _, child = name.rpartition(".")
            layers.append(RoutedLinear(module, name))
            setattr(model.get_submodule(parent), child, layers[-1])
    return Router(layers)


def make_routes(adapters: Sequence[Adapter | None], device: torch.device) -> Routes:
    """The routes of a batch, one adapter (or `None`) per row, in any order."""
    distinct = list({id(adapter): adapter for adapter in adapters if adapter is not None}.values())
    rows = {id(adapter): [other is not adapter for other in adapters] for adapter in distinct}
    others = {key: torch.tensor(hidden, device=device)[:, None, None] for key, hidden in rows.items()}  # (B, 1, 1)
    found: dict[str, list[tuple[Factors, torch.Tensor | None]]] = {}
    for adapter in distinct:
        mask = others[id(adapter)] if any(rows[id(adapter)]) else None
        for name, factors in adapter.items():
            found.setdefault(name, []).append((factors, mask))
    return {name: _joined(parts) for name, parts in found.items()}


def _joined(parts: list[tuple[Factors, torch.Tensor | None]]) -> Route:
    """One layer's term; a single adapter's factors are taken as they are, so that they may change in place."""
    if len(parts) == 1:
        factors, mask = parts[0]
        return Route(factors.a, factors.b, factors.scaling, mask)
    a = torch.cat([factors.a * factors.scaling for factors, _ in parts], dim=1)  # masked after it, should it overflow
    b = torch.cat([factors.b for factors, _ in parts])
    masks = [mask.expand(-1, 1, factors.a.shape[1]) for factors, mask in parts if mask is not None]
    return Route(a, b, 1.0, torch.cat(masks, dim=-1))


def read_adapter(folder: Path, model: nn.Module, base_name: str) -> Adapter:
    """The LoRA in `folder`, checked against the model it is to stand on; safetensors only, never pickle.

    Raises `UserError` if a file is missing or broken, if the adapter is of another base, or if it is more than
    a plain LoRA on the language model's linear layers.
    """
    config = _read_config(folder)
    _check_config(config, folder, base_name)
    tensors = _read_tensors(folder)
    layers = {m.name: m for m in model.modules() if isinstance(m, RoutedLinear)}
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        name = _EARLIER_NAME.sub(rf"{decoder_path(model)}.\1", match["module"]) if match else None
        if match is None or name not in layers:
            raise UserError(
                f"The adapter {folder.name} changes {key!r}, but this engine takes LoRA on the linear layers of the "
                "language model only. Train it with target modules there, and none in the vision tower."
            )
        pairs.setdefault(name, {})[match["side"]] = tensor
    return {name: _factors(name, pair, layers[name], config, folder) for name, pair in pairs.items()}


def check_adapter(folder: Path, base: str) -> None:
    """Read the LoRA in `folder` against the base at a path or of a Hub id, without the base's weights.

    Raises `UserError` for all that `read_adapter` refuses, and if the base's configuration cannot be read.
    """
    read_adapter(folder, _skeleton(base), base)


@functools.lru_cache(maxsize=1)
def _skeleton(base: str) -> nn.Module:
    """The base's layers with their shapes and no memory."""
    try:
        config = AutoConfig.from_pretrained(base)
    except (OSError, ValueError) as error:
        raise UserError(f"The configuration of the base {base} cannot be read: {error}") from error
    with torch.device("meta"):  # fp32, since it is set for all threads meanwhile, and that is what they have
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    route_linears(model)
    return model


def _factors(name: str, pair: dict[str, torch.Tensor], layer: RoutedLinear, config: dict, folder: Path) -> Factors:
    if pair.keys() != {"A", "B"}:
        raise UserError(f"The adapter {folder.name} has only half of the LoRA pair of {name}. Save it again.")
    rank = pair["A"].shape[0]
    if pair["A"].shape != (rank, layer.in_features) or pair["B"].shape != (layer.out_features, rank):
        raise UserError(
            f"The adapter {folder.name} does not fit this base: {name} is {layer.in_features} → {layer.out_features}, "
            f"its LoRA {tuple(pair['A'].shape)} and {tuple(pair['B'].shape)}. Use an adapter trained on this base."
        )
    if rank > MAX_RANK:
        raise UserError(
            f"The adapter {folder.name} has rank {rank} in {name}; at most {MAX_RANK} is served. Train one of a lower "
            "rank."
        )
    if not all(torch.isfinite(tensor).all() for tensor in pair.values()):
        raise UserError(f"The adapter {folder.name} holds NaN or infinity in {name}; its training broke down.")
    a, b = (pair[side].to(layer.weight.device, layer.weight.dtype).t().contiguous() for side in "AB")
    return Factors(a, b, config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank))


def check_config(folder: Path, base: str, shown: str) -> None:
    """Look at an adapter's settings alone, before its weights are there: plain LoRA, and of this base.

    Raises `UserError`, with the adapter called `shown`.
    """
    try:
        _check_config(_read_config(folder), folder, base)
    except UserError as error:
        raise UserError(str(error).replace(f"The adapter {folder.name}", f"the adapter {shown}")) from error


def _read_config(folder: Path) -> dict:
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise UserError(f"{folder} is no adapter: {CONFIG_FILE} is missing. Give the folder that PEFT saved it in.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{CONFIG_FILE} of the adapter {folder.name} is not JSON ({error}). Save it again.") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA" or not config.get("lora_alpha"):
        raise UserError(f"The adapter {folder.name} is not a PEFT LoRA with a lora_alpha. Only LoRA can be served.")
    return config


def _check_config(config: dict, folder: Path, base_name: str) -> None:
    plain = {"bias": config.get("bias") in (None, "none")}
    plain["init_lora_weights"] = config.get("init_lora_weights", True) in _PLAIN_INIT
    extras = [key for key, value in config.items() if not plain.get(key, key in _HARMLESS or not value)]
    if extras:
        named = ", ".join(f"{key}={config[key]!r}" for key in extras)
        raise UserError(f"The adapter {folder.name} uses {named}; only plain LoRA can be served row by row.")
    trained_on = config.get("base_model_name_or_path")
    if trained_on and Path(trained_on).name != Path(base_name).name:
        raise UserError(
            f"The adapter {folder.name} was trained on {trained_on}, but this engine serves {base_name}. Serve that "
            f"base, or correct base_model_name_or_path in {CONFIG_FILE} if it is the same one under another name."
        )


def _read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise UserError(
            f"{folder} has no {WEIGHTS_FILE}; pickled weights (.bin) are never read. Save it with safe_serialization."
        )
    check_size(path)
    try:
        tensors = load_file(path)
    except Exception as error:  # the file is untrusted, and safetensors raises several kinds
        raise UserError(f"{path} cannot be read as safetensors ({error}). Copy it anew.") from error
    if not tensors:
        raise UserError(f"{WEIGHTS_FILE} of the adapter {folder.name} is empty. Save it again.")
    return tensors
