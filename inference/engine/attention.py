"""Attention of a decode step that reads the keys and values of a shared prompt once for all sequences of a group.

Sequences with one prompt and one adapter that joined together have equal keys and values in their prompt's columns. A
step of many rows takes as long as reading its keys and values does. So the prompt's part is read from one row of each
group and multiplied with the queries of the whole group; the softmax then covers both parts as usual.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from inference.engine.kv_cache import KeyValues, KVCache
from inference.engine.sequence import PrefixKey, Sequence

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "sdpa_groups"
"""The attention's name in transformers' interface."""
MIN_SPARED_BYTES = 2**20
"""Reading that groups must spare per layer; less is in the processor's own cache anyway."""


@dataclass(frozen=True)
class PromptGroups:
    """Rows in P groups by prompt, the largest of M rows. Valid until a row comes or goes."""

    length: int
    """T, columns that the rows of each group have in common."""
    states: KeyValues
    """By layer the groups' keys and values in these columns, (P, heads, T, width)."""
    members: torch.Tensor | None
    """(P * M,) the rows of each group, smaller groups filled up with one of theirs; `None` for the rows' own order."""
    positions: torch.Tensor | None
    """(B,) where a row stands among `members`."""

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, heads, G, X) by row to (P, heads, M * G, X) by group."""
        ordered = rows if self.members is None else rows[self.members]
        by_group = ordered.unflatten(0, (len(self.states[0][0]), -1))  # (P, M, heads, G, X)
        return by_group.transpose(1, 2).flatten(2, 3)

    def scatter(self, groups: torch.Tensor, size: int) -> torch.Tensor:
        """The inverse of `gather`, with `size` for G."""
        by_row = groups.unflatten(2, (-1, size)).transpose(1, 2)  # (P, M, heads, G, X)
        ordered = by_row.flatten(0, 1)
        return ordered if self.positions is None else ordered[self.positions]


def find_prompt_groups(sequences: list[Sequence], cache: KVCache, low: int) -> PromptGroups | None:
    """The groups among rows that look at columns from `low` on; `None` where grouping spares too little."""
    rows_of: dict[tuple[int, PrefixKey], list[int]] = {}
    for row, sequence in enumerate(sequences):
        rows_of.setdefault((sequence.first_step, sequence.prefix_key), []).append(row)
    length = min(sequence.start + len(sequence.prompt_ids) for sequence in sequences) - low
    largest = max(map(len, rows_of.values()))
    spared = (len(sequences) - len(rows_of)) * length * cache.column_bytes
    if spared < MIN_SPARED_BYTES or len(rows_of) * largest > 2 * len(sequences):
        return None
    states = cache.copy_of([rows[0] for rows in rows_of.values()], low, low + length)
    members = [rows[i] if i < len(rows) else rows[0] for rows in rows_of.values() for i in range(largest)]
    if members == list(range(len(sequences))):
        return PromptGroups(length, states, None, None)
    positions = [members.index(row) for row in range(len(sequences))]
    device = states[0][0].device
    return PromptGroups(length, states, torch.tensor(members, device=device), torch.tensor(positions, device=device))


def use_attention(decoder: PreTrainedModel, name: str, attend: Callable[..., Any]) -> None:
    """Make a language model attend by `attend`, registered with transformers as `name`, with SDPA's masks."""
    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, sdpa_mask)
    decoder.set_attn_implementation(name)


def use_prompt_groups(decoder: PreTrainedModel) -> None:
    """Make a language model's forward accept `groups`; without them it attends as before."""
    use_attention(decoder, NAME, attend)


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    groups: PromptGroups | None = None,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attention of queries (B, N, 1, width) over all columns of keys and values (B, heads, T + S, width).

    The mask is added to the scores. Returns (B, 1, N, width), as transformers' own attention does.
    """
    if groups is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    num_rows, heads, _, width = query.shape
    split, size = groups.length, heads // key.shape[1]
    query = (query * (width**-0.5 if scaling is None else scaling)).reshape(num_rows, -1, size, width)
    keys, values = groups.states[cast(int, module.layer_idx)]
    common = groups.gather(query) @ keys.transpose(2, 3)  # (P, heads, M * G, T)
    own = query @ key[:, :, split:].transpose(2, 3)  # (B, heads, G, S)
    scores = torch.cat([groups.scatter(common, size), own], dim=-1)  # (B, heads, G, T + S)
    if attention_mask is not None:
        scores += attention_mask
    shares = scores.softmax(dim=-1)
    output = groups.scatter(groups.gather(shares[..., :split]) @ values, size)  # (B, heads, G, width)
    output += shares[..., split:] @ value[:, :, split:]
    return output.reshape(num_rows, 1, heads, width), None
