"""Attention of a loss on a CPU where several query heads share keys: their queries stand one below the other.

transformers' own copies the keys and values for each query head where there is a mask, and sums over the copies in the
backward. A test compares both.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from inference.engine.attention import use_attention

NAME = "sdpa_grouped_queries"
"""Of the attention, in transformers' interface."""
_MORE = ("position_bias", "cache", "softcap")
"""What some models ask of an attention beside a mask."""


def use_grouped_queries(decoder: Any) -> None:
    """Let a language model attend that way."""
    use_attention(decoder, NAME, attend)


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Queries (B, N, T, width) over keys and values (B, heads, S, width).

    (B, T, N, width) comes out, as from transformers' own.
    """
    batch, num_queries, length, width = query.shape
    heads = key.shape[1]
    is_plain = all(value is None for name, value in options.items() if name in _MORE)
    if attention_mask is None or attention_mask.shape[1] != 1 or heads == num_queries or not is_plain:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    together = query.reshape(batch, heads, -1, width)  # (B, heads, N / heads * T, width)
    mask = attention_mask.repeat(1, 1, num_queries // heads, 1)
    read = F.scaled_dot_product_attention(together, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)
    return read.view(batch, num_queries, length, width).transpose(1, 2).contiguous(), None
