"""What goes into the engine and what comes out: a row and its completion."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PIL import Image

from inference.common.errors import UserError
from inference.prompt.format import THINK_PROMPT

if TYPE_CHECKING:
    from inference.model.families import ImageEncoding
    from inference.model.lora_layers import Adapter


@dataclass(frozen=True)
class Row:
    """One completion to make: a picture, a question and how to decode."""

    image: Image.Image = field(repr=False)
    """RGB, as `images.load_image` gives it."""
    question: str
    system_prompt: str | None = THINK_PROMPT
    adapter: str | None = None
    """Name of an adapter the engine holds; `None` is the base."""
    held: Callable[[], Adapter] | None = field(default=None, repr=False, compare=False)
    """Gives that adapter where somebody else holds it than the engine (`inference.adapters.memory_cache`); asked once, at the start."""
    max_new_tokens: int = 512
    min_new_tokens: int = 0
    """The completion cannot end before this many tokens; benchmarks force equal lengths with it."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    """Sample only from the likeliest tokens that together reach this share; 1 samples from all."""
    seed: int = 0
    """With a temperature above 0: the same seed gives the same text, whatever else is in the batch."""
    prefix: str = ""
    """The completion's beginning, given: a forced `<think>`, or the text so far for Continue."""
    encoding: ImageEncoding | None = field(default=None, repr=False, compare=False)
    """The picture as `Engine.encode` made it, where it is at hand already."""


@dataclass(frozen=True)
class Completion:
    """What became of a row, finished or (from `Decode.completions` meanwhile) as far as it has come."""

    text: str
    """The row's prefix and the new text, without special tokens."""
    token_ids: tuple[int, ...] = field(repr=False)
    """The new tokens; the last one is an end token if the completion ended by itself."""
    num_tokens: int
    seconds: float
    """From the start of the decode, picture processing included, to the row's last token."""
    first_token_seconds: float
    """From the start of the decode to the row's first new token; 0 before there is one."""
    truncated: bool
    """True if the token limit cut it off."""
    stopped: bool
    """True if a stop cut it off."""

    @property
    def tokens_per_second(self) -> float:
        """New tokens over seconds, time to first token included."""
        return self.num_tokens / self.seconds if self.seconds else 0.0


def check_row(row: Row) -> None:
    """Raises `UserError` for numbers, or a kind of picture, that a decode cannot use."""
    if row.max_new_tokens < 1:
        raise UserError(f"max_new_tokens is {row.max_new_tokens}; ask for at least 1.")
    if not 0 <= row.min_new_tokens <= row.max_new_tokens:
        raise UserError(f"min_new_tokens is {row.min_new_tokens}; it lies from 0 to max_new_tokens.")
    if not (math.isfinite(row.temperature) and row.temperature >= 0):
        raise UserError(f"The temperature is {row.temperature}; it must be 0 (greedy) or more.")
    if not 0 < row.top_p <= 1:
        raise UserError(f"top_p is {row.top_p}; it is above 0 and at most 1, which samples from everything.")
    if not 0 <= row.seed < 2**63:
        raise UserError(f"The seed is {row.seed}; it must be a whole number from 0 to 2^63 - 1.")
    if row.image.mode != "RGB":
        raise UserError(f"The picture is in mode {row.image.mode}; load it with images.load_image.")
