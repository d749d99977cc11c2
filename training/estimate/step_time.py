"""Seconds of a GRPO step by arithmetic: operations and bytes of the shapes, on a card's published figures.

    seconds = step_seconds(work, sizes, card)       # of each part, and together

This is a calculation, not a measurement; the whole may be off by a factor of two either way. What a card reaches of its
published figures is stated in the constants below.
"""

from __future__ import annotations

from dataclasses import dataclass

from training.estimate.hardware import CardModel
from training.estimate.shapes import ModelSizes

MATMUL_EFFICIENCY = 0.45
"""Share of the published operations that large matrix products reach."""
BANDWIDTH_EFFICIENCY = 0.7
"""Share of the published bandwidth that decoding reaches."""
LAUNCH_SECONDS = 0.6e-3
"""Seconds that one layer takes in a decode step however small its work: the launch of its kernels from Python."""
UNCERTAINTY = 2.0
"""The factor by which the arithmetic may be off, either way."""


@dataclass(frozen=True)
class StepWork:
    """The work of one step on one card."""

    num_prompts: int
    num_completions: int
    prompt_tokens: float
    """With those of the picture."""
    image_tokens: float
    completion_tokens: float
    """Mean length of a completion."""
    longest_completion: float
    """Tokens of the longest completion of a step, which all others wait for."""
    trained_share: float = 1.0
    """Share of the completions in the loss; those with advantage 0 are left out."""
    gradient_checkpointing: bool = False
    bytes_per_number: int = 2


@dataclass(frozen=True)
class StepSeconds:
    """Seconds of the parts of a step."""

    pictures: float
    prompts: float
    """Reading the prompts, once for each group."""
    decoding: float
    loss: float
    """Forward and backward pass over prompts and completions."""

    @property
    def total(self) -> float:
        return self.pictures + self.prompts + self.decoding + self.loss


def step_seconds(work: StepWork, sizes: ModelSizes, card: CardModel) -> StepSeconds:
    """The parts of a step. LoRA has no gradient of the base's weights: a backward pass costs about one forward pass."""
    rate = card.tflops * 1e12 * MATMUL_EFFICIENCY
    patches = 4 * work.image_tokens
    seen = work.num_prompts * patches * 2 * sizes.vision_parameters / rate
    read = work.num_prompts * work.prompt_tokens * forward_operations(sizes, work.prompt_tokens) / rate
    context = work.prompt_tokens + work.completion_tokens
    forward = forward_operations(sizes, context)
    passes = 3 if work.gradient_checkpointing else 2
    tokens = work.num_prompts * work.prompt_tokens + work.num_completions * work.completion_tokens
    loss = work.trained_share * tokens * forward * passes / rate
    return StepSeconds(seen, read, work.longest_completion * decode_seconds(work, sizes, card), loss)


def forward_operations(sizes: ModelSizes, context: float) -> float:
    """Operations of one token in the language model: two a weight, and those of attention over its context."""
    return 2 * sizes.language_parameters + 4 * sizes.layers * sizes.query_width * context


def decode_seconds(work: StepWork, sizes: ModelSizes, card: CardModel) -> float:
    """One token of every completion: the slowest of reading weights and cache, computing, and launching kernels."""
    context = work.prompt_tokens + work.completion_tokens / 2
    width = work.bytes_per_number
    weights = sizes.language_parameters * width
    cache = work.num_completions * context * 2 * sizes.kv_width * sizes.layers * width
    memory = (weights + cache) / (card.bandwidth * 1e9 * BANDWIDTH_EFFICIENCY)
    compute = work.num_completions * forward_operations(sizes, context) / (card.tflops * 1e12 * MATMUL_EFFICIENCY)
    return max(memory, compute, sizes.layers * LAUNCH_SECONDS)
