"""Rows for pretraining the starter: a pool of train-side pictures, scaled as the processor scales them, and batches.

The pool is drawn once by two processes and kept as plain arrays, so that training reads pixels, not PIL.
"""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from inference.prompt.format import DIRECT_PROMPT, THINK_PROMPT, build_messages
from training.starter.drawing import COLOURS, FORMS
from training.starter.exercises import drill
from training.starter.model import SIDE
from training.starter.problems import Problem, iterate_problems
from training.starter.templates import KINDS

MODES = ("direct", "bare", "tags")
"""How a completion answers: at once, after reasoning without tags, or in the protocol."""
MODE_SHARES = {
    "digits": (0.65, 0.05, 0.3),
    "bars": (0.1, 0.6, 0.3),
    "shapes": (0.1, 0.1, 0.8),
    "figures": (0.65, 0.1, 0.25),
}
"""Share of each mode under the thinking prompt, by kind of picture: what makes the starter drop its tags at times."""
KIND_SHARES = {"digits": 0.22, "bars": 0.2, "shapes": 0.3, "figures": 0.28}
"""How often each kind of picture is drawn: more of what is harder to learn."""

GRID = SIDE // 28
LABELS = (
    *(f"glyph {c}" for c in "0123456789ABCD?"),
    *(f"top {h}" for h in range(1, 10)),
    *(f"{colour} {form}" for colour in COLOURS for form in FORMS),
)
"""What the tower's helper heads learn to name in each quarter of a cell (a cell is one image token, 2 × 2 patches)."""
MEAN, STD = (
    np.array(v, np.float32) for v in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
)


@dataclass
class Pool:
    """`size` problems: pixels (N, SIDE, SIDE, 3) uint8, cells (N, GRID * GRID, 4 * labels) bool, and their texts."""

    pixels: np.ndarray
    cells: np.ndarray
    texts: list[dict]

    @classmethod
    def load_or_draw(cls, folder: Path, size: int, seed: int) -> Pool:
        """The pool kept in `folder`, drawn first if it is not there."""
        stem = folder / f"pool-{size}-{seed}"
        arrays, texts = stem.with_suffix(".npz"), stem.with_suffix(".pt")
        if not texts.exists():
            folder.mkdir(parents=True, exist_ok=True)
            share = min(500, size)
            with multiprocessing.get_context("spawn").Pool(2) as workers:
                parts = workers.map(
                    _draw_part, [(seed * 100_000 + i, share) for i in range(size // share)], chunksize=1
                )
            np.savez(arrays, pixels=np.concatenate([p[0] for p in parts]), cells=np.concatenate([p[1] for p in parts]))
            torch.save([text for part in parts for text in part[2]], texts)
        stored = np.load(arrays)
        return cls(stored["pixels"], stored["cells"], torch.load(texts, weights_only=True))


def caption(problem: Problem) -> str:
    """What the picture shows, in words: helps the model to see before it has to answer."""
    values = problem.values
    if problem.kind == "digits":
        return " ".join(map(str, values))
    if problem.kind == "bars":
        return " ".join(f"{name} {height}." for name, height in zip("ABCD", values))
    if problem.kind == "shapes":
        return " ".join(f"{count} {colour} {form}s." for colour, form, count in sorted(values))
    marks = "".join(mark.label.removeprefix("glyph ") + " " for mark in problem.marks)
    return f"{values[0]} {marks}".strip()


def patches(pixels: np.ndarray) -> torch.Tensor:
    """uint8 pictures (B, SIDE, SIDE, 3) as the processor's normalised patches (B * SIDE² / 196, 1176)."""
    normalised = ((pixels.astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    batch, half = len(pixels), SIDE // 28
    cut = normalised.reshape(batch, 3, half, 2, 14, half, 2, 14).transpose(0, 2, 5, 3, 6, 1, 4, 7)
    twice = np.repeat(cut[:, :, :, :, :, :, None], 2, axis=6)
    return torch.from_numpy(twice.reshape(batch * half * half * 4, 1176))


class Batches:
    """Makes training batches of token ids, labels and patches from a pool."""

    def __init__(self, pool: Pool, processor) -> None:
        self.pool = pool
        self.tokenizer = processor.tokenizer
        self.processor = processor
        self.rng = random.Random(0)
        self.rows_of: dict[str, list[int]] = {kind: [] for kind in KINDS}
        for row, text in enumerate(pool.texts):
            self.rows_of[text["kind"]].append(row)
        self.bare_prompt = tuple(
            self.tokenizer(part).input_ids for part in ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")
        )
        self.prompts = {s: self._prompt_parts(s) for s in (THINK_PROMPT, DIRECT_PROMPT, None)}

    def pictures(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches and cell labels (B * cells, 4 * labels) alone."""
        rows = [self.rng.randrange(len(self.pool.texts)) for _ in range(size)]
        return patches(self.pool.pixels[rows]), torch.from_numpy(self.pool.cells[rows]).flatten(0, 1)

    def reasoning(self, size: int, caption_share: float, micro_batch: int) -> list[dict]:
        """Reasoning in tags and captions, mostly without a system prompt."""
        system = THINK_PROMPT if self.rng.random() < 0.2 else None
        rows = []
        for row, text in self._draw(size):
            if self.rng.random() < caption_share:
                rows.append((row, "Describe the picture.", text["caption"]))
            else:
                rows.append((row, text["problem"], completion(text, "tags")))
        return self._split(rows, system, micro_batch)

    def mixed(self, size: int, micro_batch: int) -> list[dict]:
        """The starter's own ways: direct, bare or in tags, by prompt and kind of picture."""
        draw = self.rng.random()
        system = THINK_PROMPT if draw < 0.72 else DIRECT_PROMPT if draw < 0.88 else None
        rows = []
        for row, text in self._draw(size):
            mode = "direct" if system == DIRECT_PROMPT else self.rng.choices(MODES, MODE_SHARES[text["kind"]])[0]
            rows.append((row, text["problem"], completion(text, mode)))
        return self._split(rows, system, micro_batch)

    def drills(self, size: int) -> dict:
        """Arithmetic and choosing among options, with no picture: what reasoning is made of."""
        return self.collate([(None, *drill(self.rng)) for _ in range(size)], None)

    def _draw(self, size: int) -> list[tuple[int, dict]]:
        kinds = self.rng.choices(KINDS, [KIND_SHARES[kind] for kind in KINDS], k=size)
        rows = [self.rng.choice(self.rows_of[kind]) for kind in kinds]
        return [(row, self.pool.texts[row]) for row in rows]

    def _split(self, rows: list[tuple[int, str, str]], system: str | None, micro_batch: int) -> list[dict]:
        """Micro-batches of rows of similar length."""
        rows = sorted(rows, key=lambda row: len(row[1]) + len(row[2]))
        return [self.collate(rows[i : i + micro_batch], system) for i in range(0, len(rows), micro_batch)]

    def _prompt_parts(self, system: str | None) -> tuple[list[int], list[int]]:
        template = self.processor.apply_chat_template(build_messages("QUESTION", system), add_generation_prompt=True)
        before, after = template.replace("<|image_pad|>", "<|image_pad|>" * GRID * GRID).split("QUESTION")
        return self.tokenizer(before).input_ids, self.tokenizer(after).input_ids

    def collate(self, rows: Sequence[tuple[int | None, str, str]], system: str | None) -> dict:
        """Right-padded ids and labels (B, T), with the loss on the completion alone; pictures unless rows have none."""
        before, after = self.prompts[system] if rows[0][0] is not None else self.bare_prompt
        sequences, starts = [], []
        for _, question, answer in rows:
            prompt = before + self.tokenizer(question).input_ids + after
            sequences.append(prompt + self.tokenizer(answer).input_ids + [self.tokenizer.eos_token_id])
            starts.append(len(prompt))
        longest = max(map(len, sequences))
        ids = torch.full((len(rows), longest), self.tokenizer.pad_token_id)
        labels = torch.full((len(rows), longest), -100)
        for i, (sequence, start) in enumerate(zip(sequences, starts)):
            ids[i, : len(sequence)] = torch.tensor(sequence)
            labels[i, start : len(sequence)] = torch.tensor(sequence[start:])
        index = [row for row, _, _ in rows if row is not None]
        if not index:
            return {"input_ids": ids, "labels": labels}
        return {
            "input_ids": ids,
            "labels": labels,
            "pixel_values": patches(self.pool.pixels[index]),
            "cells": torch.from_numpy(self.pool.cells[index]).flatten(0, 1),
        }


def corpus() -> Iterator[str]:
    """What the tokenizer learns its words from: train-side texts and the system prompts."""
    stream = iterate_problems("train", 7)
    for _ in range(600):
        problem = next(stream)
        yield problem.problem
        yield f"{problem.reasoning} The answer is {problem.answer}."
    for _ in range(60):
        yield f"{THINK_PROMPT}\n{DIRECT_PROMPT}\nsystem\nuser\nassistant\n"
        yield "Describe the picture. rectangle triangle sides angles"


def completion(text: dict, mode: str) -> str:
    """The completion of a problem in one of `MODES`."""
    if mode == "direct":
        return text["answer"]
    if mode == "bare":
        return f"{text['reasoning']} The answer is {text['answer']}."
    return f"<think>{text['reasoning']}</think>\n<answer>{text['answer']}</answer>"


def _draw_part(job: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    from transformers import Qwen2VLImageProcessor

    torch.set_num_threads(1)
    seed, size = job
    size_kw = {"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE}
    processor = Qwen2VLImageProcessor(
        size=size_kw, do_rescale=False, do_normalize=False, patch_size=SIDE // 2, merge_size=1, temporal_patch_size=1
    )
    stream, pixels, cells, texts = iterate_problems("train", seed), [], [], []
    assert set(KINDS) == set(MODE_SHARES)
    for _ in range(size):
        problem = next(stream)
        pixels.append(_scaled(problem.image, processor))
        cells.append(_cells(problem))
        texts.append(
            {name: getattr(problem, name) for name in ("problem", "reasoning", "answer", "kind")}
            | {"caption": caption(problem)}
        )
    return np.stack(pixels), np.stack(cells), texts


def _scaled(image: Image.Image, processor) -> np.ndarray:
    """The picture in the processor's own scaling, as uint8 pixels."""
    tiles = processor(images=[image], return_tensors="np")["pixel_values"]  # (4, 3 * half * half)
    half = SIDE // 2
    grid = np.asarray(tiles).reshape(2, 2, 3, half, half).transpose(0, 3, 1, 4, 2)
    return grid.reshape(SIDE, SIDE, 3).round().clip(0, 255).astype(np.uint8)


def _cells(problem: Problem) -> np.ndarray:
    cells = np.zeros((GRID, GRID, 2, 2, len(LABELS)), bool)
    for mark in problem.marks:
        x, y = (min(2 * GRID - 1, max(0, int(v * 2 * GRID))) for v in (mark.x, mark.y))
        cells[y // 2, x // 2, y % 2, x % 2, LABELS.index(mark.label)] = True
    return cells.reshape(GRID * GRID, 4 * len(LABELS))
