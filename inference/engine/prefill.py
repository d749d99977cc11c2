"""Rows made ready, and the forward that reads them: prompts padded on the left, equal ones once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from inference.model.families import Family, ImageEncoding, tower_output
from inference.model.lora_layers import Adapter, Router, make_routes
from inference.model.request import Row
from inference.model.tokenizer import Vocabulary


@dataclass(frozen=True)
class Prompt:
    """A row made ready: its token ids end with those of the row's prefix."""

    row: Row
    ids: tuple[int, ...]
    num_prefix_tokens: int
    image: ImageEncoding
    adapter: Adapter | None

    @property
    def key(self) -> tuple:
        """Equal for rows that share their prefill."""
        return self.ids, id(self.image), id(self.adapter)


@dataclass(frozen=True)
class Prefill:
    """What prompts came to; they are P distinct ones, padded to T, for B rows."""

    logits: torch.Tensor
    """(B, V), of the first new token of each row."""
    positions: torch.Tensor
    """(…, B, 1), of the first new token."""
    states: list[tuple[torch.Tensor, torch.Tensor]]
    """By layer the P prompts' keys and values (P, heads, T, width), zero where they are padded."""
    sources: torch.Tensor
    """(B,), which of the P prompts a row has."""
    length: int
    """T."""


def prefill(model: Any, family: Family, router: Router, vocabulary: Vocabulary, prompts: Sequence[Prompt]) -> Prefill:
    """Read the prompts of B rows, each distinct one once."""
    place: dict[tuple, int] = {}
    for prompt in prompts:
        place.setdefault(prompt.key, len(place))
    distinct = list({prompt.key: prompt for prompt in prompts}.values())
    ids, mask = _pad(distinct, vocabulary.pad)  # (P, T), (P, T)
    images = [prompt.image for prompt in distinct]
    positions = family.positions(ids, mask, vocabulary.image, images).to(model.device)  # (…, P, T)
    is_dense = bool(mask.all())
    ids, mask = ids.to(model.device), mask.to(model.device)
    router.use(make_routes([prompt.adapter for prompt in distinct], model.device))
    cache = DynamicCache(config=model.config)
    try:
        logits = model(
            input_ids=ids,
            attention_mask=None if is_dense else mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            mm_encoder_outputs={"image": tower_output(images)},
            logits_to_keep=1,
        ).logits[:, -1]  # (P, V)
    finally:
        router.use({})  # no adapter is kept, also where there was no memory for this
    layers: Any = cache.layers
    states = [(layer.keys, layer.values) for layer in layers]
    if not is_dense:
        padding = ~mask[:, None, :, None]
        for tensor in itertools.chain(*states):
            tensor.masked_fill_(padding, 0)
    sources = torch.tensor([place[prompt.key] for prompt in prompts], device=model.device)
    following = family.next_positions(positions)[..., sources, :]
    return Prefill(logits[sources], following, states, sources, ids.shape[1])


def _pad(prompts: Sequence[Prompt], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Left-padded ids (P, T) and their mask (P, T, bool), on the CPU."""
    longest = max(len(prompt.ids) for prompt in prompts)
    ids = torch.full((len(prompts), longest), pad)
    mask = torch.zeros(len(prompts), longest, dtype=torch.bool)
    for i, prompt in enumerate(prompts):
        ids[i, longest - len(prompt.ids) :] = torch.tensor(prompt.ids)
        mask[i, longest - len(prompt.ids) :] = True
    return ids, mask
