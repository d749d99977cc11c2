"""Prefill: prompts of new sequences read by the model, padded on the left, equal prompts once, whole or in pieces.

    prefill = Prefill(model, family, router, vocabulary, sequences)
    while not prefill.read(512):
        ...  # whoever waits meanwhile
    prefill.result()

A piece sees the keys and values of the pieces before it, so the result is that of one forward over the whole prompts.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import DynamicCache

from inference.engine.sequence import PrefixKey, Sequence
from inference.model.families import Family, ImageEncoding, tower_output
from inference.model.lora_layers import Router, make_routes
from inference.model.tokenizer import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_LOGITS = 2**26
"""Logits that are held at a time where a prefix's log-probabilities are wanted: 256 MB in fp32."""


@dataclass(frozen=True)
class PrefillResult:
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


class Prefill:
    """The prompts of B sequences on their way into the model, each distinct one once."""

    def __init__(
        self, model: PreTrainedModel, family: Family, router: Router, vocabulary: Vocabulary, sequences: list[Sequence]
    ) -> None:
        self.sequences = sequences
        self._model, self._family, self._router = model, family, router
        first_of: dict[PrefixKey, Sequence] = {}
        for sequence in sequences:
            first_of.setdefault(sequence.prefix_key, sequence)
        distinct = list(first_of.values())
        ids, mask = _pad(distinct, vocabulary.pad)  # (P, T), (P, T)
        self._images = [sequence.image for sequence in distinct]
        positions = family.positions(ids, mask, vocabulary.image, self._images)
        self._ids, self._mask = ids.to(model.device), mask.to(model.device)
        self._positions = positions.to(model.device)  # (…, P, T)
        self._is_dense = bool(mask.all())
        self._is_image = ids == vocabulary.image  # (P, T), on the CPU
        self._adapters = [sequence.adapter for sequence in distinct]
        number_of = {key: number for number, key in enumerate(first_of)}
        self._sources = [number_of[sequence.prefix_key] for sequence in sequences]
        self._cache = DynamicCache(config=model.config)
        self._num_read = 0
        """Columns that the model has read."""
        self._logits: torch.Tensor | None = None
        """(P, V) after the last column."""
        wanted = [sequence.num_prefix_tokens for sequence in sequences if sequence.request.prefix_logprobs]
        self._first_scored = ids.shape[1] - 1 - max(wanted) if wanted else ids.shape[1]
        """The first column whose logits tell the log-probability of a token that is wanted, the next one's."""
        self._logprobs: list[torch.Tensor] = []
        """(P, columns) each, of the tokens after those columns, in order."""

    def read(self, max_tokens: int | None = None) -> bool:
        """Read at most so many tokens more, padding included, `None` for all; True once the prompts are read."""
        num_prompts, length = self._ids.shape
        begin = self._num_read
        end = length if max_tokens is None else min(length, begin + max(1, max_tokens // num_prompts))
        self._router.use(make_routes(self._adapters, self._model.device))
        try:
            while self._num_read < end:
                self._forward(self._num_read, self._piece_end(self._num_read, end))
        finally:
            self._router.use({})  # keeps no adapter alive, also after an error
        return end == length

    def _piece_end(self, begin: int, end: int) -> int:
        """The end of the next forward, `end` unless its logits would take too much memory."""
        if end <= self._first_scored:
            return end
        vocabulary = self._model.get_output_embeddings().out_features
        most = max(1, MAX_LOGITS // (vocabulary * len(self._ids)))
        return min(end, max(begin, self._first_scored) + most)

    def _forward(self, begin: int, end: int) -> None:
        """Read the columns [begin, end)."""
        num_scored = max(0, end - max(begin, self._first_scored))
        images = self._images_between(begin, end)
        logits = self._model(
            input_ids=self._ids[:, begin:end],
            attention_mask=None if self._is_dense else self._mask[:, :end],
            position_ids=self._positions[..., begin:end],
            past_key_values=self._cache,
            use_cache=True,
            mm_encoder_outputs={"image": tower_output(images)} if images else None,
            logits_to_keep=max(1, num_scored),
        ).logits  # (P, max(1, num_scored), V)
        self._num_read = end
        self._logits = logits[:, -1]
        if num_scored:
            following = self._ids[:, end - num_scored + 1 : end + 1]  # the last column has none
            scored = logits[:, : following.shape[1]].float().log_softmax(dim=-1)
            self._logprobs.append(scored.gather(2, following[..., None]).squeeze(2).cpu())

    def result(self) -> PrefillResult:
        """The logits and the states, once all is read."""
        assert self._logits is not None and self._num_read == self._ids.shape[1], "read comes first"
        layers = cast(Any, self._cache.layers)
        states: list[tuple[torch.Tensor, torch.Tensor]] = [(layer.keys, layer.values) for layer in layers]
        if not self._is_dense:
            padding = ~self._mask[:, None, :, None]
            for tensor in itertools.chain(*states):
                tensor.masked_fill_(padding, 0)
        if self._logprobs:
            scored = torch.cat(self._logprobs, dim=1)
            for source, sequence in zip(self._sources, self.sequences):
                if sequence.request.prefix_logprobs and sequence.num_prefix_tokens:
                    sequence.prefix_logprobs = tuple(scored[source, -sequence.num_prefix_tokens :].tolist())
        sources = torch.tensor(self._sources, device=self._model.device)
        following = self._family.next_positions(self._positions)[..., sources, :]
        return PrefillResult(self._logits[sources], following, states, sources, self._num_read)

    def _images_between(self, begin: int, end: int) -> list[ImageEncoding]:
        """The parts of the pictures whose tokens stand in the columns [begin, end), one a prompt; empty if none does.

        Raises `ValueError` for a picture that does not match its tokens; of a whole prompt the model raises it.
        """
        if begin == 0 and end == self._ids.shape[1]:
            return self._images
        parts = []
        for row, image in zip(self._is_image, self._images):
            first, last = int(row[:begin].sum()), int(row[:end].sum())
            if int(row.sum()) != len(image.features):
                raise ValueError(f"The prompt has {int(row.sum())} image tokens and {len(image.features)} features.")
            deep = tuple(features[first:last] for features in image.deep_features)
            parts.append(replace(image, features=image.features[first:last], deep_features=deep))
        return parts if any(len(part.features) for part in parts) else []


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
