"""Tiny random models of families that the engine does not know, saved with processor and tokenizer as bases are."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedTokenizerFast

from inference.prompt.format import DIRECT_PROMPT, THINK_PROMPT
from tests.support.samples import problems
from tests.support.tiny_models import MROPE, TEXT
from training.starter.model import CHAT_TEMPLATE, train_tokenizer

PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
"""What the starter's template writes for a picture."""
SIDE = {"height": 32, "width": 32}
"""Pixels of a tile: 4 x 4 patches."""
SIGLIP = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
SIGLIP |= {"image_size": 32, "patch_size": 8}
QWEN_VISION = {"depth": 2, "num_heads": 2, "hidden_size": 16, "intermediate_size": 24, "out_hidden_size": 32}


def _tokenizer(marker: str, **named: str) -> tuple[PreTrainedTokenizerFast, dict[str, Any]]:
    """A byte-level tokenizer with these special tokens by name, and the text settings that follow from it.

    `marker` is what the template writes for a picture.
    """
    plain = train_tokenizer([THINK_PROMPT, DIRECT_PROMPT] + [p.problem for p in problems(40, seed=3)])
    with tempfile.TemporaryDirectory() as folder:
        plain.save_pretrained(folder)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, extra_special_tokens=named)
    assert PICTURE in CHAT_TEMPLATE
    tokenizer.chat_template = CHAT_TEMPLATE.replace(PICTURE, marker)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    return tokenizer, TEXT | ends | {"vocab_size": len(tokenizer)}


def _qwen3_5() -> tuple[Any, Any]:
    tokenizer, text = _tokenizer(PICTURE)
    size = {"shortest_edge": 64**2, "longest_edge": 192**2}
    images = transformers.Qwen2VLImageProcessor(size=size, patch_size=16)
    videos = transformers.Qwen3VLVideoProcessor(size=size, patch_size=16)
    processor = transformers.Qwen3VLProcessor(images, tokenizer, videos, chat_template=tokenizer.chat_template)
    text |= {"head_dim": 8, "rope_parameters": MROPE | {"mrope_interleaved": True, "partial_rotary_factor": 1.0}}
    text |= {"layer_types": ["linear_attention", "full_attention", "full_attention"]}
    text |= {
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
    }
    names = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{word}|>") for name, word in names.items()}
    vision = QWEN_VISION | {"num_position_embeddings": 64}
    config = transformers.Qwen3_5Config(text_config=text, vision_config=vision, **ids)
    return transformers.Qwen3_5ForConditionalGeneration(config), processor


def _glm46v() -> tuple[Any, Any]:
    words = ("image", "video", "begin_of_image", "end_of_image", "begin_of_video", "end_of_video")
    marker = "<|begin_of_image|><|image|><|end_of_image|>"
    tokenizer, text = _tokenizer(marker, **{f"{word}_token": f"<|{word}|>" for word in words})
    size = {"shortest_edge": 64**2, "longest_edge": 112**2}
    images = transformers.Glm46VImageProcessor(size=size, patch_size=14)
    videos = transformers.Glm46VVideoProcessor(size=size, patch_size=14)
    processor = transformers.Glm46VProcessor(images, tokenizer, videos, chat_template=tokenizer.chat_template)
    text |= {"rope_parameters": MROPE | {"partial_rotary_factor": 1.0}}
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in words}
    config = transformers.Glm46VConfig(
        text_config=text,
        vision_config=QWEN_VISION | {"image_size": 56, "patch_size": 14},
        image_token_id=ids["image"],
        video_token_id=ids["video"],
        image_start_token_id=ids["begin_of_image"],
        image_end_token_id=ids["end_of_image"],
        video_start_token_id=ids["begin_of_video"],
        video_end_token_id=ids["end_of_video"],
    )
    return transformers.Glm46VForConditionalGeneration(config), processor


def _internvl() -> tuple[Any, Any]:
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    tokenizer, text = _tokenizer("<IMG_CONTEXT>", **named, video_token="<video>")
    images = transformers.GotOcr2ImageProcessor(size=SIDE, max_patches=3)
    videos = transformers.InternVLVideoProcessor(size=SIDE)
    template = tokenizer.chat_template
    processor = transformers.InternVLProcessor(images, tokenizer, videos, image_seq_length=4, chat_template=template)
    vision = SIGLIP | {"image_size": [32, 32], "patch_size": [8, 8]}
    ids = {"image_token_id": tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"), "image_seq_length": 4}
    config = transformers.InternVLConfig(text_config=text | {"model_type": "qwen2"}, vision_config=vision, **ids)
    return transformers.InternVLForConditionalGeneration(config), processor


def _llava_onevision() -> tuple[Any, Any]:
    tokenizer, text = _tokenizer("<image>", image_token="<image>", video_token="<video>")
    points = [[32, 32], [32, 64], [64, 32]]
    images = transformers.LlavaOnevisionImageProcessor(size=SIDE, image_grid_pinpoints=points)
    videos = transformers.LlavaOnevisionVideoProcessor(size=SIDE)
    options = {"num_image_tokens": 16, "vision_feature_select_strategy": "full"}
    template = tokenizer.chat_template
    processor = transformers.LlavaOnevisionProcessor(images, tokenizer, videos, chat_template=template, **options)
    config = transformers.LlavaOnevisionConfig(
        text_config=text | {"model_type": "qwen2"},
        vision_config=SIGLIP | {"model_type": "siglip_vision_model", "vision_use_head": False},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=points,
    )
    return transformers.LlavaOnevisionForConditionalGeneration(config), processor


def _gemma3() -> tuple[Any, Any]:
    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer, text = _tokenizer("<start_of_image>", **named)
    images = transformers.Gemma3ImageProcessor(size=SIDE, image_seq_length=4)
    template = tokenizer.chat_template
    processor = transformers.Gemma3Processor(images, tokenizer, chat_template=template, image_seq_length=4)
    text |= {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16}
    text |= {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
    config = transformers.Gemma3Config(
        text_config=text,
        vision_config=SIGLIP | {"model_type": "siglip_vision_model", "vision_use_head": False},
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
    )
    return transformers.Gemma3ForConditionalGeneration(config), processor


def _mistral3() -> tuple[Any, Any]:
    named = {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"}
    tokenizer, text = _tokenizer("[IMG]", **named)
    patch = {"height": 8, "width": 8}
    images = transformers.PixtralImageProcessor(size={"longest_edge": 64}, patch_size=patch)
    template = tokenizer.chat_template
    processor = transformers.PixtralProcessor(
        images, tokenizer, patch_size=8, spatial_merge_size=2, chat_template=template
    )
    config = transformers.Mistral3Config(
        text_config=text | {"model_type": "mistral", "head_dim": 8},
        vision_config=SIGLIP | {"model_type": "pixtral", "image_size": 64, "head_dim": 8},
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
    )
    return transformers.Mistral3ForConditionalGeneration(config), processor


PLAIN: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen3_5": _qwen3_5,
    "glm46v": _glm46v,
    "internvl": _internvl,
    "llava_onevision": _llava_onevision,
    "gemma3": _gemma3,
    "mistral3": _mistral3,
}
"""By `model_type`."""


def build_plain(family: str, folder: Path, seed: int = 0) -> Path:
    """Save a model of the family and its processor in `folder`; returns it. Its weights are drawn large, so that what
    it says depends on its picture."""
    torch.manual_seed(seed)
    model, processor = PLAIN[family]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
