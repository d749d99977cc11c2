"""Engines on models of real shapes with random weights: what they cost can be measured where no weights can be had."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, Qwen2_5_VLConfig

from inference.engine import Engine
from inference.settings import STARTER, load_settings

PROMPT_PIXELS = 28 * 28 * 400
"""Of a picture: with them a prompt has about 500 tokens."""
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
}
"""As the models' own config.json gives them."""


def build(shape: str) -> Engine:
    """The starter itself, or an engine with the starter's tokenizer on a model of that shape in bf16 (8 GB for 3B).

    `LOOKTHINK_CUDA_GRAPHS=1` captures the decode step on CUDA, as for the app.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    has_graphs = device == "cuda" and load_settings().cuda_graphs
    if shape == "starter":
        return Engine.load(STARTER, cuda_graphs=has_graphs)
    processor = AutoProcessor.from_pretrained(STARTER)
    processor.image_processor.size = {"shortest_edge": PROMPT_PIXELS, "longest_edge": PROMPT_PIXELS}
    starter = AutoModelForImageTextToText.from_pretrained(STARTER)
    ids = {key: value for key, value in starter.config.to_dict().items() if key.endswith("_token_id")}
    config = Qwen2_5_VLConfig(**SHAPES[shape], **ids)
    with torch.device(device):
        model = _unfilled(config)
    model.generation_config = starter.generation_config
    return Engine(model, processor, shape, static_steps=has_graphs)


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
