"""Attention of a decode step in which rows of a group read their prompt's keys and values once for all of them.

Rows with one prompt and one adapter that joined together have equal keys and values in the columns of their prompt.
A step of many rows takes as long as reading what they look at, so the prompt's part is read from one row of the group
and the queries of all of it are multiplied with that; the softmax then goes over both parts, as ever. transformers'
attention interface has the function under a name (`use_groups`), and everything else stays its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from inference.engine.attention_part import use_attention
from inference.engine.kv_cache import SlotCache, States
from inference.engine.sampler import Seat

NAME = "sdpa_groups"
"""Of the attention, in transformers' interface."""
WORTH_BYTES = 2**20
"""A layer has to be spared at least as much reading; less is in the processor's own cache anyway."""


@dataclass(frozen=True)
class Groups:
    """Rows in P groups, the largest of M rows, for as long as none comes or goes."""

    length: int
    """T, columns that the rows of each group have in common."""
    states: States
    """By layer the groups' keys and values in these columns, (P, heads, T, width)."""
    members: torch.Tensor | None
    """(P * M,) the rows of each group, smaller ones filled up with a row of theirs; `None` if that is their order."""
    places: torch.Tensor | None
    """(B,) where among `members` a row stands."""

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, heads, G, X) by row to (P, heads, M * G, X) by group."""
        ordered = rows if self.members is None else rows[self.members]
        by_group = ordered.unflatten(0, (len(self.states[0][0]), -1))  # (P, M, heads, G, X)
        return by_group.transpose(1, 2).flatten(2, 3)

    def scatter(self, groups: torch.Tensor, size: int) -> torch.Tensor:
        """The way back, with `size` for G."""
        by_row = groups.unflatten(2, (-1, size)).transpose(1, 2)  # (P, M, heads, G, X)
        ordered = by_row.flatten(0, 1)
        return ordered if self.places is None else ordered[self.places]


def find_groups(seats: Sequence[Seat], cache: SlotCache, low: int) -> Groups | None:
    """The groups among rows that look at columns from `low` on; `None` where that spares too little."""
    found: dict[tuple, list[int]] = {}
    for place, seat in enumerate(seats):
        found.setdefault((seat.born, seat.prompt.key), []).append(place)
    length = min(seat.start + len(seat.prompt.ids) for seat in seats) - low
    most = max(map(len, found.values()))
    spared = (len(seats) - len(found)) * length * cache.column_bytes
    if spared < WORTH_BYTES or len(found) * most > 2 * len(seats):
        return None
    states = cache.part([rows[0] for rows in found.values()], low, low + length)
    members = [rows[i] if i < len(rows) else rows[0] for rows in found.values() for i in range(most)]
    if members == list(range(len(seats))):
        return Groups(length, states, None, None)
    places = [members.index(place) for place in range(len(seats))]
    device = states[0][0].device
    return Groups(length, states, torch.tensor(members, device=device), torch.tensor(places, device=device))


def use_groups(decoder: Any) -> None:
    """Let a language model take `groups` in its forward; without them it does what it did."""
    use_attention(decoder, NAME, attend)


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    groups: Groups | None = None,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attention of queries (B, N, 1, width) over all columns of keys and values (B, heads, T + S, width).

    The mask is added to the scores; (B, 1, N, width) comes out, as from transformers' own.
    """
    if groups is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    num_rows, heads, _, width = query.shape
    split, size = groups.length, heads // key.shape[1]
    query = (query * (width**-0.5 if scaling is None else scaling)).reshape(num_rows, -1, size, width)
    layer: Any = module.layer_idx
    keys, values = groups.states[layer]
    common = groups.gather(query) @ keys.transpose(2, 3)  # (P, heads, M * G, T)
    own = query @ key[:, :, split:].transpose(2, 3)  # (B, heads, G, S)
    scores = torch.cat([groups.scatter(common, size), own], dim=-1)  # (B, heads, G, T + S)
    if attention_mask is not None:
        scores += attention_mask
    shares = scores.softmax(dim=-1)
    read = groups.scatter(groups.gather(shares[..., :split]) @ values, size)  # (B, heads, G, width)
    read += shares[..., split:] @ value[:, :, split:]
    return read.reshape(num_rows, 1, heads, width), None
