"""Where a model attends by a function of ours: transformers' attention interface has it under a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask


def use_attention(decoder: Any, name: str, attend: Callable[..., Any]) -> None:
    """Let a language model attend by `attend`, which takes the masks of torch's attention; all else stays its own."""
    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, sdpa_mask)
    decoder.set_attn_implementation(name)
