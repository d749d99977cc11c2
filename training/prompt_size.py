"""How many tokens a prompt takes, those of its picture included, without decoding a picture.

sizer = PromptSizer(AutoProcessor.from_pretrained("inference/starter"))
sizer.measure("How many circles?", width=448, height=448).total
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

from inference.errors import UserError
from inference.format import THINK_PROMPT, build_messages, neutralise

_PROBE_SIDE = 224
"""Pixels of the picture with which the count is compared with the processor's own."""


@dataclass(frozen=True)
class PromptSize:
    """Tokens of one prompt."""

    text: int
    """Of the chat template, the system prompt and the problem."""
    image: int

    @property
    def total(self) -> int:
        return self.text + self.image


class PromptSizer:
    """Counts as a processor would, of any family whose processor tells the tokens of a picture by its size."""

    def __init__(self, processor: Any, system_prompt: str | None = THINK_PROMPT) -> None:
        """Runs the processor once, on a blank picture. Raises `UserError` for a processor that cannot tell."""
        if not hasattr(processor, "_get_num_multimodal_tokens"):
            raise UserError(
                f"A {type(processor).__name__} does not tell how many tokens a picture takes; leave "
                "max_prompt_tokens out, or choose a base of another family."
            )
        self._processor = processor
        self._system_prompt = system_prompt
        added = processor.tokenizer.added_tokens_decoder.values()
        self._markers = set(processor.tokenizer.all_special_tokens) | {t.content for t in added if t.special}
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

    def _image_tokens(self, width: int, height: int) -> int:
        if (width, height) not in self._by_size:
            counted = self._processor._get_num_multimodal_tokens(image_sizes=[(height, width)])
            self._by_size[width, height] = counted["num_image_tokens"][0]
        return self._by_size[width, height]
