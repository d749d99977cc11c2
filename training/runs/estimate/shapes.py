"""Sizes of a base: parameters, widths and layers, from its configuration, without its weights.

    sizes_of("Qwen/Qwen2.5-VL-3B-Instruct").parameters      # 3754622976

The configurations of the bases in `bases.json` are shipped, so that these need no network; those of others are read
from disk or from the Hub.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inference.common.errors import UserError
from inference.common.files import Json
from inference.common.settings import base_source

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

KNOWN: dict[str, Json] = json.loads(Path(__file__).with_name("bases.json").read_text(encoding="utf-8"))
"""Configurations by the Hub's name, as far as they decide sizes."""


@dataclass(frozen=True)
class ModelSizes:
    """The sizes of a base."""

    parameters: int
    language_parameters: int
    """Of the language model with its output layer: the weights that a decode step reads."""
    vision_parameters: int
    vision_hidden: int
    vision_intermediate: int
    pixels_per_token: int
    """Pixels of a picture that become one token."""
    hidden: int
    layers: int
    intermediate: int
    norm_width: int
    """Numbers of one token that the norms of one layer read."""
    query_width: int
    """Queries of one token in one layer: heads times their width."""
    kv_width: int
    """Keys (or values) of one token in one layer: heads times their width."""
    vocabulary: int
    linears: tuple[tuple[str, int, int], ...]
    """Name, inputs and outputs of each linear layer of the language model."""

    @property
    def layer_linears(self) -> tuple[tuple[str, int, int], ...]:
        """The linear layers of one layer of the language model, by name."""
        return tuple({name: (name, inputs, outputs) for name, inputs, outputs in self.linears}.values())

    def linear_parameters(self, modules: tuple[str, ...]) -> int:
        """The number of weights of the linear layers of these names."""
        return sum(inputs * outputs for name, inputs, outputs in self.linears if name in modules)

    def lora_parameters(self, rank: int, modules: tuple[str, ...]) -> int:
        """The number of parameters of a LoRA of this rank on layers of these names."""
        return sum(rank * (inputs + outputs) for name, inputs, outputs in self.linears if name in modules)


@functools.lru_cache(maxsize=8)
def sizes_of(base: str, revision: str | None = None) -> ModelSizes:
    """The sizes of a base, from its configuration. Raises `UserError` if that cannot be read."""
    from transformers import AutoConfig

    if base in KNOWN:  # every commit of a model has the same sizes
        return sizes_by(AutoConfig.for_model(**KNOWN[base]))
    try:
        config = AutoConfig.from_pretrained(base_source(base), revision=revision)
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"the sizes of {base} are not known: its configuration cannot be read: {reason}") from error
    return sizes_by(config)


def sizes_by(config: PreTrainedConfig) -> ModelSizes:
    """The sizes of the model that a configuration describes; it is built on the meta device."""
    import torch

    from inference.model.loading import model_without_weights

    model = model_without_weights(config)
    text = model.config.get_text_config()
    heads = text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // heads
    counts = {name: p.numel() for name, p in model.named_parameters()}
    vision = sum(number for name, number in counts.items() if ".visual." in name or ".vision" in name)
    embedding = text.vocab_size * text.hidden_size
    is_tied = getattr(text, "tie_word_embeddings", getattr(model.config, "tie_word_embeddings", True))
    language = model.num_parameters() - vision - (0 if is_tied else embedding)
    own_norms = any(name.endswith("q_norm.weight") for name in counts)
    query, key = heads * head, (getattr(text, "num_key_value_heads", None) or heads) * head
    vision_config = getattr(model.config, "vision_config", text)
    linears = tuple(
        (name.rpartition(".")[2], layer.in_features, layer.out_features)
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and (".language_model." in name or ".text_model." in name)
    )
    return ModelSizes(
        parameters=model.num_parameters(),
        language_parameters=language,
        vision_parameters=vision,
        vision_hidden=getattr(vision_config, "embed_dim", None) or vision_config.hidden_size,
        vision_intermediate=getattr(vision_config, "intermediate_size", None) or 4 * vision_config.hidden_size,
        pixels_per_token=_pixels_per_token(vision_config),
        hidden=text.hidden_size,
        layers=text.num_hidden_layers,
        intermediate=text.intermediate_size,
        norm_width=2 * text.hidden_size + (query + key if own_norms else 0),
        query_width=query,
        kv_width=key,
        vocabulary=text.vocab_size,
        linears=linears,
    )


def _pixels_per_token(vision: PreTrainedConfig) -> int:
    """Patches are squares of `patch_size`, and squares of `spatial_merge_size` patches become a token."""
    return (getattr(vision, "patch_size", 14) * getattr(vision, "spatial_merge_size", 2)) ** 2
