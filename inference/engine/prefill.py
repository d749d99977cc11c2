"""Prefill: one forward over the prompts of new sequences, padded on the left, equal prompts once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import DynamicCache

from inference.engine.sequence import PrefixKey, Sequence
from inference.model.families import Family, tower_output
from inference.model.lora_layers import Router, make_routes
from inference.model.tokenizer import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Prefill:
    """The result for B sequences with P distinct prompts, padded to T tokens."""

    logits: torch.Tensor
    """(B, V), of the first new token of each sequence."""
    positions: torch.Tensor
    """(…, B, 1), of the first new token."""
    states: list[tuple[torch.Tensor, torch.Tensor]]
    """By layer the P prompts' keys and values (P, heads, T, width), zero where they are padded."""
    sources: torch.Tensor
    """(B,), which of the P prompts a sequence has."""
    length: int
    """T."""


def prefill(
    model: PreTrainedModel, family: Family, router: Router, vocabulary: Vocabulary, sequences: list[Sequence]
) -> Prefill:
    """Read the prompts of B sequences, each distinct one once."""
    first_of: dict[PrefixKey, Sequence] = {}
    for sequence in sequences:
        first_of.setdefault(sequence.prefix_key, sequence)
    distinct = list(first_of.values())
    ids, mask = _pad(distinct, vocabulary.pad)  # (P, T), (P, T)
    images = [sequence.image for sequence in distinct]
    positions = family.positions(ids, mask, vocabulary.image, images).to(model.device)  # (…, P, T)
    is_dense = bool(mask.all())
    ids, mask = ids.to(model.device), mask.to(model.device)
    router.use(make_routes([sequence.adapter for sequence in distinct], model.device))
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
        router.use({})  # keeps no adapter alive, also after an error
    layers = cast(Any, cache.layers)
    states: list[tuple[torch.Tensor, torch.Tensor]] = [(layer.keys, layer.values) for layer in layers]
    if not is_dense:
        padding = ~mask[:, None, :, None]
        for tensor in itertools.chain(*states):
            tensor.masked_fill_(padding, 0)
    number_of = {key: number for number, key in enumerate(first_of)}
    sources = torch.tensor([number_of[sequence.prefix_key] for sequence in sequences], device=model.device)
    following = family.next_positions(positions)[..., sources, :]
    return Prefill(logits[sources], following, states, sources, ids.shape[1])


def _pad(sequences: list[Sequence], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Left-padded ids (P, T) and their mask (P, T, bool), on the CPU."""
    longest = max(len(sequence.prompt_ids) for sequence in sequences)
    ids = torch.full((len(sequences), longest), pad)
    mask = torch.zeros(len(sequences), longest, dtype=torch.bool)
    for i, sequence in enumerate(sequences):
        start = longest - len(sequence.prompt_ids)
        ids[i, start:] = torch.tensor(sequence.prompt_ids)
        mask[i, start:] = True
    return ids, mask
