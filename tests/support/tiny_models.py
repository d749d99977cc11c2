"""Tiny models with random weights, one of each family, saved with processor and tokenizer as a base is published.

The weights are drawn large, so that what such a model says depends on its picture.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from inference.model.families import FAMILIES
from inference.prompt.format import DIRECT_PROMPT, THINK_PROMPT
from tests.support.samples import problems
from training.starter.model import CHAT_TEMPLATE, train_tokenizer

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.3,
}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
QWEN_TOKENS = {
    "image": "image_pad",
    "video": "video_pad",
    "vision_start": "vision_start",
    "vision_end": "vision_end",
}
SMOL = ("idefics3", "smolvlm")
TILE = 32
"""Pixels of a side of SmolVLM's tiles: 4 x 4 patches, 4 tokens."""
SMOL_TEMPLATE = """\
<|im_start|>{% for message in messages %}{{ message.role | capitalize }}\
{% if message.content[0].type == 'image' %}:{% else %}: {% endif %}\
{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% else %}<image>{% endif %}{% endfor %}\
<end_of_utterance>
{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"""


needs_num2words = pytest.mark.skipif(
    importlib.util.find_spec("num2words") is None, reason="the processor of SmolVLM2 needs the package num2words"
)
TINY = [pytest.param(family, marks=needs_num2words if family == "smolvlm" else ()) for family in FAMILIES]
"""The families, as parameters of a test."""


def build_tiny(family: str, folder: Path, seed: int = 0) -> Path:
    """Save a model of the family (a `model_type`) and its processor in `folder`; returns it."""
    torch.manual_seed(seed)
    processor = build_tiny_processor(family)
    model = _smol_model(family, processor) if family in SMOL else _qwen_model(family, processor.tokenizer)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def build_tiny_processor(family: str) -> Any:
    """The family's processor, with a byte-level tokenizer of its own."""
    tokenizer = train_tokenizer([THINK_PROMPT, DIRECT_PROMPT] + [p.problem for p in problems(40, seed=3)])
    return _smol_processor(family, tokenizer) if family in SMOL else _qwen_processor(family, tokenizer)


def _qwen_processor(family: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    kind, videos, patch = {
        "qwen2_vl": (Qwen2VLProcessor, Qwen2VLVideoProcessor, 14),
        "qwen2_5_vl": (Qwen2_5_VLProcessor, Qwen2VLVideoProcessor, 14),
    }.get(family, (Qwen3VLProcessor, Qwen3VLVideoProcessor, 16))
    size = {"shortest_edge": (4 * patch) ** 2, "longest_edge": (12 * patch) ** 2}
    images = Qwen2VLImageProcessor(size=size, patch_size=patch)
    return kind(images, tokenizer, videos(size=size, patch_size=patch), chat_template=CHAT_TEMPLATE)


def _qwen_model(family: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    ids = tokenizer.get_vocab()
    tokens = {f"{name}_token_id": ids[f"<|{word}|>"] for name, word in QWEN_TOKENS.items()}
    text = TEXT | _ends(tokenizer) | {"rope_parameters": MROPE}
    vision = {"depth": 2, "num_heads": 2, "in_channels": 3, "initializer_range": 0.3, "hidden_size": 16}
    if family == "qwen2_vl":
        vision |= {"embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2}
        config: Any = Qwen2VLConfig(text_config=text, vision_config=vision, **tokens)
        return Qwen2VLForConditionalGeneration(config)
    vision |= {"intermediate_size": 24, "out_hidden_size": 32}
    if family == "qwen2_5_vl":
        vision |= {"window_size": 56, "fullatt_block_indexes": [1]}
        config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **tokens)
        return Qwen2_5_VLForConditionalGeneration(config)
    vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    text |= {"head_dim": 8, "rope_parameters": MROPE | {"mrope_interleaved": True}}
    if family == "qwen3_vl":
        return Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=vision, **tokens))
    text |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    return Qwen3VLMoeForConditionalGeneration(Qwen3VLMoeConfig(text_config=text, vision_config=vision, **tokens))


def _smol_processor(family: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    tiles = [f"<row_{i}_col_{j}>" for i in range(1, 5) for j in range(1, 5)]
    special = ["<image>", "<fake_token_around_image>", "<global-img>", *tiles]
    tokenizer.add_special_tokens({"eos_token": "<end_of_utterance>", "additional_special_tokens": special})
    sizes: dict[str, Any] = {"size": {"longest_edge": 4 * TILE}, "max_image_size": {"longest_edge": TILE}}
    options: dict[str, Any] = {"image_seq_len": 4, "chat_template": SMOL_TEMPLATE}
    if family == "idefics3":
        return Idefics3Processor(Idefics3ImageProcessor(**sizes), tokenizer, **options)
    frames = {"max_frames": 4, "fps": 1, "video_size": sizes["size"]}
    videos = SmolVLMVideoProcessor(**sizes, video_sampling=frames)
    return SmolVLMProcessor(SmolVLMImageProcessor(**sizes), tokenizer, videos, **options)


def _smol_model(family: str, processor: Any) -> Any:
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": TILE, "patch_size": TILE // 4, "initializer_range": 0.3}
    text = TEXT | _ends(processor.tokenizer) | {"model_type": "llama"}
    config = {"text_config": text, "vision_config": vision, "scale_factor": 2}
    config |= {"image_token_id": processor.image_token_id, "pad_token_id": processor.tokenizer.pad_token_id}
    if family == "idefics3":
        return Idefics3ForConditionalGeneration(Idefics3Config(**config))
    return SmolVLMForConditionalGeneration(SmolVLMConfig(**config))


def _ends(tokenizer: PreTrainedTokenizerFast) -> dict[str, int | None]:
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    return ends | {"vocab_size": len(tokenizer)}
