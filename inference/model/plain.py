"""Families that the engine does not know, the plain way: prompts by the model's own processor, pictures by its forward.

    inputs = PlainTokenizer(processor, model.config, model.generation_config).inputs(request)

`inference.engine.plain` runs them as transformers' `generate` does. What a family of its own saves (a picture encoded
once, prompts shared, many rows in one step) is not saved here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from PIL import Image

from inference.common.errors import UserError
from inference.model.families import Family, ImageEncoding
from inference.model.request import Request
from inference.model.tokenizer import ChatTokenizer
from inference.prompt.format import THINK_PROMPT, build_messages

if TYPE_CHECKING:
    from transformers import BatchFeature

_PROBE_SIDE = 112
"""Side of the blank picture with which a base is tried when it is loaded."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""A byte that has no character of its own, as tokenizers made by SentencePiece write it."""
_BY_TOKEN = ("token_type_ids", "mm_token_type_ids")
"""Inputs over the prompt's tokens, besides their mask; 0 is text."""


class PlainFamily(Family):
    """Leaves pictures to the model's own forward; their encodings hold nothing."""

    def process(self, image: Image.Image) -> BatchFeature:
        from transformers import BatchFeature

        return BatchFeature({})

    def num_patches(self, inputs: BatchFeature) -> int:
        return 0

    def encode(self, batch: Sequence[BatchFeature]) -> list[ImageEncoding]:
        return [ImageEncoding(torch.empty(0), ("",)) for _ in batch]

    def positions(
        self, ids: torch.Tensor, mask: torch.Tensor, image_token: int, images: Sequence[ImageEncoding]
    ) -> torch.Tensor:
        raise NotImplementedError("the model counts its positions itself")


class PlainTokenizer(ChatTokenizer):
    """A tokenizer of any kind, whose prompts the processor makes whole, with the pictures."""

    def inputs(self, request: Request) -> dict[str, torch.Tensor]:
        """The model's inputs for a request: `input_ids` (1, T), which end with the prefix, their mask, the pictures."""
        images = iter(request.images)
        question = self.safe_text(request.question)
        messages = build_messages(question, request.system_prompt, len(request.images))
        for message in messages:
            for part in message["content"]:
                if part["type"] == "image":
                    part["image"] = next(images)
        made = self.processor.apply_chat_template(
            messages, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        inputs = dict(cast("BatchFeature", made))  # transformers' own annotation is of untokenized text
        prefix = torch.tensor([self.prefix_ids(request)], dtype=torch.long)  # (1, P)
        if prefix.shape[1]:
            inputs["input_ids"] = torch.cat([inputs["input_ids"], prefix], dim=1)
            inputs["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(prefix)], dim=1)
            for name in _BY_TOKEN:
                if name in inputs:
                    inputs[name] = torch.cat([inputs[name], torch.zeros_like(prefix)], dim=1)
        return inputs

    def prompt_ids(self, request: Request, placeholders: Sequence[str]) -> list[int]:
        """The tokens of `inputs`; the processor writes the pictures', so `placeholders` are not used."""
        return self.inputs(request)["input_ids"][0].tolist()

    def _check_letters(self, letters: set[str]) -> None:
        """Any kind will do: `_look_up` knows byte-level BPE and the kind that SentencePiece makes."""
        self._is_byte_level = self._has_byte_letters(letters)

    def _look_up(self, token_id: int) -> bytes:
        token = self.hf_tokenizer.convert_ids_to_tokens(token_id)
        if self._is_byte_level or token is None or token_id in self._special_ids:
            return super()._look_up(token_id)
        byte = _BYTE.fullmatch(str(token))
        return bytes([int(byte[1], 16)]) if byte else str(token).replace("▁", " ").encode("utf-8")

    def _check_template(self) -> None:
        """Processor and template must take each kind of prompt with a picture."""
        blank = Image.new("RGB", (_PROBE_SIDE, _PROBE_SIDE))
        for system_prompt in (None, THINK_PROMPT):
            try:
                self.inputs(Request(blank, "?", system_prompt))
            except Exception as error:  # template and processor are programs of the base's own, and may raise anything
                raise UserError(f"The base's processor refuses a prompt: {error} Choose an instruct model.") from error
