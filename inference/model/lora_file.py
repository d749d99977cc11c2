"""Adapter files: reads a plain LoRA saved by PEFT and checks it against its base; nothing is unpickled.

The engine serves what `read_adapter` gives; training begins from what `read_lora` gives (`training.grpo.lora`).
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from inference.common.errors import UserError
from inference.common.files import Json
from inference.model.loading import base_without_weights
from inference.model.lora_layers import Adapter, Factors, decoder_linears, decoder_path

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
MAX_WEIGHTS_BYTES = 8_000_000_000
"""A LoRA of the highest rank that a run may have, on every layer of a 3B model, takes half of this."""
_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(\.\w+)?\.weight")
_EARLIER_NAME = re.compile(r"^(?:language_model\.)?model\.(layers\.\d+\.)")
"""Names of the language model's layers with transformers before 4.52: of Qwen2-VL and Qwen2.5-VL, and of others."""
_LAYER = re.compile(r"\.layers\.(\d+)\.")
_PLAIN_INIT = (True, False, None, "gaussian", "orthogonal", "eva")
"""Initialisations that leave the base's weights alone; others (PiSSA, OLoRA, LoftQ, LoRA-GA, …) do not."""
_QUANTIZED = re.compile(r"(-unsloth)?-bnb-[48]bit$")
MAX_ALPHA = 1_000_000
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_MAX_SHOWN_CHARS = 300
"""Characters of an adapter's own files that a message shows."""
_HARMLESS = frozenset(
    "auto_mapping base_model_name_or_path eva_config exclude_modules inference_mode layers_pattern layers_to_transform "
    "lora_alpha lora_dropout megatron_core peft_type peft_version qalora_group_size r rank_pattern revision "
    "target_modules task_type use_rslora".split()
)
"""Settings that plain LoRA may have with any value. Any other setting with a value makes it another method."""
MAX_RANK = 512
"""Highest rank of an adapter; each row of a batch pays for the ranks of all its adapters."""


@dataclass(frozen=True)
class LoraFile:
    """A plain LoRA as its files hold it, checked against a model; every tensor of the file is in it."""

    config: Json
    """The adapter's own settings, as PEFT saved them."""
    pairs: dict[str, dict[str, torch.Tensor]]
    """By the path of a linear layer in the model: `A` (r, in) and `B` (out, r), in the dtype of the file."""

    def scaling(self, name: str) -> float:
        """The factor of a layer's term."""
        rank = self.pairs[name]["A"].shape[0]
        return float(self.config["lora_alpha"]) / (math.sqrt(rank) if self.config.get("use_rslora") else rank)


def read_lora(folder: Path, model: nn.Module, base_name: str) -> LoraFile:
    """The LoRA in `folder`, checked against the model that it is added to; safetensors only, never pickle.

    Names of layers that earlier versions of transformers gave are taken for today's. Raises `UserError` if a file is
    missing or broken, if the adapter is of another base, or if it is more than a plain LoRA on the language model's
    linear layers.
    """
    config = _read_config(folder)
    _check_config(config, folder, base_name)
    layers, path = decoder_linears(model), decoder_path(model)
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in _read_tensors(folder).items():
        match = _KEY.fullmatch(key)
        name = _EARLIER_NAME.sub(rf"{path}.\1", match["module"]) if match else None
        if match is None or name not in layers:
            raise UserError(
                f"The adapter {folder.name} changes {key!r}, but this engine takes LoRA on the linear layers of the "
                "language model only. Train it with target modules there, and none in the vision tower."
            )
        pairs.setdefault(name, {})[match["side"]] = tensor
    _check_depth(pairs, layers, config, folder)
    for name, pair in pairs.items():
        _check_pair(name, pair, layers[name], folder)
    return LoraFile(config, pairs)


def read_adapter(folder: Path, model: nn.Module, base_name: str) -> Adapter:
    """The LoRA in `folder` for the engine, in the model's dtype and on its device; raises as `read_lora`."""
    file, layers = read_lora(folder, model, base_name), decoder_linears(model)
    adapter: Adapter = {}
    for name, pair in file.pairs.items():
        weight = layers[name].weight
        cast = {side: tensor.to(weight.dtype) for side, tensor in pair.items()}
        _check_finite(name, cast, folder)
        a, b = (cast[side].to(weight.device).t().contiguous() for side in "AB")
        adapter[name] = Factors(a, b, file.scaling(name))
    return adapter


def check_adapter(folder: Path, base: str, revision: str | None = None) -> None:
    """Check the LoRA in `folder` against the base at a path or of a Hub id, without loading the base's weights.

    Raises `UserError` for all that `read_adapter` refuses, and if the base's configuration cannot be read.
    """
    read_lora(folder, _skeleton(base, revision), base)


@functools.lru_cache(maxsize=1)
def _skeleton(base: str, revision: str | None) -> nn.Module:
    return base_without_weights(base, revision)


def _check_depth(names: Iterable[str], layers: Iterable[str], config: dict, folder: Path) -> None:
    """Raises `UserError` for a LoRA of a model with fewer layers, which would change the first layers of this one.

    PEFT adapts all layers, unless the settings choose some by their numbers.
    """
    if config.get("layers_to_transform") is not None or re.search(r"\d", str(config.get("target_modules"))):
        return
    deepest, depth = (
        max((int(number) for name in each for number in _LAYER.findall(name)), default=-1) for each in (names, layers)
    )
    if deepest < depth:
        raise UserError(
            f"The adapter {folder.name} changes {deepest + 1} layers, and this base has {depth + 1}: it was trained on "
            "another base, or on an earlier version of this one. Train it again on this base."
        )


def _check_pair(name: str, pair: dict[str, torch.Tensor], layer: nn.Linear, folder: Path) -> None:
    if pair.keys() != {"A", "B"}:
        raise UserError(f"The adapter {folder.name} has only half of the LoRA pair of {name}. Save it again.")
    shapes = [tuple(pair[side].shape) for side in "AB"]
    rank = shapes[0][0] if shapes[0] else 0
    if rank == 0 or shapes != [(rank, layer.in_features), (layer.out_features, rank)]:
        raise UserError(
            f"The adapter {folder.name} does not fit this base: {name} is {layer.in_features} → {layer.out_features}, "
            f"its LoRA {shapes[0]} and {shapes[1]}. Use an adapter trained on this base."
        )
    if rank > MAX_RANK:
        raise UserError(f"The adapter {folder.name} has rank {rank} in {name}; at most {MAX_RANK} is served. Lower it.")
    if odd := next((tensor.dtype for tensor in pair.values() if tensor.dtype not in _DTYPES), None):
        raise UserError(f"The adapter {folder.name} has {name} in {odd}; save it in float32, bfloat16 or float16.")
    _check_finite(name, pair, folder)


def _check_finite(name: str, pair: dict[str, torch.Tensor], folder: Path) -> None:
    if not all(torch.isfinite(tensor).all() for tensor in pair.values()):
        raise UserError(f"The adapter {folder.name} holds NaN or infinity in {name}; its training diverged.")


def check_config(folder: Path, base: str | None, shown: str) -> None:
    """Check an adapter's settings before its weights are there: it must be a plain LoRA of this base, if one is given.

    Raises `UserError`, which calls the adapter `shown`.
    """
    try:
        _check_config(_read_config(folder), folder, base)
    except UserError as error:
        raise UserError(str(error).replace(f"The adapter {folder.name}", f"the adapter {shown}")) from error


def _read_config(folder: Path) -> dict:
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise UserError(f"{folder} is not an adapter: {CONFIG_FILE} is missing. Give the folder that PEFT saved it in.")
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


def same_base(one: str | None, other: str) -> bool:
    """True if two names may stand for one base; `None` is any. Whether the adapter fits, its shapes decide.

    Of a path or an id the last part counts, without case: of the Hub's cache the repository, of ModelScope's the name
    with its dots, and without the ending of a copy in 4 or 8 bits.
    """
    return one is None or _base_key(one) == _base_key(other)


def _base_key(name: str) -> str:
    parts = re.split(r"[/\\]+", name.rstrip("/\\"))
    cached = next((part for part in parts if part.startswith("models--")), None)
    last = cached.split("--", 2)[-1] if cached else parts[-1]
    return _QUANTIZED.sub("", last.replace("___", ".").casefold())


def _check_config(config: dict, folder: Path, base_name: str | None) -> None:
    plain = {"bias": config.get("bias") in (None, "none")}
    plain["init_lora_weights"] = config.get("init_lora_weights", True) in _PLAIN_INIT
    extras = [key for key, value in config.items() if not plain.get(key, key in _HARMLESS or not value)]
    if extras:
        shown = ", ".join(f"{key}={config[key]!r}" for key in extras)
        shown = shown if len(shown) <= _MAX_SHOWN_CHARS else shown[:_MAX_SHOWN_CHARS] + "…"
        raise UserError(f"The adapter {folder.name} uses {shown}; only plain LoRA can be served row by row.")
    trained_on = config.get("base_model_name_or_path")
    if not isinstance(trained_on, str | None):
        raise UserError(f"The adapter {folder.name} names no base in {CONFIG_FILE}, but {type(trained_on).__name__}.")
    if trained_on and base_name is not None and not same_base(trained_on, base_name):
        raise UserError(
            f"The adapter {folder.name} was trained on {trained_on[:_MAX_SHOWN_CHARS]}, but this engine serves "
            f"{base_name}. Serve that base. If it is the same one under another name, promote it with --same-base, or "
            f"correct base_model_name_or_path in {CONFIG_FILE}."
        )


def _read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise UserError(
            f"{folder} has no {WEIGHTS_FILE}; pickles (.bin) are never read. Save it with safe_serialization."
        )
    check_size(path)
    try:
        tensors = load_file(path)
    except Exception as error:  # the file is untrusted, and safetensors raises several kinds
        raise UserError(f"{path} cannot be read as safetensors ({error}). Copy it anew.") from error
    if not tensors:
        raise UserError(f"{WEIGHTS_FILE} of the adapter {folder.name} is empty. Save it again.")
    return tensors


def check_size(weights: Path) -> None:
    """Raises `UserError` for a file of weights that is larger than any adapter's."""
    size = weights.stat().st_size
    if size > MAX_WEIGHTS_BYTES:
        most = MAX_WEIGHTS_BYTES / 1e9
        raise UserError(f"{weights} has {size / 1e9:.1f} GB; an adapter has at most {most:.0f} GB. Lower its rank.")
