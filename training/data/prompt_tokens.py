"""How many tokens a prompt takes, those of its picture included, without decoding a picture.

sizer = PromptSizer(AutoProcessor.from_pretrained("inference/starter"))
sizer.measure("How many circles?", width=448, height=448).total
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

from inference.common.errors import UserError
from inference.model.tokenizer import chat_markers
from inference.prompt.format import THINK_PROMPT, build_messages, neutralise

_PROBE_SIDE = 224
"""Pixels of the picture with which the count is compared with the processor's own."""


@dataclass(frozen=True)
class PromptSize:
    """Tokens of one prompt."""

    text: int
    """Of the chat template, the system prompt and the problem."""
    image: int
    """Of the picture, with what some families write between its tiles."""

    @property
    def total(self) -> int:
        return self.text + self.image


class PromptSizer:
    """Counts as a processor would, of any family whose processor tells the tokens of a picture by its size."""

    def __init__(self, processor: Any, system_prompt: str | None = THINK_PROMPT) -> None:
        """Runs the processor once, on a blank picture. Raises `UserError` for a processor that cannot tell."""
        self._processor = processor
        self._is_tiled = hasattr(getattr(processor, "image_processor", None), "max_image_size")
        if not self._can_tell():
            raise UserError(
                f"A {type(processor).__name__} does not tell how many tokens a picture takes; leave "
                "max_prompt_tokens out, or choose a base of another family."
            )
        self._system_prompt = system_prompt
        self._markers = chat_markers(processor.tokenizer)
        self._by_size: dict[tuple[int, int], int] = {}
        self._around = 0
        """Tokens that the processor adds to text and picture, or the placeholder that goes."""
        probe = self.measure("?", _PROBE_SIDE, _PROBE_SIDE)
        image = Image.new("RGB", (_PROBE_SIDE, _PROBE_SIDE))
        ids = processor(text=[self._text("?")], images=[[image]], return_tensors="np")["input_ids"]
        self._around = len(ids[0]) - probe.total

    def measure(self, problem: str, width: int, height: int) -> PromptSize:
        """The tokens of a problem with a picture of `width` x `height` pixels, as training prompts are made."""
        ids = self._processor.tokenizer(self._text(problem), add_special_tokens=False)["input_ids"]
        return PromptSize(len(ids) + self._around, self._image_tokens(width, height))

    def _text(self, problem: str) -> str:
        messages = build_messages(neutralise(problem, self._markers), self._system_prompt)
        return self._processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def _can_tell(self) -> bool:
        """Whether `_image_tokens` is right for this processor.

        Of tiled pictures (SmolVLM) the number of tiles can be told where the longest edge is so many whole tiles,
        as it is in published models.
        """
        if not self._is_tiled:
            return hasattr(self._processor, "_get_num_multimodal_tokens")
        images = self._processor.image_processor
        return not images.size["longest_edge"] % images.max_image_size["longest_edge"]

    def _image_tokens(self, width: int, height: int) -> int:
        if (width, height) not in self._by_size:
            count = self._count_tiled if self._is_tiled else self._count_patches
            self._by_size[width, height] = count(width, height)
        return self._by_size[width, height]

    def _count_patches(self, width: int, height: int) -> int:
        return self._processor._get_num_multimodal_tokens(image_sizes=[(height, width)])["num_image_tokens"][0]

    def _count_tiled(self, width: int, height: int) -> int:
        _, rows, columns = self._processor.image_processor.get_number_of_image_patches(height, width, {})
        placeholder = self._processor.replace_image_token({"rows": [[rows]], "cols": [[columns]]}, 0)
        return len(self._processor.tokenizer(placeholder, add_special_tokens=False)["input_ids"])
