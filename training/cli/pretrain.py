"""Pretrains the starter model: `python -m training pretrain`.

Three stages on the starter problems' train side, checkpointed and resumable:

1. see: the image encoder alone, with helper heads that name the content of each cell of the picture;
2. reason: the whole model, on captions and on reasoning in tags;
3. mix: direct answers, reasoning without tags and reasoning in tags, in shares that differ by kind of picture.

The result stands for the instruct model of the recipe: it can reason, but does not always do so.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from pathlib import Path

import torch.distributed as dist
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as family

from inference.common.settings import load_settings
from training.starter.pretrainer import PretrainConfig, Pretrainer, batched_vision_attention

log = logging.getLogger(__name__)


def pretrain(config: PretrainConfig, folder: Path, target: Path, start_from: Path | None = None) -> None:
    """Train from the last checkpoint in `folder` to the end and write the model to `target`.

    Without a checkpoint the weights are random, or those of the starter in `start_from`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")
    original = family.Qwen2_5_VLVisionAttention.forward
    family.Qwen2_5_VLVisionAttention.forward = batched_vision_attention  # type: ignore[assignment,method-assign]
    try:
        trainer = Pretrainer(config, folder, start_from)
        _train(trainer, config)
    finally:
        family.Qwen2_5_VLVisionAttention.forward = original  # type: ignore[method-assign]
    if trainer.rank == 0:
        trainer.export(target)


def _train(trainer: Pretrainer, config: PretrainConfig) -> None:
    """Trains the steps that are left."""
    if trainer.load():
        log.info("continuing at step %d", trainer.step)
    total = sum(steps for _, steps in config.stages)
    while (stage := trainer.stage()) is not None:
        started = time.monotonic()
        losses = trainer.train_step(*stage)
        trainer.seconds += time.monotonic() - started
        if trainer.rank:
            continue
        if trainer.step % 25 == 0:
            minutes_left = (total - trainer.step) * (time.monotonic() - started) / 60
            shown = " ".join(f"{name} {value:.4f}" for name, value in losses.items())
            log.info("%s %d/%d  %s  %.0f min left", stage[0], trainer.step, total, shown, minutes_left)
        if trainer.step % config.checkpoint_steps == 0:
            trainer.save()
        if stage[0] != "see" and trainer.step % 250 == 0:
            log.info("reasoning reproduced: %s", trainer.probe())
    if trainer.rank == 0:
        trainer.save()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `python -m training pretrain`."""
    defaults = PretrainConfig()
    for name in ("see_steps", "reason_steps", "mix_steps", "pool_size", "batch_size", "seed"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name))
    parser.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    parser.add_argument("--folder", type=Path, help="for pictures and checkpoint (LOOKTHINK_HOME/pretrain)")
    parser.add_argument("--start-from", type=Path, help="begin with the weights of this starter, not with random ones")
    parser.add_argument("--target", type=Path, help="for the finished model (the folder's `model`)")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    names = ("see_steps", "reason_steps", "mix_steps", "pool_size", "batch_size", "seed", "learning_rate")
    folder = args.folder or load_settings().home / "pretrain"
    config = PretrainConfig(**{name: getattr(args, name) for name in names})
    pretrain(config, folder, args.target or folder / "model", args.start_from)
    return 0
