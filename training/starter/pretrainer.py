"""Trains the starter: three stages, two optimizers, and a schedule that can be resumed at a checkpoint."""

from __future__ import annotations

import io
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
import torch.distributed as dist
from torch import nn
from transformers import AutoModelForImageTextToText, AutoProcessor, Qwen2_5_VLProcessor
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as family

from inference.common.files import write_json, write_whole
from inference.prompt.format import THINK_PROMPT
from training.starter.model import SIDE, build_model, build_processor, train_tokenizer
from training.starter.pretraining_data import LABELS, Batch, Batches, Pool, completion, corpus
from training.starter.templates import KINDS

MICRO_BATCH = 24
NUM_DRILLS = 16
"""Rows without a picture in each step of the last two stages."""
CELL_WEIGHTS = {"see": 1.0, "reason": 0.2, "mix": 0.1}
"""Weight of the helper heads' loss, by stage."""
DRILL_WEIGHT = 0.5
"""Weight of the loss of rows without a picture; that of the others is 1."""


@dataclass(frozen=True)
class PretrainConfig:
    """Length and speed of the training. The shipped starter was made in five goes; its card says which."""

    see_steps: int = 250
    reason_steps: int = 2300
    mix_steps: int = 800
    batch_size: int = 48
    """Pictures a step, twice as many in `see`; computed in micro-batches of 24 of similar length."""
    learning_rate: float = 2e-3
    pool_size: int = 32_000
    """Different pictures trained on."""
    held_out_size: int = 500
    """Pictures that its accuracy is measured on."""
    seed: int = 1
    checkpoint_steps: int = 100

    @property
    def stages(self) -> tuple[tuple[str, int], ...]:
        """Name and steps of each stage, in order."""
        return (("see", self.see_steps), ("reason", self.reason_steps), ("mix", self.mix_steps))


class Pretrainer:
    """Model, optimizers and the position in the schedule; `save` and `load` make it resumable."""

    def __init__(self, config: PretrainConfig, folder: Path, start_from: Path | None = None) -> None:
        torch.manual_seed(config.seed)
        self.config, self.folder = config, folder
        self.rank, self.num_processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self.processor = self._processor(start_from)
        self.model = build_model(self.processor.tokenizer)
        if start_from is not None:
            trained = AutoModelForImageTextToText.from_pretrained(start_from, dtype="float32", use_safetensors=True)
            self.model.load_state_dict(trained.state_dict())
        self.heads = nn.Linear(self.model.config.get_text_config().hidden_size, 4 * len(LABELS))
        self.held_out = Pool.load_or_draw(folder, config.held_out_size, config.seed + 1)
        self.batches = Batches(Pool.load_or_draw(folder, config.pool_size, config.seed), self.processor)
        self.step, self.samples, self.seconds = 0, 0, 0.0
        self.optimizers = self._optimizers()

    def _processor(self, start_from: Path | None) -> Qwen2_5_VLProcessor:
        """The processor kept in the folder; a resumed run must go on with the tokens it began with."""
        path = self.folder / "processor"
        if not path.exists():
            first = AutoProcessor.from_pretrained(start_from) if start_from else None
            (first or build_processor(train_tokenizer(corpus()))).save_pretrained(path)
        return AutoProcessor.from_pretrained(path)

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        """Muon for the matrices inside the blocks, AdamW for embeddings, norms, biases and heads."""
        matrices: list[nn.Parameter] = []
        others = list(self.heads.parameters())
        for name, parameter in self.model.named_parameters():
            is_inside = parameter.ndim == 2 and "embed" not in name
            (matrices if is_inside else others).append(parameter)
        rate = self.config.learning_rate
        return [
            torch.optim.Muon(matrices, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
        ]

    def stage(self) -> tuple[str, float] | None:
        """The stage of the next step and the share of it that is done, from 0 to 1; `None` at the end."""
        done = self.step
        for name, steps in self.config.stages:
            if done < steps:
                return name, done / steps
            done -= steps
        return None

    def train_step(self, stage: str, progress: float) -> dict[str, float]:
        """One optimizer step; returns the losses, each a mean over its micro-batches."""
        self.batches.rng.seed(self.config.seed * 1_000_003 + self.step)  # a resumed run draws the same rows
        rate = self.config.learning_rate * self._rate(stage, progress)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        values: dict[str, list[float]] = defaultdict(list)
        parts = self._micro_batches(stage)
        num_tokens = sum(_num_targets(part) for part in parts if "cells" in part)
        for part in parts[self.rank :: self.num_processes]:
            losses = self._losses(part)
            weights = {
                "cells": CELL_WEIGHTS[stage] / len(parts),
                "text": _num_targets(part) / max(1, num_tokens),  # each token counts alike, whatever its row's length
                "drill": DRILL_WEIGHT,
            }
            torch.stack([loss * weights[name] for name, loss in losses.items()]).sum().backward()
            for name, loss in losses.items():
                values[name].append(loss.item())
        self._add_gradients()
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.samples += self.config.batch_size * (2 if stage == "see" else 1)
        return {name: sum(losses) / len(losses) for name, losses in values.items()}

    def _add_gradients(self) -> None:
        """Sums the gradients of all processes, each of which has its share of the micro-batches.

        A parameter that no process has a gradient of keeps none: Muon would move it along its old momentum.
        """
        if self.num_processes == 1:
            return
        parameters = [*self.model.parameters(), *self.heads.parameters()]
        used = torch.tensor([float(p.grad is not None) for p in parameters])
        dist.all_reduce(used)
        parameters = [p for p, number in zip(parameters, used.tolist()) if number]
        flat = torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in parameters])
        dist.all_reduce(flat)
        for parameter, gradient in zip(parameters, flat.split([p.numel() for p in parameters])):
            parameter.grad = gradient.view_as(parameter)

    def _rate(self, stage: str, progress: float) -> float:
        """Warm-up, a plateau in `see`, and a linear decay over the two other stages."""
        if stage == "see":
            return min(1.0, (self.step + 1) / 100)
        reason, mix = self.config.reason_steps, self.config.mix_steps
        done = progress * reason if stage == "reason" else reason + progress * mix
        return max(0.02, 1.0 - done / (reason + mix))

    def _micro_batches(self, stage: str) -> list[Batch]:
        batches, size = self.batches, self.config.batch_size
        if stage == "see":
            return [batches.pictures(MICRO_BATCH) for _ in range(2 * size // MICRO_BATCH)]
        pictured = batches.reasoning(size, 0.25, MICRO_BATCH) if stage == "reason" else batches.mixed(size, MICRO_BATCH)
        return [*pictured, batches.drills(NUM_DRILLS)]

    def _losses(self, part: Batch) -> dict[str, torch.Tensor]:
        if "cells" not in part:
            return {"drill": self.model(input_ids=part["input_ids"], labels=part["labels"], use_cache=False).loss}
        features, grid = self._features(part)
        encoded = torch.cat(cast("tuple[torch.Tensor, ...]", features.pooler_output))  # (B * cells, width)
        logits, cells, weight = self.heads(encoded), part["cells"].float(), torch.tensor(4.0)
        total = nn.functional.binary_cross_entropy_with_logits(logits, cells, pos_weight=weight, reduction="sum")
        losses = {"cells": total / cells.sum()}
        if "input_ids" in part:
            losses["text"], _ = self._forward(part, features, grid)
        return losses

    def _features(self, part: Batch) -> tuple[BaseModelOutputWithPooling, torch.Tensor]:
        """The tower's features of a batch's pictures, and their grid (B, 3)."""
        side = SIDE // 14
        grid = torch.tensor([[1, side, side]] * (len(part["pixel_values"]) // side**2))
        return self.model.model.get_image_features(part["pixel_values"], grid, return_dict=True), grid

    def _forward(
        self, part: Batch, features: BaseModelOutputWithPooling, grid: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and logits (B, T, vocabulary). Right-padded rows need no attention mask: no row looks ahead."""
        images = (part["input_ids"] == self.model.config.image_token_id).int()
        output = self.model(
            input_ids=part["input_ids"],
            labels=part["labels"],
            image_grid_thw=grid,
            mm_token_type_ids=images,
            mm_encoder_outputs={"image": features},
            use_cache=False,
        )
        return output.loss, output.logits

    @torch.no_grad()
    def probe(self) -> dict[str, float]:
        """Share of fresh train-side problems, by kind, whose whole reasoning greedy decoding would reproduce."""
        self.model.eval()
        batches = Batches(self.held_out, self.processor)
        texts = self.held_out.texts
        right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
        indices = sorted(range(len(texts)), key=lambda i: len(texts[i]["problem"]))
        for start in range(0, len(texts), 50):
            chosen = indices[start : start + 50]
            part = batches.collate(
                [(i, texts[i]["problem"], completion(texts[i], "tags")) for i in chosen], THINK_PROMPT
            )
            _, logits = self._forward(part, *self._features(part))
            guesses = logits[:, :-1].argmax(-1)  # (B, T - 1)
            labels = part["labels"][:, 1:].clone()
            first = (labels != -100).int().argmax(1)
            labels[torch.arange(len(chosen)), first] = -100  # the opening tag is given
            exact = ((guesses == labels) | (labels == -100)).all(1)
            for i, is_exact in zip(chosen, exact.tolist()):
                right[texts[i]["kind"]].append(is_exact)
        self.model.train()
        return {kind: round(sum(exact) / len(exact), 3) for kind, exact in right.items() if exact}

    def save(self) -> None:
        """Writes the checkpoint whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "place": {"step": self.step, "samples": self.samples, "seconds": self.seconds},
        }
        content = io.BytesIO()
        torch.save(state, content)
        write_whole(self.folder / "checkpoint.pt", content.getvalue())

    def load(self) -> bool:
        """Goes on from the checkpoint, if there is one."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        for optimizer, stored in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(stored)
        vars(self).update(state["place"])
        return True

    def export(self, target: Path) -> None:
        """The starter as transformers loads it: weights in bf16, processor, and how it was trained.

        `python -m training.starter.known_pictures TARGET` then makes the statistics of the pictures that it knows.
        """
        target.mkdir(parents=True, exist_ok=True)
        stored = build_model(self.processor.tokenizer)
        stored.load_state_dict(self.model.state_dict())
        stored.bfloat16().save_pretrained(target)
        self.processor.save_pretrained(target)
        minutes = round(self.seconds / 60, 1)
        record = {"config": asdict(self.config), "steps": self.step, "samples": self.samples, "minutes": minutes}
        write_json(target / "training.json", record, indent=2)


def _num_targets(part: Batch) -> int:
    """The tokens with a loss."""
    return int((part["labels"] != -100).sum()) if "labels" in part else 0


def batched_vision_attention(self, hidden_states, cu_seqlens, max_seqlen=None, position_embeddings=None, **kwargs):
    """The tower's attention when all pictures have one size: transformers' own loops over pictures on a CPU."""
    heads = self.qkv(hidden_states).reshape(hidden_states.shape[0], 3, self.num_heads, -1)
    queries, keys, values = heads.permute(1, 0, 2, 3).unbind(0)  # (B * patches, heads, head_dim)
    queries, keys = family.apply_rotary_pos_emb_vision(queries, keys, *position_embeddings)
    pictures = len(cu_seqlens) - 1
    split = (t.unflatten(0, (pictures, -1)).transpose(1, 2) for t in (queries, keys, values))
    mixed = nn.functional.scaled_dot_product_attention(*split)  # (B, heads, patches, head_dim)
    return self.proj(mixed.transpose(1, 2).reshape(hidden_states.shape[0], -1))
