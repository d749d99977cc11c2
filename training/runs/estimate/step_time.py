"""Seconds of a GRPO step by arithmetic: operations and bytes of the shapes, on a card's published figures.

    seconds = step_seconds(work, sizes, card)       # of each part, and together

This is a calculation, not a measurement; the whole may be off by a factor of two either way. What a card reaches of its
published figures is stated in the constants below.
"""

from __future__ import annotations

from dataclasses import dataclass

from training.runs.estimate.hardware import CardModel
from training.runs.estimate.shapes import ModelSizes

MATMUL_EFFICIENCY = 0.45
"""Share of the published operations that large matrix products reach on a card."""
CPU_EFFICIENCY = 0.25
"""The same on a processor, where the products are smaller."""
BANDWIDTH_EFFICIENCY = 0.7
"""Share of the published bandwidth that decoding reaches."""
LAUNCH_SECONDS = 0.6e-3
"""Seconds that one layer takes in a decode step however small its work: the launch of its kernels from Python."""
PREPARED_PIXELS = 1e7
"""Pixels a second that a core prepares for the vision tower: 0.1 s for a picture of 10⁶."""
GRADED = 100.0
"""Completions that a core grades in a second."""
GRADING_CORES = 4
"""Cores that prepare and grade, at most."""
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
    shares_prompts: bool = True
    """True if the loss reads each prompt once for its group."""
    gradient_checkpointing: bool = False
    bytes_per_number: int = 2


@dataclass(frozen=True)
class StepSeconds:
    """Seconds of the parts of a step."""

    pictures: float
    prompts: float
    """Reading the prompts, once for each group."""
    decoding: float
    grading: float
    loss: float
    """Forward and backward pass over prompts and completions."""

    @property
    def sampling(self) -> float:
        """All but the loss."""
        return self.pictures + self.prompts + self.decoding + self.grading

    @property
    def total(self) -> float:
        return self.sampling + self.loss


def step_seconds(work: StepWork, sizes: ModelSizes, card: CardModel) -> StepSeconds:
    """The parts of a step. LoRA has no gradient of the base's weights: a backward pass costs about one forward pass."""
    rate = operations_a_second(card)
    pixels = 784 * work.image_tokens
    seen = work.num_prompts * 4 * work.image_tokens * 2 * sizes.vision_parameters / rate
    prepared = work.num_prompts * pixels / PREPARED_PIXELS / GRADING_CORES
    read = work.num_prompts * work.prompt_tokens * forward_operations(sizes, work.prompt_tokens) / rate
    context = work.prompt_tokens + work.completion_tokens
    passes = 3 if work.gradient_checkpointing else 2
    prompts = work.num_prompts if work.shares_prompts else work.num_completions
    tokens = prompts * work.prompt_tokens + work.num_completions * work.completion_tokens
    loss = tokens * forward_operations(sizes, context) * passes / rate
    grading = work.num_completions / GRADED / GRADING_CORES
    decoding = work.longest_completion * decode_seconds(work, sizes, card)
    return StepSeconds(seen + prepared, read, decoding, grading, loss)


def operations_a_second(card: CardModel) -> float:
    """Operations that large matrix products reach."""
    return card.tflops * 1e12 * (CPU_EFFICIENCY if card.is_cpu else MATMUL_EFFICIENCY)


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
    compute = work.num_completions * forward_operations(sizes, context) / operations_a_second(card)
    launches, busy = sizes.layers * LAUNCH_SECONDS, max(memory, compute)
    return launches + busy if card.is_cpu else max(launches, busy)  # a card computes while kernels are launched
