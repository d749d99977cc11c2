"""Many LoRA adapters over one base, each row of a batch with its own.

The language model's linear layers become `RoutedLinear`: the base result, and for each run of neighbouring rows
with the same adapter that adapter's low-rank term, y[rows] += scaling * (x[rows] Aᵀ) Bᵀ. Rows of the base get
the base's own result. Nothing is merged, so no weight ever changes.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import re
from collections.abc import Sequence
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
MAX_ALPHA = 1_000_000
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_MAX_SHOWN_CHARS = 300
"""Of what an adapter's own files say."""
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

    def on(self, device: torch.device) -> Factors:
        """The same on a device."""
        return Factors(self.a.to(device), self.b.to(device), self.scaling)


Adapter = dict[str, Factors]
"""An adapter: module name of a linear layer to its factors."""
Routes = dict[str, tuple[tuple[int, int, Factors], ...]]
"""For one batch: module name to (first row, end row, factors) of each run of rows."""


class Router:
    """Holds the routes of the forward that runs now; shared by all `RoutedLinear` of a model."""

    def __init__(self) -> None:
        self.routes: Routes = {}


class RoutedLinear(nn.Linear):
    """A linear layer that adds each row's own adapter. Takes over the weight of the layer it replaces."""

    def __init__(self, linear: nn.Linear, name: str, router: Router) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.name, self.router = name, router

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 (torch's name)
        """(B, T, in) to (B, T, out)."""
        output = F.linear(input, self.weight, self.bias)
        for start, end, factors in self.router.routes.get(self.name, ()):
            x, y = input[start:end].flatten(0, -2), output[start:end].view(-1, self.out_features)
            y.addmm_(x @ factors.a, factors.b, alpha=factors.scaling)
        return output


def decoder_path(model: nn.Module) -> str:
    """Where in `model` its language model is, such as `model.language_model`."""
    decoder = model.get_decoder()  # type: ignore[operator]
    return next(name for name, module in model.named_modules() if module is decoder)


def route_linears(model: nn.Module) -> Router:
    """Replace every linear layer of the language model by a `RoutedLinear`, named by its path in `model`."""
    router, path = Router(), decoder_path(model)
    for name, module in list(model.get_submodule(path).named_modules(prefix=path)):
        if type(module) is nn.Linear:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, RoutedLinear(module, name, router))
    return router


def make_routes(adapters: Sequence[Adapter | None]) -> Routes:
    """The routes of a batch, one adapter (or `None`) per row; rows of one adapter should stand together."""
    routes: dict[str, list[tuple[int, int, Factors]]] = {}
    start = 0
    for _, group in itertools.groupby(adapters, key=id):
        rows = list(group)
        for name, factors in (rows[0] or {}).items():
            routes.setdefault(name, []).append((start, start + len(rows), factors))
        start += len(rows)
    return {name: tuple(runs) for name, runs in routes.items()}


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
    shapes = [tuple(pair[side].shape) for side in "AB"]
    rank = shapes[0][0] if shapes[0] else 0
    if rank == 0 or shapes != [(rank, layer.in_features), (layer.out_features, rank)]:
        raise UserError(
            f"The adapter {folder.name} does not fit this base: {name} is {layer.in_features} → {layer.out_features}, "
            f"its LoRA {shapes[0]} and {shapes[1]}. Use an adapter trained on this base."
        )
    if odd := next((tensor.dtype for tensor in pair.values() if tensor.dtype not in _DTYPES), None):
        raise UserError(f"The adapter {folder.name} has {name} in {odd}; save it in float32, bfloat16 or float16.")
    found = {side: tensor.to(layer.weight.dtype) for side, tensor in pair.items()}
    if not all(torch.isfinite(tensor).all() for tensor in found.values()):
        raise UserError(f"The adapter {folder.name} holds NaN or infinity in {name}; its training broke down.")
    a, b = (found[side].to(layer.weight.device).t().contiguous() for side in "AB")
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
    except (ValueError, RecursionError) as error:
        raise UserError(f"{CONFIG_FILE} of the adapter {folder.name} is not JSON ({error}). Save it again.") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA" or not config.get("lora_alpha"):
        raise UserError(f"The adapter {folder.name} is not a PEFT LoRA with a lora_alpha. Only LoRA can be served.")
    alpha = config["lora_alpha"]
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= MAX_ALPHA:
        raise UserError(
            f"The adapter {folder.name} has lora_alpha {str(alpha)[:80]}; it must be a number above 0, at most "
            f"{MAX_ALPHA:,}. Save it again."
        )
    return config


def _check_config(config: dict, folder: Path, base_name: str) -> None:
    plain = {"bias": config.get("bias") in (None, "none")}
    plain["init_lora_weights"] = config.get("init_lora_weights", True) in _PLAIN_INIT
    extras = [key for key, value in config.items() if not plain.get(key, key in _HARMLESS or not value)]
    if extras:
        named = ", ".join(f"{key}={config[key]!r}" for key in extras)
        named = named if len(named) <= _MAX_SHOWN_CHARS else named[:_MAX_SHOWN_CHARS] + "…"
        raise UserError(f"The adapter {folder.name} uses {named}; only plain LoRA can be served row by row.")
    trained_on = config.get("base_model_name_or_path")
    if not isinstance(trained_on, str | None):
        raise UserError(f"The adapter {folder.name} names no base in {CONFIG_FILE}, but {type(trained_on).__name__}.")
    if trained_on and Path(trained_on).name != Path(base_name).name:
        raise UserError(
            f"The adapter {folder.name} was trained on {trained_on[:_MAX_SHOWN_CHARS]}, but this engine serves "
            f"{base_name}. Serve that base, or correct base_model_name_or_path in {CONFIG_FILE} if it is the same one "
            "under another name."
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
