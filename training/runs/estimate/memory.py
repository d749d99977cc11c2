"""Memory of a run's step on one card, by arithmetic: bytes by their use, and the micro-batch that fits.

    need = memory_need(config, sizes_of(config.base, config.base_revision))
    choose_batch(config, sizes, Card(total=85e9)).words     # the largest micro-batch that fits, and why

A step samples and then learns. Sampling holds the KV cache. Learning holds what autograd keeps of a micro-batch, layer
by layer, and the head's tiles; TRL's head never holds the logits of more than `HEAD_TOKENS` tokens and `HEAD_COLUMNS`
entries of the vocabulary. tests/training/runs/estimate/test_memory.py compares the sum with the bytes that live in real
steps. Where pictures are not scaled, the usual limit is assumed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from inference.common.settings import DEFAULT_LIMITS
from training.config.run_config import RunConfig
from training.runs.estimate.shapes import ModelSizes

GB = 1e9
TRAINABLE_BYTES = 16
"""Bytes of a LoRA parameter: itself, its gradient and AdamW's two moments, in fp32."""
HEAD_TOKENS, HEAD_COLUMNS = 4096, 32_768
"""Tokens and columns of the tile in which TRL's head (`trl.kernels.chunked_logprob`) holds logits; it has all columns
for a smaller vocabulary too."""
CPU_HEAD_COPIES = 6
"""Copies of the logits of a tile in fp32 on a CPU, where no kernel works in place."""
CONTEXT_BYTES = 1.0 * GB
"""Bytes of a process's CUDA context with its kernels, or on a CPU of the libraries that a process loads."""
SLACK = 1.1
"""The factor for the allocator's fragmentation."""
PROMPT_TOKENS = 512
"""Tokens of a prompt without its picture if the data sets no limit."""
STARTER_PROMPT_TOKENS = 180
"""Tokens of the longest starter problem with its picture."""
ENCODED_PATCHES = 16_384
"""Patches that the vision tower takes at once, as `inference.model.image_encoder` has it."""
PIXEL_VALUES = 1176
"""Numbers of a patch in fp32: two frames of 14 × 14 pixels in three colours."""
WHOLE_BYTES = 256 * 2**20
"""Linear layers of at most this size in fp32 are copied with the LoRA merged while a step samples."""
MARGIN = 0.1
"""Share of the free memory that is left free where the micro-batch is chosen."""
_CARD_SHARE = 0.95


@dataclass(frozen=True)
class BatchChoice:
    """The two settings that decide the memory of the loss."""

    micro_batch_size: int
    gradient_checkpointing: bool


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes by their use. A step encodes pictures, samples and then learns, so these three peaks do not add up."""

    weights: float
    adapter: float
    pictures: float
    """While the vision tower runs."""
    rollouts: float
    loss: float
    overhead: float

    @property
    def tensors(self) -> float:
        """Bytes of tensors at the peak."""
        return self.weights + self.adapter + max(self.pictures, self.rollouts, self.loss)

    @property
    def total(self) -> float:
        """With those of CUDA and of the allocator."""
        return self.tensors + self.overhead

    @property
    def total_gb(self) -> float:
        return self.total / GB


@dataclass(frozen=True)
class Card:
    """A card that the app and a run may share; sizes in bytes."""

    total: float
    held_by_app: float = 0.0
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


def share_card(config: RunConfig, sizes: ModelSizes, card: Card) -> Sharing:
    """A run on the app's card: with the micro-batch that fits beside the app's model, else the one that fits alone."""
    beside = choose_batch(config, sizes, card.total - card.held_by_app)
    alone = choose_batch(config, sizes, card.total)
    return Sharing((beside if beside.fits else alone).need, card)


@dataclass(frozen=True)
class Chosen:
    """The micro-batch of a run on a card, and the memory that it needs."""

    batch: BatchChoice
    need: MemoryNeed
    free: float
    """Bytes that were free."""
    is_automatic: bool

    @property
    def fits(self) -> bool:
        """True if the need leaves the margin free."""
        return self.need.total <= (1 - MARGIN) * self.free

    @property
    def words(self) -> str:
        """The choice as a sentence."""
        saved = "with gradient checkpointing" if self.batch.gradient_checkpointing else "without gradient checkpointing"
        rows = self.batch.micro_batch_size
        what = f"micro-batches of {rows} completion{'s' * (rows != 1)}, {saved}"
        room = f"about {self.need.total_gb:.1f} GB of {self.free / GB:.1f} GB free, by the sizes"
        if not self.fits:
            return f"{what}: {room}, which is more than {100 * (1 - MARGIN):.0f} % of it and may not be enough"
        return f"{what}{', the largest that fits' if self.is_automatic else ''}: {room}"


def memory_need(
    config: RunConfig,
    sizes: ModelSizes,
    on_gpu: bool = True,
    *,
    batch: BatchChoice | None = None,
    prompt_tokens: float | None = None,
    num_processes: int = 1,
) -> MemoryNeed:
    """The peak memory of a step on one card.

    `batch` defaults to the configuration's, or to its smallest where that is `auto`; `prompt_tokens` to
    `longest_prompt`. Each process has its share of the completions and all weights; of sharded ones its part, and
    besides those of two layers, of the embeddings and, to sample, of the vision tower.
    """
    batch = batch or list(possible_batches(config, num_processes))[-1]
    width = bytes_per_number(config, on_gpu)
    prompt = longest_prompt(config, sizes) if prompt_tokens is None else prompt_tokens
    lora = sizes.lora_parameters(config.lora_rank, config.lora_modules)
    share = max(1, config.completions_per_step // num_processes)
    num_prompts = math.ceil(share / config.num_generations)
    picture = min(prompt, picture_tokens(config, sizes))
    features = num_prompts * picture * sizes.hidden * width
    patches = 4 * picture
    encoded = max(patches, min(ENCODED_PATCHES, num_prompts * patches))
    of_patch = 2 * 4 * PIXEL_VALUES + width * (8 * sizes.vision_hidden + 3 * sizes.vision_intermediate)
    rollouts = _rollout_bytes(config, sizes, share, prompt, width)
    if width == 4 and 4 * sizes.linear_parameters(config.lora_modules) <= WHOLE_BYTES:
        rollouts += 4 * sizes.linear_parameters(config.lora_modules)  # `training.grpo.rollouts` merges small models
    loss = _loss_bytes(config, sizes, batch, prompt, width, on_gpu)
    weights = float(sizes.parameters * width)
    gathered = tower = 0.0
    if config.shard_weights and num_processes > 1:
        linears = sum(inputs * outputs for _, inputs, outputs in sizes.linears)
        tower = width * sizes.vision_parameters
        gathered = weights - tower - width * linears * (1 - 2 / sizes.layers)
        weights /= num_processes
    parts = MemoryNeed(
        weights,
        lora * TRAINABLE_BYTES,
        gathered + tower + features + encoded * of_patch,
        gathered + tower + features + rollouts,
        gathered + features + loss,
        0.0,
    )
    overhead = (CONTEXT_BYTES if on_gpu else 0.0) + (SLACK - 1) * parts.tensors
    return MemoryNeed(parts.weights, parts.adapter, parts.pictures, parts.rollouts, parts.loss, overhead)


def sampling_bytes(config: RunConfig, sizes: ModelSizes, on_gpu: bool) -> float:
    """The peak memory of a process that samples a step's completions with a model of its own, and does not learn."""
    need = memory_need(config, sizes, on_gpu)
    return CONTEXT_BYTES + SLACK * (need.weights + max(need.pictures, need.rollouts))


def bytes_per_number(config: RunConfig, on_gpu: bool) -> int:
    """Bytes of a weight and of an activation."""
    return 4 if config.precision == "fp32" or (config.precision == "auto" and not on_gpu) else 2


def picture_tokens(config: RunConfig, sizes: ModelSizes) -> float:
    """Tokens of the largest picture that the run lets through."""
    if config.data.is_starter:
        return 112 * 112 / sizes.pixels_per_token
    return (config.data.max_pixels or DEFAULT_LIMITS.max_model_pixels) / sizes.pixels_per_token


def longest_prompt(config: RunConfig, sizes: ModelSizes) -> float:
    """Tokens of the longest prompt, with its picture."""
    if config.data.max_prompt_tokens:
        return config.data.max_prompt_tokens
    return STARTER_PROMPT_TOKENS if config.data.is_starter else PROMPT_TOKENS + picture_tokens(config, sizes)


def _rollout_bytes(config: RunConfig, sizes: ModelSizes, rows: int, prompt: float, width: int) -> float:
    """The KV cache of all rows of a step (a power of two), and the logits of one token of each."""
    columns = prompt + config.max_completion_length + 1
    reserved = 1 << (rows - 1).bit_length()
    column = 2 * sizes.kv_width * sizes.layers * width
    prompts = math.ceil(rows / config.num_generations) * prompt * column  # until they are copied into the rows
    return reserved * columns * column + prompts + 3 * 4 * rows * sizes.vocabulary


def _loss_bytes(
    config: RunConfig, sizes: ModelSizes, batch: BatchChoice, prompt: float, width: int, on_gpu: bool
) -> float:
    """The bytes that autograd keeps of a micro-batch, and the largest of what it needs besides."""
    rows, length = batch.micro_batch_size, config.max_completion_length
    groups = math.ceil(rows / config.num_generations)
    can_share = config.share_prompts and not batch.gradient_checkpointing and not config.shard_weights
    is_shared = can_share and groups < rows
    tokens = groups * prompt + rows * length if is_shared else rows * (prompt + length)
    keys = groups * prompt + rows * (prompt + length) if is_shared else tokens
    pairs = groups * prompt**2 + rows * length * (prompt + length) if is_shared else rows * (prompt + length) ** 2
    layer = tokens * _kept_of_token(config, sizes, width) + _kept_of_attention(sizes, keys, pairs, width, on_gpu)
    between = width * sizes.hidden * tokens
    kept = sizes.layers * between + layer if batch.gradient_checkpointing else sizes.layers * layer
    backward = width * tokens * (3 * sizes.intermediate + 2 * sizes.hidden)
    scored = rows * length if on_gpu or is_shared else tokens
    copies = 0 if on_gpu else 4 * CPU_HEAD_COPIES * min(sizes.vocabulary, HEAD_COLUMNS)
    tile = min(scored, HEAD_TOKENS) * (HEAD_COLUMNS * width + copies)
    head = scored * sizes.hidden * (8 + 2 * width) + tile
    return kept + max(backward, head)


def _kept_of_token(config: RunConfig, sizes: ModelSizes, width: int) -> float:
    """Bytes that one layer keeps of a token for its backward pass, without attention's keys and masks.

    Norms keep their input in fp32; a frozen linear layer keeps nothing, one with LoRA its input and the low-rank
    product; the gated unit keeps gate, its activation and the other factor. In bf16 LoRA is in fp32, so that PEFT casts
    its input, and each layer keeps a copy of its own.
    """
    adapted = {name: inputs for name, inputs, _ in sizes.layer_linears if name in config.lora_modules}
    kept = len(adapted) * config.lora_rank + 2 * sizes.query_width + 3 * sizes.intermediate
    if width == 2:
        kept += sum(adapted.values())
    else:
        kept += sizes.hidden * bool(adapted.keys() & {"q_proj", "k_proj", "v_proj"})
        kept += sizes.hidden * bool(adapted.keys() & {"gate_proj", "up_proj"})
        kept += sizes.query_width * ("o_proj" in adapted) + sizes.intermediate * ("down_proj" in adapted)
    dropped = sum(adapted.values()) * (width + 1) if config.lora_dropout else 0  # each its own input, and a mask
    return 4 * sizes.norm_width + width * kept + dropped


def _kept_of_attention(sizes: ModelSizes, keys: float, pairs: float, width: int, on_gpu: bool) -> float:
    """Bytes of one layer's keys, values and mask. With a mask, transformers copies keys for each query head on a GPU;
    on a CPU `training.grpo.log_probs` repeats the mask instead."""
    copies = sizes.query_width // sizes.kv_width
    if on_gpu:
        return width * (2 * sizes.query_width * keys + pairs)
    return width * (2 * sizes.kv_width * keys + copies * pairs)


def possible_batches(config: RunConfig, num_processes: int = 1) -> Iterator[BatchChoice]:
    """The micro-batches that the configuration allows, from the fastest to the one that needs the least memory."""
    share = max(1, config.completions_per_step // num_processes)
    size, checkpointing = config.micro_batch_size, config.gradient_checkpointing
    divisors = [number for number in range(share, 0, -1) if share % number == 0]
    rows = divisors if size == "auto" else [min(size, share)]
    for saved in (False, True) if checkpointing == "auto" else (checkpointing,):
        yield from (BatchChoice(number, saved) for number in rows)


def choose_batch(
    config: RunConfig, sizes: ModelSizes, free: float, on_gpu: bool = True, num_processes: int = 1
) -> Chosen:
    """The largest micro-batch whose need leaves `MARGIN` of `free` bytes; the smallest one if none does.

    Checkpointing costs a third pass and reads each prompt once a row, so that it comes last.
    """
    is_automatic = "auto" in (config.micro_batch_size, config.gradient_checkpointing)
    for batch in possible_batches(config, num_processes):
        need = memory_need(config, sizes, on_gpu, batch=batch, num_processes=num_processes)
        chosen = Chosen(batch, need, free, is_automatic)
        if chosen.fits:
            break
    return chosen


def longest_row(config: RunConfig, sizes: ModelSizes, free: float, batch: BatchChoice, on_gpu: bool = True) -> int:
    """Tokens of the longest prompt, with its picture, that a step has memory for; 0 if not even an empty one."""
    low, high = 0, 1 << 17
    while low < high:
        middle = (low + high + 1) // 2
        need = memory_need(config, sizes, on_gpu, batch=batch, prompt_tokens=middle)
        low, high = (middle, high) if need.total <= (1 - MARGIN) * free else (low, middle - 1)
    return low


def card_here() -> Card | None:
    """The first card and the memory that this process holds; `None` without one. Imports torch."""
    import torch

    if not torch.cuda.is_available():
        return None
    held = torch.cuda.memory_reserved()
    total = torch.cuda.mem_get_info()[1]
    return Card(float(total), held + CONTEXT_BYTES if held else 0.0)


def on_gpu_here() -> bool:
    """True where models are on a card. Imports torch."""
    import torch

    return torch.cuda.is_available()


def free_bytes_here() -> float:
    """Bytes that are free now for this process: of its card, else of the machine. Imports torch."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[0])
    return float(psutil.virtual_memory().available)
