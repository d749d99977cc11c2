"""The steps that make the starter: three stages, two optimizers, and a place in the schedule that can be resumed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as family

from inference.prompt.format import THINK_PROMPT
from training.starter.model import SIDE, build_model, build_processor, train_tokenizer
from training.starter.pretraining_data import GRID, LABELS, Batches, Pool, completion, corpus
from training.starter.templates import KINDS

MICRO_BATCH = 24
DRILLS = 16
"""Rows without a picture in each step of the last two stages."""


@dataclass(frozen=True)
class PretrainConfig:
    """How long and how fast. The shipped starter was made in two goes; its card says which."""

    see_steps: int = 300
    reason_steps: int = 2000
    mix_steps: int = 600
    batch_size: int = 48
    """Pictures a step, computed in micro-batches of 24 of similar length."""
    learning_rate: float = 2e-3
    pool_size: int = 32_000
    """Different pictures trained on."""
    seed: int = 1
    checkpoint_steps: int = 100

    @property
    def stages(self) -> tuple[tuple[str, int], ...]:
        return (("see", self.see_steps), ("reason", self.reason_steps), ("mix", self.mix_steps))


class Pretrainer:
    """Model, optimizers and the place in the schedule; `save` and `load` make it resumable."""

    def __init__(self, config: PretrainConfig, folder: Path, start_from: Path | None = None) -> None:
        torch.manual_seed(config.seed)
        self.config, self.folder = config, folder
        self.processor = self._processor(start_from)
        self.model = build_model(self.processor.tokenizer)
        if start_from is not None:
            trained = AutoModelForImageTextToText.from_pretrained(start_from, dtype="float32", use_safetensors=True)
            self.model.load_state_dict(trained.state_dict())
        self.heads = nn.Linear(self.model.config.get_text_config().hidden_size, 4 * len(LABELS))
        self.pool = Pool.load_or_draw(folder, config.pool_size, config.seed)
        self.held_out = Pool.load_or_draw(folder, 500, config.seed + 1)
        self.batches = Batches(self.pool, self.processor)
        self.step, self.samples, self.seconds = 0, 0, 0.0
        self.optimizers = self._optimizers()

    def _processor(self, start_from: Path | None):
        """The processor kept in the folder; a resumed run must go on with the tokens it began with."""
        kept = self.folder / "processor"
        if not kept.exists():
            first = AutoProcessor.from_pretrained(start_from) if start_from else None
            (first or build_processor(train_tokenizer(corpus()))).save_pretrained(kept)
        return AutoProcessor.from_pretrained(kept)

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        """Muon for the matrices inside the blocks, AdamW for embeddings, norms, biases and heads."""
        matrices: list[nn.Parameter] = []
        others = list(self.heads.parameters())
        for name, parameter in self.model.named_parameters():
            inside = parameter.ndim == 2 and "embed" not in name
            (matrices if inside else others).append(parameter)
        rate = self.config.learning_rate
        return [
            torch.optim.Muon(matrices, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
        ]

    def stage(self) -> tuple[str, float] | None:
        """The stage of the next step and how far it is, from 0 to 1; `None` at the end."""
        done = self.step
        for name, steps in self.config.stages:
            if done < steps:
                return name, done / steps
            done -= steps
        return None

    def train_step(self, stage: str, progress: float) -> dict[str, float]:
        """One optimizer step; returns the losses."""
        batches = self.batches
        batches.rng.seed(self.config.seed * 1_000_003 + self.step)  # a resumed run draws the same rows
        rate = self.config.learning_rate * self._rate(stage, progress)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        found: dict[str, list[float]] = {}
        parts = self._micro_batches(batches, stage)
        for part in parts:
            losses = self._losses(part)
            weight = {"see": 1.0, "reason": 0.3, "mix": 0.1}[stage]
            loss = torch.stack([value * (weight if name == "cells" else 1.0) for name, value in losses.items()]).sum()
            (loss / len(parts)).backward()
            for name, value in losses.items():
                found.setdefault(name, []).append(value.item())
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.samples += self.config.batch_size
        return {name: sum(values) / len(values) for name, values in found.items()}

    def _rate(self, stage: str, progress: float) -> float:
        """Warm-up, a plateau, half of it from the middle of `reason` on, and a linear decay over the mix."""
        warm = min(1.0, (self.step + 1) / 100)
        half = 0.5 if stage == "mix" or stage == "reason" and progress >= 0.5 else 1.0
        return warm * half if stage != "mix" else half * max(0.04, 1.0 - progress)

    def _micro_batches(self, batches: Batches, stage: str) -> list[dict]:
        size = self.config.batch_size
        if stage == "see":
            pixels, cells = batches.pictures(size)
            return [{"pixel_values": pixels, "cells": cells}]
        pictured = batches.reasoning(size, 0.25, MICRO_BATCH) if stage == "reason" else batches.mixed(size, MICRO_BATCH)
        return [*pictured, batches.drills(DRILLS)]

    def _losses(self, part: dict) -> dict[str, torch.Tensor]:
        if "cells" not in part:
            return {"drill": self.model(input_ids=part["input_ids"], labels=part["labels"], use_cache=False).loss}
        size = part["cells"].shape[0] // (GRID * GRID)
        grid = torch.tensor([[1, SIDE // 14, SIDE // 14]] * size)
        features = self.model.model.get_image_features(part["pixel_values"], grid, return_dict=True)
        named = self.heads(torch.cat(features.pooler_output))  # (B * cells, 4 * labels)
        cells = part["cells"].float()
        losses = {"cells": nn.functional.binary_cross_entropy_with_logits(named, cells, pos_weight=torch.tensor(16.0))}
        if "input_ids" in part:
            losses["text"] = self._forward(part, features, grid).loss
        return losses

    def _forward(self, part: dict, features, grid: torch.Tensor):
        """Right-padded rows need no attention mask: no row looks ahead."""
        images = (part["input_ids"] == self.model.config.image_token_id).int()
        return self.model(
            input_ids=part["input_ids"],
            labels=part["labels"],
            image_grid_thw=grid,
            mm_token_type_ids=images,
            mm_encoder_outputs={"image": features},
            use_cache=False,
        )

    @torch.no_grad()
    def probe(self) -> dict[str, float]:
        """Share of fresh train-side problems, by kind, whose whole reasoning greedy decoding would reproduce."""
        self.model.eval()
        batches = Batches(self.held_out, self.processor)
        right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
        rows = sorted(range(400), key=lambda i: len(self.held_out.texts[i]["problem"]))
        for start in range(0, 400, 50):
            chosen = rows[start : start + 50]
            texts = [self.held_out.texts[i] for i in chosen]
            part = batches.collate(
                [(i, t["problem"], completion(t, "tags")) for i, t in zip(chosen, texts)], THINK_PROMPT
            )
            grid = torch.tensor([[1, SIDE // 14, SIDE // 14]] * len(chosen))
            features = self.model.model.get_image_features(part["pixel_values"], grid, return_dict=True)
            guesses = self._forward(part, features, grid).logits[:, :-1].argmax(-1)  # (B, T - 1)
            wanted = part["labels"][:, 1:].clone()
            first = (wanted != -100).int().argmax(1)
            wanted[torch.arange(len(chosen)), first] = -100  # the opening tag is given
            exact = ((guesses == wanted) | (wanted == -100)).all(1)
            for text, good in zip(texts, exact.tolist()):
                right[text["kind"]].append(good)
        self.model.train()
        return {kind: round(sum(found) / len(found), 3) for kind, found in right.items()}

    def save(self) -> None:
        """Write the checkpoint whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "place": {"step": self.step, "samples": self.samples, "seconds": self.seconds},
        }
        part = self.folder / "checkpoint.part"
        torch.save(state, part)
        part.replace(self.folder / "checkpoint.pt")

    def load(self) -> bool:
        """Go on from the checkpoint, if there is one."""
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
        """The starter as transformers loads it: weights in bf16, processor, and how it was trained."""
        target.mkdir(parents=True, exist_ok=True)
        stored = build_model(self.processor.tokenizer)
        stored.load_state_dict(self.model.state_dict())
        stored.bfloat16().save_pretrained(target)
        self.processor.save_pretrained(target)
        record = {
            "config": asdict(self.config),
            "steps": self.step,
            "samples": self.samples,
            "minutes": round(self.seconds / 60, 1),
        }
        (target / "training.json").write_text(json.dumps(record, indent=2) + "\n")


def batched_vision_attention(self, hidden_states, cu_seqlens, max_seqlen=None, position_embeddings=None, **kwargs):
    """The tower's attention when all pictures have one size: transformers' own loops over pictures on a CPU."""
    heads = self.qkv(hidden_states).reshape(hidden_states.shape[0], 3, self.num_heads, -1)
    queries, keys, values = heads.permute(1, 0, 2, 3).unbind(0)  # (B * patches, heads, head_dim)
    queries, keys = family.apply_rotary_pos_emb_vision(queries, keys, *position_embeddings)
    pictures = len(cu_seqlens) - 1
    split = (t.unflatten(0, (pictures, -1)).transpose(1, 2) for t in (queries, keys, values))
    mixed = nn.functional.scaled_dot_product_attention(*split)  # (B, heads, patches, head_dim)
    return self.proj(mixed.transpose(1, 2).reshape(hidden_states.shape[0], -1))
