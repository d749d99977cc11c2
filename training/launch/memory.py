"""Estimates the GPU memory that a run needs from the base's sizes and the run's settings.

    need = memory_need(config, sizes_of(config.base, config.base_revision))
    Sharing(need, Card(total=85e9, held_by_app=9e9)).fits_beside

It adds up weights, LoRA with gradients and optimizer, the KV cache of the rollouts, activations and logits of one
micro-batch, and the overhead of CUDA and the allocator; it measures nothing. Where pictures are not scaled, the usual
limit is assumed. If the memory runs out all the same, `training.pipeline.run` names the settings to lower.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inference.common.errors import UserError
from inference.common.settings import DEFAULT_LIMITS, base_source
from training.config.run_config import RunConfig

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

GB = 1e9
TRAINABLE_BYTES = 16
"""Bytes of a LoRA parameter: itself, its gradient and AdamW's two moments, in fp32."""
LOGIT_BYTES = 12
"""Bytes of a logit in the loss: bf16, its fp32 copy, and the gradients of both."""
CONTEXT_BYTES = 1.0 * GB
"""Bytes of a process's CUDA context with its kernels."""
SLACK = 1.1
"""The factor for the allocator's fragmentation."""
PROMPT_TOKENS = 512
"""Tokens of a prompt without its picture if the data sets no limit."""
PIXELS_PER_TOKEN = 784
"""28 × 28 pixels of a Qwen2-VL picture."""
_CARD_SHARE = 0.95


@dataclass(frozen=True)
class ModelSizes:
    """The sizes of a base."""

    parameters: int
    hidden: int
    layers: int
    intermediate: int
    kv_width: int
    """Keys (or values) of one token in one layer: heads times their width."""
    vocabulary: int
    linears: tuple[tuple[str, int, int], ...]
    """Name, inputs and outputs of each linear layer of the language model."""

    def lora_parameters(self, rank: int, modules: tuple[str, ...]) -> int:
        """The number of parameters of a LoRA of this rank on layers of these names."""
        return sum(rank * (inputs + outputs) for name, inputs, outputs in self.linears if name in modules)


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes by their use. A step samples first and then learns, so these two peaks do not add up."""

    weights: float
    adapter: float
    rollouts: float
    loss: float
    overhead: float

    @property
    def total(self) -> float:
        return self.weights + self.adapter + max(self.rollouts, self.loss) + self.overhead

    @property
    def total_gb(self) -> float:
        return self.total / GB


@dataclass(frozen=True)
class Card:
    """A card that the app and a run may share; sizes in bytes."""

    total: float
    held_by_app: float
    """Bytes that the app's engine holds."""


@dataclass(frozen=True)
class Sharing:
    """A run and the app on one card."""

    need: MemoryNeed
    card: Card

    @property
    def fits_beside(self) -> bool:
        """True if the run fits beside the app's model."""
        return self.need.total + self.card.held_by_app <= _CARD_SHARE * self.card.total

    @property
    def fits_alone(self) -> bool:
        return self.need.total <= _CARD_SHARE * self.card.total

    @property
    def gives_way(self) -> bool:
        """True if the app's model has to leave the card while the run trains."""
        return not self.fits_beside

    @property
    def words(self) -> str:
        """A sentence for the person who starts the run."""
        need, total, held = self.need.total / GB, self.card.total / GB, self.card.held_by_app / GB
        about = f"By its sizes it needs about {need:.0f} GB of this card's {total:.0f}"
        if not self.fits_alone:
            return f"{about}, which is not enough: lower micro_batch_size, max_completion_length or the pixel limit."
        if self.gives_way:
            return (
                f"{about}, and the model that answers holds {held:.0f}: it leaves the card while the run trains, and "
                "visitors are told to come back."
            )
        return f"{about}, and the model that answers holds {held:.0f}: it goes on answering, more slowly."


def memory_need(config: RunConfig, sizes: ModelSizes, on_gpu: bool = True) -> MemoryNeed:
    """The peak memory of a step: while it samples, or in the loss of a micro-batch."""
    width = 4 if config.precision == "fp32" or (config.precision == "auto" and not on_gpu) else 2
    pictures = (config.data.max_pixels or DEFAULT_LIMITS.max_model_pixels) / PIXELS_PER_TOKEN
    prompt = config.data.max_prompt_tokens or PROMPT_TOKENS + pictures
    tokens = prompt + config.max_completion_length
    together = min(config.micro_batch_size, config.completions_per_step)
    kv_cache = 2 * sizes.kv_width * sizes.layers * tokens * width
    rollouts = config.completions_per_step * kv_cache + config.completions_per_step * sizes.vocabulary * 4
    of_layer = (8 * sizes.hidden + 4 * sizes.intermediate) * width
    layers = (
        of_layer + sizes.layers * sizes.hidden * width if config.gradient_checkpointing else of_layer * sizes.layers
    )
    logits = config.max_completion_length * sizes.vocabulary * LOGIT_BYTES
    loss = together * (tokens * layers + logits)
    trained = sizes.lora_parameters(config.lora_rank, config.lora_modules)
    parts = MemoryNeed(sizes.parameters * width, trained * TRAINABLE_BYTES, rollouts, loss, 0.0)
    return MemoryNeed(parts.weights, parts.adapter, rollouts, loss, CONTEXT_BYTES + (SLACK - 1) * parts.total)


@functools.lru_cache(maxsize=4)
def sizes_of(base: str, revision: str | None = None) -> ModelSizes:
    """The sizes of a base, from its configuration. Raises `UserError` if that cannot be read."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(base_source(base), revision=revision)
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"the sizes of {base} are not known: its configuration cannot be read: {reason}") from error
    return sizes_by(config)


def sizes_by(config: PreTrainedConfig) -> ModelSizes:
    """The sizes of the model that a configuration describes; it is built on the meta device."""
    import torch

    from inference.model.loading import model_without_weights

    model = model_without_weights(config)
    text = model.config.get_text_config()
    heads = text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // heads
    linears = tuple(
        (name.rpartition(".")[2], layer.in_features, layer.out_features)
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and (".language_model." in name or ".text_model." in name)
    )
    return ModelSizes(
        parameters=model.num_parameters(),
        hidden=text.hidden_size,
        layers=text.num_hidden_layers,
        intermediate=text.intermediate_size,
        kv_width=(getattr(text, "num_key_value_heads", None) or heads) * head,
        vocabulary=text.vocab_size,
        linears=linears,
    )


def card_here() -> Card | None:
    """The first card and the memory that this process holds; `None` without one. Imports torch."""
    import torch

    if not torch.cuda.is_available():
        return None
    held = torch.cuda.memory_reserved()
    total = torch.cuda.mem_get_info()[1]
    return Card(float(total), held + CONTEXT_BYTES if held else 0.0)
