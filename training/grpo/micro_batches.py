"""Rows of the batch that TRL's loss is computed on: some of them alone, or some groups replaced by others.

A batch is a dictionary of tensors (B, …), left-padded prompts and right-padded completions, and lists of B entries: the
pictures are split by row, as TRL's `split_pixel_values_by_grid` does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

Batch = dict[str, Any]
_WHOLE = ("token_type_ids", "mm_token_type_ids")
"""Over prompt and completion; the others are over one of them."""


def select_rows(batch: Batch, rows: Sequence[int]) -> Batch:
    """Some rows, with their pictures, trimmed to their own longest prompt and completion."""
    size = len(batch["advantages"])
    picked: Batch = {}
    for name, value in batch.items():
        if isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == size:
            picked[name] = value[list(rows)]
        elif isinstance(value, list) and len(value) == size:
            picked[name] = [value[i] for i in rows]
        else:
            picked[name] = value  # a figure of the whole batch
    return _trim(picked)


def replace_groups(batch: Batch, fresh: Batch, groups: Sequence[int], group_size: int, pad_token_id: int) -> Batch:
    """`batch` with its `groups` replaced by those groups of `fresh` that carry a signal, as far as there are any.

    `fresh` holds a candidate for each. The number of tokens that the loss divides by is counted anew.
    """
    alive = (fresh["advantages"].view(-1, group_size) != 0).any(1).nonzero()[:, 0].tolist()
    if not alive:
        return batch
    places = {group: new for group, new in zip(groups, alive)}
    size, new_size = len(batch["advantages"]), len(fresh["advantages"])
    prompt, completion = (max(b[f"{n}_ids"].shape[1] for b in (batch, fresh)) for n in ("prompt", "completion"))
    old, new = (_pad(part, prompt, completion, pad_token_id) for part in _even_tiles(batch, fresh))
    merged = dict(old)
    for name, value in old.items():
        if isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == size:
            merged[name] = value.clone()
        elif isinstance(value, list) and len(value) == size:
            merged[name] = list(value)
        else:
            continue
        assert len(new[name]) == new_size, name
        for group, candidate in places.items():
            for i in range(group_size):
                merged[name][group * group_size + i] = new[name][candidate * group_size + i]
    merged["num_items_in_batch"] = merged["completion_mask"].sum()
    return _trim(merged)


def arrange(batches: Sequence[Batch]) -> list[Batch]:
    """Micro-batches of the same sizes, of rows that belong together: rows of one prompt, of similar length.

    Each is trimmed to its own longest row. `batches` are those of one step, of equal size and width; groups without a
    signal come together, and so do the rows of the other kind, so that whole passes fall away.
    """
    size = len(batches[0]["advantages"])
    lengths = torch.cat([batch["completion_mask"].sum(1) for batch in batches]).tolist()
    advantages = torch.cat([batch["advantages"] for batch in batches]).tolist()
    number: dict[int, int] = {}
    keys = [number.setdefault(id(prompt), len(number)) for batch in batches for prompt in batch["rollout_prompts"]]
    longest: dict[int, tuple[bool, int]] = {}
    for key, length, advantage in zip(keys, lengths, advantages):
        alive, most = longest.get(key, (False, 0))
        longest[key] = alive or advantage != 0, max(most, length)
    order = sorted(range(len(keys)), key=lambda i: (*longest[keys[i]], keys[i], lengths[i], i), reverse=True)
    whole = _concatenate(batches)
    return [select_rows(whole, order[start : start + size]) for start in range(0, len(order), size)]


def _concatenate(batches: Sequence[Batch]) -> Batch:
    """Batches of one width as one; a figure of the whole step is in each of them, and stays one."""
    size = len(batches[0]["advantages"])
    whole: Batch = {}
    for name, value in batches[0].items():
        parts = [batch[name] for batch in batches]
        if isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == size:
            whole[name] = torch.cat(parts)
        elif isinstance(value, list) and len(value) == size:
            whole[name] = [item for part in parts for item in part]
        else:
            whole[name] = value
    return whole


def _trim(batch: Batch) -> Batch:
    """Without the columns that are padding in every row."""
    width = batch["prompt_mask"].shape[1]
    first = width - int(batch["prompt_mask"].sum(1).max())
    last = int(batch["completion_mask"].sum(1).max())
    trimmed = dict(batch)
    for name, value in batch.items():
        if name in ("prompt_ids", "prompt_mask"):
            trimmed[name] = value[:, first:]
        elif name in _WHOLE:
            trimmed[name] = value[:, first : width + last]
        elif _is_over_completion(name, value, batch):
            trimmed[name] = value[:, :last]
    return trimmed


def _pad(batch: Batch, prompt: int, completion: int, pad_token_id: int) -> Batch:
    """With padding to these widths."""
    left = prompt - batch["prompt_ids"].shape[1]
    right = completion - batch["completion_ids"].shape[1]
    padded = dict(batch)
    for name, value in batch.items():
        fill = pad_token_id if name in ("prompt_ids", "completion_ids") else 0
        if name in ("prompt_ids", "prompt_mask"):
            padded[name] = torch.nn.functional.pad(value, (left, 0), value=fill)
        elif name in _WHOLE:
            padded[name] = torch.nn.functional.pad(value, (left, right), value=fill)
        elif _is_over_completion(name, value, batch):
            padded[name] = torch.nn.functional.pad(value, (0, right), value=fill)
    return padded


def _even_tiles(*batches: Batch) -> list[Batch]:
    """Batches of pictures in tiles, (1, tiles, …) in a list or (B, tiles, …), with as many tiles in each.

    SmolVLM's processor fills up with blank tiles to the most of a batch, and its model leaves them out again.
    """
    if "pixel_attention_mask" not in batches[0]:
        return list(batches)
    most = max(batch["pixel_attention_mask"].shape[1] for batch in batches)
    return [
        batch
        | {"pixel_attention_mask": _more_tiles(batch["pixel_attention_mask"], most)}
        | {"pixel_values": [_more_tiles(pixels, most) for pixels in batch["pixel_values"]]}
        for batch in batches
    ]


def _more_tiles(tiles: torch.Tensor, number: int) -> torch.Tensor:
    blank = tiles.new_zeros(len(tiles), number - tiles.shape[1], *tiles.shape[2:])
    return torch.cat([tiles, blank], dim=1)


def _is_over_completion(name: str, value: Any, batch: Batch) -> bool:
    named = (
        name.startswith("completion_") or name.endswith("_logps") or name in ("tool_mask", "importance_sampling_ratio")
    )
    return named and isinstance(value, torch.Tensor) and value.shape == batch["completion_mask"].shape
