"""Models of real shapes with random weights: what they cost can be measured where no weights can be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, Qwen2_5_VLConfig

from inference.common.settings import STARTER
from inference.engine.engine import Engine
from inference.engine.fast_paths import PLAIN, FastPaths

PICTURE_TOKENS = {"qwen2.5-vl-3b": 400, "qwen2.5-vl-small": 100}
"""With 400 a prompt has about 500 tokens."""
SHAPES: dict[str, dict[str, Any]] = {
    "qwen2.5-vl-3b": {
        "text_config": {
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "vocab_size": 151936,
            "max_position_embeddings": 128000,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        "vision_config": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 2048,
            "patch_size": 14,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
        "tie_word_embeddings": True,
    },
    "qwen2.5-vl-small": {
        "text_config": {
            "hidden_size": 256,
            "intermediate_size": 1024,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 4096,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
        },
        "vision_config": {
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 192,
            "num_heads": 2,
            "out_hidden_size": 256,
            "patch_size": 14,
            "window_size": 112,
            "fullatt_block_indexes": [1],
        },
        "tie_word_embeddings": True,
    },
}
"""As the models' own config.json gives them; the small one is no one's model, and goes where no GPU is."""


def build(shape: str) -> Engine:
    """The starter itself, or an engine with the starter's tokenizer on a model of that shape in bf16 (8 GB for 3B).

    On CUDA it takes every fast path, also those that the doctor has not tried.
    """
    if shape == "starter":
        return Engine.load(STARTER)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, processor = _make(shape, device)
    fast = FastPaths(True, True, True) if device == "cuda" else PLAIN
    return Engine(model, processor, shape, fast=fast)


def write(shape: str, folder: Path) -> None:
    """The same as a folder that is loaded like any base: 8 GB for 3B."""
    model, processor = _make(shape, "cuda" if torch.cuda.is_available() else "cpu")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _make(shape: str, device: str) -> tuple[Any, Any]:
    processor = AutoProcessor.from_pretrained(STARTER)
    pixels = 28 * 28 * PICTURE_TOKENS[shape]
    processor.image_processor.size = {"shortest_edge": pixels, "longest_edge": pixels}
    starter = AutoModelForImageTextToText.from_pretrained(STARTER)
    ids = {key: value for key, value in starter.config.to_dict().items() if key.endswith("_token_id")}
    own = starter.config.get_text_config()
    ends = {"bos_token_id": None, "eos_token_id": own.eos_token_id, "pad_token_id": own.pad_token_id}
    parts = SHAPES[shape]
    config = Qwen2_5_VLConfig(**parts | {"text_config": parts["text_config"] | ends}, **ids)
    with torch.device(device):
        model = _unfilled(config)
    model.generation_config = starter.generation_config
    return model, processor


def _unfilled(config: Any) -> Any:
    """A model whose matrices are small random numbers: transformers' own way to begin takes minutes on a CPU."""
    from transformers.initialization import no_init_weights

    with no_init_weights():
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    model.tie_weights()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.fill_(1.0 if "norm" in name else 0.0)
            else:
                parameter.uniform_(-0.02, 0.02)
    return model
