"""A request to the engine, and the completion that it returns."""

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
class Request:
    """One completion to generate: one picture or several, a question and how to decode."""

    image: Image.Image = field(repr=False)
    """RGB, as `inference.prompt.image.load_image` returns it."""
    question: str
    """With a `PLACE` for each of several pictures (`inference.prompt.format`), or none: they then come first."""
    system_prompt: str | None = THINK_PROMPT
    adapter: str | None = None
    """Name of an adapter; `None` is the base alone."""
    get_adapter: Callable[[], Adapter] | None = field(default=None, repr=False, compare=False)
    """Returns that adapter if the engine does not hold it (`inference.adapters.live`). Called once, at the
    generation's start."""
    max_new_tokens: int = 512
    min_new_tokens: int = 0
    """The completion cannot end before this many tokens; benchmarks force equal lengths with it."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    """Sample only from the likeliest tokens that together reach this share; 1 samples from all."""
    repetition_penalty: float | None = 1.0
    """Above 1 it makes tokens of prompt and completion less likely, as in transformers' `generate`; `None` is the
    base's own, of its `generation_config.json`. Rollouts have none."""
    seed: int = 0
    """With a temperature above 0: the same seed gives the same text, whatever else is in the batch."""
    prefix: str = ""
    """The beginning that the completion must have: a forced `<think>`, or the text so far for Continue."""
    prefix_logprobs: bool = False
    """Return the log-probability of each token of the prefix, as `prompt_logprobs` of vLLM does."""
    encoding: ImageEncoding | None = field(default=None, repr=False, compare=False)
    """The picture as `Engine.encode` returned it, or several joined by `join_encodings`, if they are encoded."""
    more_images: tuple[Image.Image, ...] = field(default=(), repr=False)
    """Pictures after the first, in their order."""

    @property
    def images(self) -> tuple[Image.Image, ...]:
        """All pictures, in their order."""
        return (self.image, *self.more_images)


@dataclass(frozen=True)
class Completion:
    """A finished completion, or (from `Generation.completions`) one as far as it has come."""

    text: str
    """The request's prefix and the new text, without special tokens."""
    token_ids: tuple[int, ...] = field(repr=False)
    """The new tokens; the last one is an end token if the completion ended by itself."""
    num_tokens: int
    seconds: float
    """From the start of the generation, picture processing included, to the request's last token."""
    first_token_seconds: float
    """From the start of the generation to the request's first new token; 0 before there is one."""
    truncated: bool
    """True if the token limit cut it off."""
    stopped: bool
    """True if a stop cut it off."""
    prefix_logprobs: tuple[float, ...] = field(default=(), repr=False)
    """The natural logarithm of each prefix token's probability at temperature 1, if it was asked for."""


def check_request(request: Request) -> None:
    """Raises `UserError` for values that cannot be decoded with."""
    if request.max_new_tokens < 1:
        raise UserError(f"max_new_tokens is {request.max_new_tokens}; ask for at least 1.")
    if not 0 <= request.min_new_tokens <= request.max_new_tokens:
        raise UserError(f"min_new_tokens is {request.min_new_tokens}; it lies from 0 to max_new_tokens.")
    if not (math.isfinite(request.temperature) and request.temperature >= 0):
        raise UserError(f"The temperature is {request.temperature}; it must be 0 (greedy) or more.")
    if not 0 < request.top_p <= 1:
        raise UserError(f"top_p is {request.top_p}; it is above 0 and at most 1, which samples from everything.")
    if request.repetition_penalty is not None and not 0 < request.repetition_penalty <= 10:
        raise UserError(f"The repetition penalty is {request.repetition_penalty}; it is above 0 and at most 10.")
    if not 0 <= request.seed < 2**63:
        raise UserError(f"The seed is {request.seed}; it must be a whole number from 0 to 2^63 - 1.")
    if odd := [image.mode for image in request.images if image.mode != "RGB"]:
        raise UserError(f"The picture is in mode {odd[0]}; load it with inference.prompt.image.load_image.")
