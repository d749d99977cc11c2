"""Log-probabilities of completions with less work than a pass over every row: each group's prompt is read once.

A row's log-probabilities need its prompt's keys and values, which the rows of a group have in common. So there is one
pass over the different prompts, and one over the completions, which attend to their own prompt's cache; gradients flow
through both. Completions go in passes of similar length, each trimmed to its longest. The mathematics is the model's
own forward, and TRL's head on it.

On a CPU, query heads that share keys are put one below the other (`grouped_attention`): transformers' own attention
copies keys and values for each query head if there is a mask, and sums over the copies in the backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from transformers import DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from inference.engine.attention import use_attention
from inference.model.families import Family, ImageEncoding, tower_output

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_WASTE = 0.25
"""Share of a pass that its shortest row may leave empty."""
FEWEST_ROWS = 8
"""Rows of a pass at least, where there are as many: small passes leave a device idle."""
GROUPED_ATTENTION = "sdpa_grouped_queries"
"""Name of the attention in transformers' interface."""
_UNSUPPORTED = ("position_bias", "cache", "softcap")
"""Options of some models that `grouped_attention` leaves to transformers."""


@dataclass(frozen=True)
class Scored:
    """The inputs of TRL's loss."""

    log_probs: torch.Tensor
    """(B, C), 0 where there is no token."""
    entropies: torch.Tensor
    """(B, C), the same."""


@dataclass(frozen=True)
class Passes:
    """Runs a model over prompts with pictures and their completions."""

    family: Family
    image_token: int
    share_prompts: bool = True
    """One pass over the different prompts; needs a cache, which gradient checkpointing does not allow."""

    def __call__(
        self, model: nn.Module, ids: torch.Tensor, mask: torch.Tensor, length: int, pictures: Sequence[ImageEncoding]
    ) -> Scored:
        """Score the last `length` tokens of `ids` (B, P + C): left-padded prompts, right-padded completions."""
        rows = _Rows(ids[:, :-length], mask[:, :-length], ids[:, -length:], mask[:, -length:], list(pictures))
        prompt_of, firsts = rows.groups()
        if not self.share_prompts or len(firsts) == len(prompt_of):
            return self._whole(model, rows)
        prompts = rows.take(firsts)
        positions = self._positions(prompts.prompt_ids, prompts.prompt_mask, prompts.pictures)  # (…, D, P)
        cache = model(
            input_ids=prompts.prompt_ids[:, :-1],
            attention_mask=prompts.prompt_mask[:, :-1],
            position_ids=positions[..., :-1],
            mm_encoder_outputs={"image": tower_output(prompts.pictures)},
            use_cache=True,
            logits_to_keep=1,
        ).past_key_values
        starts = self.family.next_positions(positions) - 1  # (…, D, 1), of each prompt's last token
        parts = split_by_length(rows.completion_mask.sum(1).tolist())
        scored = [self._completions(model, rows.take(part), prompt_of[part], cache, starts) for part in parts]
        return _join(scored, parts, length)

    def _completions(
        self, model: nn.Module, rows: _Rows, prompt_of: torch.Tensor, cache: DynamicCache, starts: torch.Tensor
    ) -> Scored:
        """Completions after the caches of their prompts; each begins with its prompt's last token."""
        unwrapped: Any = getattr(model, "module", model)  # a parallel wrapper has no `config`
        own, layers = DynamicCache(config=unwrapped.config), cast(Any, cache.layers)
        for i, layer in enumerate(layers):
            own.update(layer.keys[prompt_of], layer.values[prompt_of], i)
        steps = torch.arange(rows.completion_ids.shape[1], device=prompt_of.device)
        return _score(
            model,
            rows.labels(),
            input_ids=torch.cat([rows.prompt_ids[:, -1:], rows.completion_ids[:, :-1]], dim=1),  # (B, C)
            attention_mask=torch.cat([rows.prompt_mask, rows.completion_mask[:, :-1]], dim=1),  # (B, P - 1 + C)
            position_ids=starts[..., prompt_of, :] + steps,
            past_key_values=own,
        )

    def _whole(self, model: nn.Module, rows: _Rows) -> Scored:
        """One pass over prompts and completions."""
        ids = torch.cat([rows.prompt_ids, rows.completion_ids], dim=1)  # (B, P + C)
        mask = torch.cat([rows.prompt_mask, rows.completion_mask], dim=1)
        labels = torch.full_like(ids, -100)
        length = rows.completion_ids.shape[1]
        labels[:, -length - 1 : -1] = rows.labels()
        scored = _score(
            model,
            labels,
            input_ids=ids,
            attention_mask=mask,
            position_ids=self._positions(ids, mask, rows.pictures),
            mm_encoder_outputs={"image": tower_output(rows.pictures)},
        )
        return Scored(*(part[:, -length - 1 : -1] for part in (scored.log_probs, scored.entropies)))

    def _positions(self, ids: torch.Tensor, mask: torch.Tensor, pictures: Sequence[ImageEncoding]) -> torch.Tensor:
        return self.family.positions(ids.cpu(), mask.cpu().bool(), self.image_token, pictures).to(ids.device)


def split_by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Rows in passes, the longest first: one ends where the next row would leave more than `MOST_WASTE` of it empty.

    >>> split_by_length([3] * 8 + [90] * 8) == [list(range(8, 16)), list(range(8))]
    True
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    parts: list[list[int]] = []
    for number, row in enumerate(order):
        is_enough = parts and len(parts[-1]) >= FEWEST_ROWS and len(order) - number >= FEWEST_ROWS
        if not parts or is_enough and lengths[row] < (1 - MOST_WASTE) * lengths[parts[-1][0]]:
            parts.append([])
        parts[-1].append(row)
    return parts


@dataclass(frozen=True)
class _Rows:
    prompt_ids: torch.Tensor
    """(B, P), padded on the left."""
    prompt_mask: torch.Tensor
    completion_ids: torch.Tensor
    """(B, C), padded on the right."""
    completion_mask: torch.Tensor
    pictures: list[ImageEncoding]

    def take(self, rows: Sequence[int]) -> _Rows:
        """Some of them, trimmed on the right; the prompts keep their padding, since caches are cut to it."""
        index = list(rows)
        last = max(1, int(self.completion_mask[index].sum(1).max()))
        return _Rows(
            self.prompt_ids[index],
            self.prompt_mask[index],
            self.completion_ids[index, :last],
            self.completion_mask[index, :last],
            [self.pictures[i] for i in index],
        )

    def groups(self) -> tuple[torch.Tensor, list[int]]:
        """For each row the number of its prompt among the different ones (B,), and the first row of each of those."""
        numbers: dict[tuple[int, ...], int] = {}
        firsts: list[int] = []
        prompt_of = []
        for i, (ids, picture) in enumerate(zip(self.prompt_ids.tolist(), self.pictures)):
            key = (*ids, id(picture))
            if key not in numbers:
                numbers[key] = len(firsts)
                firsts.append(i)
            prompt_of.append(numbers[key])
        return torch.tensor(prompt_of, device=self.prompt_ids.device), firsts

    def labels(self) -> torch.Tensor:
        """(B, C), -100 where there is no token."""
        return self.completion_ids.masked_fill(self.completion_mask == 0, -100)


def _score(model: nn.Module, labels: torch.Tensor, **inputs: object) -> Scored:
    """Scores labels (B, T), each in the column that predicts it, by TRL's head at the run's temperature."""
    output = model(**inputs, shift_labels=labels, fused_lm_head=True)
    return Scored(output.log_probs, output.entropy)


def _join(scored: Sequence[Scored], parts: Sequence[Sequence[int]], length: int) -> Scored:
    """Passes as one batch in the order of its rows, padded with 0 to `length`."""
    order = torch.tensor([row for part in parts for row in part], device=scored[0].log_probs.device).argsort()

    def joined(tensors: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat([F.pad(t, (0, length - t.shape[1])) for t in tensors])[order]

    return Scored(joined([s.log_probs for s in scored]), joined([s.entropies for s in scored]))


def use_grouped_attention(decoder: PreTrainedModel) -> None:
    """Make a language model attend by `grouped_attention`."""
    use_attention(decoder, GROUPED_ATTENTION, grouped_attention)


def grouped_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Queries (B, N, T, width) over keys and values (B, heads, S, width); returns (B, T, N, width)."""
    batch, num_queries, length, width = query.shape
    heads = key.shape[1]
    is_plain = all(options.get(name) is None for name in _UNSUPPORTED)
    if attention_mask is None or attention_mask.shape[1] != 1 or heads == num_queries or not is_plain:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    stacked = query.reshape(batch, heads, -1, width)  # (B, heads, N / heads * T, width)
    mask = attention_mask.repeat(1, 1, num_queries // heads, 1)
    output = F.scaled_dot_product_attention(stacked, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)
    return output.view(batch, num_queries, length, width).transpose(1, 2).contiguous(), None
