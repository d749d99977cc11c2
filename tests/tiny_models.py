"""Tiny models with random weights, one of each family, saved with processor and tokenizer as a base is published.

The weights are drawn large, so that what such a model says depends on its picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    SmolVLMVideoProcessor,
)

from inference.format import DIRECT_PROMPT, THINK_PROMPT
from tests.samples import problems
from training.starter import CHAT_TEMPLATE, train_tokenizer

SMALL_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.3,
}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
TILE = 32
"""Pixels of a side of SmolVLM's tiles: 4 x 4 patches, 4 tokens."""
SMOL_TEMPLATE = """\
<|im_start|>{% for message in messages %}{{ message.role | capitalize }}\
{% if message.content[0].type == 'image' %}:{% else %}: {% endif %}\
{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% else %}<image>{% endif %}{% endfor %}\
<end_of_utterance>
{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"""


def build_tiny(family: str, folder: Path, seed: int = 0) -> Path:
    """Save a model of the family (a `model_type`) in `folder`; returns it."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer([THINK_PROMPT, DIRECT_PROMPT] + [p.problem for p in problems(40, seed=3)])
    build = _build_smol if family in ("idefics3", "smolvlm") else _build_qwen
    model, processor = build(family, tokenizer)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _build_qwen(family: str, tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    ids = tokenizer.get_vocab()
    tokens = {f"{name}_token_id": ids[f"<|{word}|>"] for name, word in _QWEN_TOKENS.items()}
    tail = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    text = SMALL_TEXT | tail | {"vocab_size": len(tokenizer), "rope_parameters": MROPE}
    vision = {"depth": 2, "num_heads": 2, "in_channels": 3, "initializer_range": 0.3, "hidden_size": 16}
    patch, windows = 14, {"window_size": 56, "fullatt_block_indexes": [1]}
    if family == "qwen2_vl":
        vision |= {"embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2}
        config: Any = Qwen2VLConfig(text_config=text, vision_config=vision, **tokens)
        model: Any = Qwen2VLForConditionalGeneration(config)
    elif family == "qwen2_5_vl":
        vision |= windows | {"intermediate_size": 24, "out_hidden_size": 32}
        model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision, **tokens))
    else:
        patch = 16
        text |= {"head_dim": 8, "rope_parameters": MROPE | {"mrope_interleaved": True}}
        vision |= {"intermediate_size": 24, "out_hidden_size": 32, "num_position_embeddings": 64}
        vision |= {"deepstack_visual_indexes": [0, 1]}
        experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
        if family == "qwen3_vl":
            model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=vision, **tokens))
        else:
            moe = Qwen3VLMoeConfig(text_config=text | experts, vision_config=vision, **tokens)
            model = Qwen3VLMoeForConditionalGeneration(moe)
    size = {"shortest_edge": (4 * patch) ** 2, "longest_edge": (12 * patch) ** 2}
    images = Qwen2VLImageProcessor(size=size, patch_size=patch)
    videos = Qwen2VLVideoProcessor if patch == 14 else Qwen3VLVideoProcessor
    kind = {"qwen2_vl": Qwen2VLProcessor, "qwen2_5_vl": Qwen2_5_VLProcessor}.get(family, Qwen3VLProcessor)
    return model, kind(images, tokenizer, videos(size=size, patch_size=patch), chat_template=CHAT_TEMPLATE)


_QWEN_TOKENS = {
    "image": "image_pad",
    "video": "video_pad",
    "vision_start": "vision_start",
    "vision_end": "vision_end",
}


def _build_smol(family: str, tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    tiles = [f"<row_{i}_col_{j}>" for i in range(1, 5) for j in range(1, 5)]
    special = ["<image>", "<fake_token_around_image>", "<global-img>", *tiles]
    tokenizer.add_special_tokens({"eos_token": "<end_of_utterance>", "additional_special_tokens": special})
    text = SMALL_TEXT | {"model_type": "llama", "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    text |= {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": TILE, "patch_size": TILE // 4, "initializer_range": 0.3}
    common = {"text_config": text, "vision_config": vision, "scale_factor": 2}
    common |= {"image_token_id": tokenizer.convert_tokens_to_ids("<image>"), "pad_token_id": tokenizer.pad_token_id}
    sizes = {"size": {"longest_edge": 4 * TILE}, "max_image_size": {"longest_edge": TILE}}
    if family == "idefics3":
        model: Any = Idefics3ForConditionalGeneration(Idefics3Config(**common))
        images = Idefics3ImageProcessor(**sizes)
        return model, Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=SMOL_TEMPLATE)
    from transformers import SmolVLMProcessor

    model = SmolVLMForConditionalGeneration(SmolVLMConfig(**common))
    videos = SmolVLMVideoProcessor(**sizes, video_sampling={"max_frames": 4, "fps": 1, "video_size": sizes["size"]})
    images = SmolVLMImageProcessor(**sizes)
    return model, SmolVLMProcessor(images, tokenizer, videos, image_seq_len=4, chat_template=SMOL_TEMPLATE)
