"""Micro-batches that fit: chosen by the estimate before the run, and halved where memory runs out all the same.

    chosen = fit_batch(config)                  # from the card's free memory; `chosen.words` says it
    config = with_batch(config, chosen.batch)

`SmallerPasses` redoes a step that ran out of memory. The gradient is the same but for rounding, since every loss is a
sum over rows, or a mean that is brought back to the whole micro-batch.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from datasets import Dataset
from transformers import AutoProcessor

from inference.common.errors import UserError
from inference.common.settings import base_source
from training.config.run_config import RunConfig
from training.data.dataset import PromptSizer
from training.data.pictures import picture_files, picture_sizes
from training.grpo.distributed import least_of_all, world_size
from training.runs.estimate.memory import BatchChoice, Chosen, choose_batch, free_bytes_here, longest_row
from training.runs.estimate.shapes import sizes_of
from training.runs.folder import RunFolder

log = logging.getLogger(__name__)


def fit_batch(config: RunConfig) -> Chosen:
    """The micro-batch for the memory that is free now, on the process that has the least. All processes call it."""
    sizes = sizes_of(config.base, config.base_revision)
    free = least_of_all(free_bytes_here())
    return choose_batch(config, sizes, free, torch.cuda.is_available(), world_size())


def with_batch(config: RunConfig, batch: BatchChoice) -> RunConfig:
    """The configuration with these two settings."""
    values = {"micro_batch_size": batch.micro_batch_size, "gradient_checkpointing": batch.gradient_checkpointing}
    return config.model_copy(update=values)


def settled(config: RunConfig) -> RunConfig:
    """The configuration without `auto`, for the memory that is free now."""
    if "auto" not in (config.micro_batch_size, config.gradient_checkpointing):
        return config
    return with_batch(config, fit_batch(config).batch)


def prompt_tokens(config: RunConfig, rows: Dataset) -> list[int]:
    """Tokens of the rows' prompts with their pictures; none if the base's processor cannot count them."""
    processor = AutoProcessor.from_pretrained(base_source(config.base), revision=config.base_revision)
    try:
        sizer = PromptSizer(processor, config.system_prompt_text)
    except UserError:
        return []
    pairs = zip(rows["problem"], picture_files(rows), strict=True)
    return [sizer.measure(problem, *picture_sizes(files)).total for problem, files in pairs]


def longer_rows(config: RunConfig, chosen: Chosen, num_tokens: Sequence[int], on_gpu: bool) -> str:
    """A sentence on the longest prompt that the memory admits, and on how many of these prompts are longer."""
    sizes = sizes_of(config.base, config.base_revision)
    limit = longest_row(config, sizes, chosen.free, chosen.batch, on_gpu)
    longer = sum(num > limit for num in num_tokens)
    words = f"by the sizes, prompts of up to {limit:,} tokens with their picture fit"
    if not longer:
        return f"{words}; none is longer"
    remedy = "" if chosen.batch.gradient_checkpointing else ", or turn gradient_checkpointing on"
    return (
        f"{words}; {longer:,} of {len(num_tokens):,} are longer and may run out of memory: leave them out with "
        f"data.max_prompt_tokens {limit}{remedy}"
    )


@dataclass
class SmallerPasses:
    """Rows that one pass takes. Halved, then with gradient checkpointing, each time that memory runs out."""

    batch: BatchChoice
    """The rows of a pass, and whether activations are recomputed."""
    keep: Callable[[BatchChoice], None]
    """Records a change, for the rest of the run."""

    def parts(self, num_rows: int) -> list[range]:
        """The rows of a micro-batch by pass."""
        size = self.batch.micro_batch_size
        return [range(first, min(first + size, num_rows)) for first in range(0, num_rows, size)]

    def shrink(self) -> bool:
        """Makes the passes smaller; false if they are the smallest."""
        before = self.batch
        smaller = next_smaller(before)
        if smaller is None:
            return False
        self.batch = smaller
        words = "gradient checkpointing" if smaller.gradient_checkpointing else "passes"
        log.warning(
            "out of memory with %d completions in a pass: the step is redone with %s of %d, and so is the rest of the "
            "run; the gradient is the same",
            before.micro_batch_size,
            words if smaller.gradient_checkpointing == before.gradient_checkpointing else f"{words} and passes",
            smaller.micro_batch_size,
        )
        self.keep(smaller)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return True


def next_smaller(batch: BatchChoice) -> BatchChoice | None:
    """The next smaller passes: the largest divisor of at most half the rows, then gradient checkpointing."""
    size = batch.micro_batch_size
    if size > 1:
        return replace(batch, micro_batch_size=next(n for n in range(size // 2, 0, -1) if size % n == 0))
    return None if batch.gradient_checkpointing else BatchChoice(1, True)


def keep_in(folder: RunFolder) -> Callable[[BatchChoice], None]:
    """A `keep` that changes the run's own configuration, which a resume begins with."""

    def keep(batch: BatchChoice) -> None:
        folder.change(with_batch(RunFolder.open(folder.path)[1], batch))

    return keep
