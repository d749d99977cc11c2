"""Rows of the batch that TRL's loss is computed on: rows picked, groups replaced, micro-batches arranged and weighed.

A batch is a dictionary of tensors (B, …), left-padded prompts and right-padded completions, and lists of B entries.
The pictures are split by row, as TRL's `split_pixel_values_by_grid` does it. Other entries belong to the whole batch.

>>> weighted_mean([1.0, 4.0], [30, 10])
1.75
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from training.grading.advantages import NO_ADVANTAGE

if TYPE_CHECKING:
    from accelerate import Accelerator

Batch = dict[str, Any]
_WHOLE = ("token_type_ids", "mm_token_type_ids")
"""Entries over prompt and completion; the others are over one of them."""
TOKEN_METRICS = ("entropy", "kl", "clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean")
"""TRL's metrics that are means over a micro-batch's tokens; `kl` is there if beta is not 0."""


def has_signal(advantages: torch.Tensor) -> torch.Tensor:
    """For each row (B,) whether its advantage is more than the rounding of a sum."""
    return advantages.abs() > NO_ADVANTAGE


def select_rows(batch: Batch, rows: Sequence[int]) -> Batch:
    """Some rows, with their pictures, trimmed to their own longest prompt and completion."""
    selected = dict(batch)
    for name, value in batch.items():
        if _is_by_row(value, batch):
            selected[name] = value[list(rows)] if isinstance(value, torch.Tensor) else [value[i] for i in rows]
    prompt, completion = (int(selected[f"{part}_mask"].sum(1).max()) for part in ("prompt", "completion"))
    return _resize(selected, prompt, max(1, completion))  # 0 where all are truncated and masked


def replace_groups(batch: Batch, fresh: Batch, groups: Sequence[int], group_size: int, pad_token_id: int) -> Batch:
    """`batch` with its `groups` replaced by those groups of `fresh` that have a signal, as far as there are any.

    `fresh` has a candidate for each at least. The number of tokens that the loss divides by is counted anew.
    """
    alive = has_signal(fresh["advantages"]).view(-1, group_size).any(1).nonzero()[:, 0].tolist()
    if not alive:
        return batch
    size = len(batch["advantages"])
    rows = list(range(size))
    for group, candidate in zip(groups, alive):
        first = size + candidate * group_size
        rows[group * group_size : (group + 1) * group_size] = range(first, first + group_size)
    prompt, completion = (max(b[f"{part}_ids"].shape[1] for b in (batch, fresh)) for part in ("prompt", "completion"))
    parts = [_resize(part, prompt, completion, pad_token_id) for part in _even_tiles(batch, fresh)]
    merged = select_rows(_concatenate(parts), rows)
    merged["num_items_in_batch"] = merged["completion_mask"].sum()
    return merged


def arrange(batches: Sequence[Batch]) -> list[Batch]:
    """Micro-batches of the same sizes, of rows that belong together: rows of one prompt, of similar length.

    Each is trimmed to its own longest row. `batches` are those of one step, of equal size and width. Groups without a
    signal come together, and so do rows without one, so that whole passes can be left out.
    """
    size = len(batches[0]["advantages"])
    lengths = torch.cat([batch["completion_mask"].sum(1) for batch in batches]).tolist()
    advantages = torch.cat([batch["advantages"] for batch in batches]).tolist()
    numbers: dict[int, int] = {}
    groups = [numbers.setdefault(id(prompt), len(numbers)) for batch in batches for prompt in batch["rollout_prompts"]]
    ranks: dict[int, tuple[bool, int]] = {}
    """By group: whether it has a signal, and the length of its longest completion."""
    for group, length, advantage in zip(groups, lengths, advantages):
        is_alive, longest = ranks.get(group, (False, 0))
        ranks[group] = is_alive or abs(advantage) > NO_ADVANTAGE, max(longest, length)
    order = sorted(range(len(groups)), key=lambda i: (*ranks[groups[i]], groups[i], lengths[i], i), reverse=True)
    whole = _concatenate(batches)
    return [select_rows(whole, order[start : start + size]) for start in range(0, len(order), size)]


class TokenMeans:
    """Counts the tokens of micro-batches, and weighs TRL's metrics of each by them.

    TRL notes one mean for a micro-batch, over the tokens of all processes, and logs the plain mean of those since the
    last log. With micro-batches of unequal length (`arrange`) this is not the mean over the tokens.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._counts: list[torch.Tensor] = []

    def add(self, mask: torch.Tensor) -> None:
        """Count a micro-batch by its `completion_mask` (B, C), of the rows that its loss is computed on."""
        self._counts.append(mask.sum())

    @property
    def num_counts(self) -> int:
        """Micro-batches counted since the last log."""
        return len(self._counts)

    def drop_after(self, num: int) -> None:
        """Forget all counts but the first `num`: their micro-batches are computed again."""
        del self._counts[num:]

    def settle(self, metrics: MutableMapping[str, list[float]]) -> None:
        """Before TRL averages `metrics`: replace each list by one mean over all tokens since the last call.

        All processes call it together.
        """
        if not self._counts:
            return
        counts = self._accelerator.reduce(torch.stack(self._counts), reduction="sum").tolist()
        self._counts.clear()
        for name in TOKEN_METRICS:
            if name in metrics:
                metrics[name] = [weighted_mean(metrics[name], counts)]


def weighted_mean(values: Sequence[float], counts: Sequence[int]) -> float:
    """The mean by weights, without NaN as in TRL's own mean; NaN if there is no other value."""
    pairs = [(value, count) for value, count in zip(values, counts, strict=True) if not math.isnan(value)]
    if not pairs:
        return math.nan
    return sum(value * count for value, count in pairs) / max(1, sum(count for _, count in pairs))


def _is_by_row(value: object, batch: Batch) -> bool:
    """True for a tensor or a list with an entry for each row."""
    has_entries = value.ndim > 0 if isinstance(value, torch.Tensor) else isinstance(value, list)
    return has_entries and len(value) == len(batch["advantages"])  # type: ignore[arg-type]


def _concatenate(batches: Sequence[Batch]) -> Batch:
    """Batches of one width as one; entries of the whole step are taken from the first."""
    whole = dict(batches[0])
    for name, value in batches[0].items():
        if _is_by_row(value, batches[0]):
            parts = [batch[name] for batch in batches]
            is_tensor = isinstance(value, torch.Tensor)
            whole[name] = torch.cat(parts) if is_tensor else [entry for part in parts for entry in part]
    return whole


def _resize(batch: Batch, prompt: int, completion: int, pad_token_id: int = 0) -> Batch:
    """Prompts padded or cut on the left to `prompt` columns, completions on the right to `completion` columns."""
    pad_left = prompt - batch["prompt_mask"].shape[1]
    pad_right = completion - batch["completion_mask"].shape[1]
    resized = dict(batch)
    for name, value in batch.items():
        if name in ("prompt_ids", "prompt_mask"):
            widths = pad_left, 0
        elif name in _WHOLE:
            widths = pad_left, pad_right
        elif _is_over_completion(name, value, batch):
            widths = 0, pad_right
        else:
            continue
        if widths != (0, 0):
            fill = pad_token_id if name in ("prompt_ids", "completion_ids") else 0
            resized[name] = F.pad(value, widths, value=fill)
    return resized


def _even_tiles(*batches: Batch) -> list[Batch]:
    """Batches of pictures in tiles, (1, tiles, …) in a list or (B, tiles, …), with as many tiles in each.

    SmolVLM's processor adds blank tiles up to the most of a batch, and its model leaves them out again.
    """
    if "pixel_attention_mask" not in batches[0]:
        return list(batches)
    most = max(batch["pixel_attention_mask"].shape[1] for batch in batches)
    return [
        batch
        | {"pixel_attention_mask": _more_tiles(batch["pixel_attention_mask"], most)}
        | {"pixel_values": [_more_tiles(pixels, most) for pixels in _by_row(batch["pixel_values"])]}
        for batch in batches
    ]


def _by_row(pixels: torch.Tensor | list[torch.Tensor]) -> Sequence[torch.Tensor]:
    """TRL leaves tiles of rows with several pictures in one tensor (B, tiles, …)."""
    return pixels.split(1) if isinstance(pixels, torch.Tensor) else pixels


def _more_tiles(tiles: torch.Tensor, num_tiles: int) -> torch.Tensor:
    return F.pad(tiles, (0, 0) * (tiles.ndim - 2) + (0, num_tiles - tiles.shape[1]))


def _is_over_completion(name: str, value: object, batch: Batch) -> bool:
    has_name = name.startswith("completion_") or name.endswith("_logps")
    has_name = has_name or name in ("tool_mask", "importance_sampling_ratio")
    return has_name and isinstance(value, torch.Tensor) and value.shape == batch["completion_mask"].shape
