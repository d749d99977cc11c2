"""Rows for pretraining the starter: pictures of the train split, exercises without a picture, and batches of both.

A pool of pictures, scaled as the processor scales them, is drawn once by two processes and kept as plain arrays:
training reads pixels, not PIL images.
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
from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor

from inference.prompt.format import DIRECT_PROMPT, THINK_PROMPT, build_messages
from training.starter.drawing import COLOURS, FORMS
from training.starter.model import IMAGE_SIZE, SIDE
from training.starter.problems import Problem, iterate_problems
from training.starter.templates import KINDS, WAYS, Question, lettered, product, think

MODES = ("direct", "bare", "tags")
"""Forms of a completion: the answer at once, after reasoning without tags, or in the protocol."""
MODE_SHARES = {
    "digits": (0.8, 0.05, 0.15),
    "bars": (0.1, 0.65, 0.25),
    "shapes": (0.15, 0.15, 0.7),
    "figures": (0.15, 0.65, 0.2),
}
"""Share of each mode under the thinking prompt, by kind of picture: what makes the starter drop its tags at times."""
WAY_SHARES = {
    "digits": (0.4, 0.25, 0.35),
    "bars": (0.2, 0.42, 0.38),
    "shapes": (0.4, 0.25, 0.35),
    "figures": (0.2, 0.42, 0.38),
}
"""Share of each way to think (`templates.WAYS`) in completions that reason, by kind of picture."""
PRACTICE_SHARES = (0.05, 0.1, 0.85)
"""The same while the model learns to reason: most practice where there are most steps."""
KIND_SHARES = {"digits": 0.35, "bars": 0.08, "shapes": 0.35, "figures": 0.22}
"""Share of each kind of picture: more of the kinds that are harder to learn."""
GRID = SIDE // 28
"""Cells on a side of the picture: a cell is one image token, 2 × 2 patches."""
LABELS = (
    *(f"glyph {c}" for c in "0123456789ABCD?"),
    *(f"top {h}" for h in range(1, 10)),
    *(f"{colour} {form}" for colour in COLOURS for form in FORMS),
)
"""The names that the tower's helper heads learn to give to each quarter of a cell."""
MEAN, STD = (
    np.array(v, np.float32) for v in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
)
Row = tuple[int | None, str, str]
"""The index of a picture in the pool (`None` without one), a question, and its completion."""
Batch = dict[str, torch.Tensor]
Text = dict[str, str]
"""A problem's `problem`, `answer`, `kind` and `caption`, and its thought in each way: `glance`, `short`, `careful`."""


@dataclass
class Pool:
    """Problems: pixels (N, SIDE, SIDE, 3) uint8, cells (N, GRID * GRID, 4 * labels) bool, and their texts."""

    pixels: np.ndarray
    cells: np.ndarray
    texts: list[Text]

    @classmethod
    def load_or_draw(cls, folder: Path, size: int, seed: int) -> Pool:
        """The pool of `size` problems kept in `folder`, drawn first if it is not there."""
        stem = folder / f"pool-{size}-{seed}"
        arrays, texts = stem.with_suffix(".npz"), stem.with_suffix(".pt")
        if not texts.exists():
            folder.mkdir(parents=True, exist_ok=True)
            share = min(500, size)
            jobs = [(seed * 100_000 + i, share) for i in range(size // share)]
            if len(jobs) == 1:
                parts = [_draw_part(jobs[0])]
            else:
                with multiprocessing.get_context("spawn").Pool(2) as workers:
                    parts = workers.map(_draw_part, jobs, chunksize=1)
            np.savez(arrays, pixels=np.concatenate([p[0] for p in parts]), cells=np.concatenate([p[1] for p in parts]))
            torch.save([text for part in parts for text in part[2]], texts)
        stored = np.load(arrays)
        return cls(stored["pixels"], stored["cells"], torch.load(texts, weights_only=True))


class Batches:
    """Makes training batches of token ids, labels and patches from a pool."""

    def __init__(self, pool: Pool, processor: Qwen2_5_VLProcessor) -> None:
        self.pool, self.processor, self.tokenizer = pool, processor, processor.tokenizer
        self.rng = random.Random(0)
        self.rows_by_kind = {kind: [i for i, text in enumerate(pool.texts) if text["kind"] == kind] for kind in KINDS}
        self.bare_prompt = self._ids("<|im_start|>user\n"), self._ids("<|im_end|>\n<|im_start|>assistant\n")
        self.prompts = {system: self._prompt_ids(system) for system in (THINK_PROMPT, DIRECT_PROMPT, None)}

    def pictures(self, size: int) -> Batch:
        """Patches and cell labels (B * cells, 4 * labels) alone."""
        return self._pictures([self.rng.randrange(len(self.pool.texts)) for _ in range(size)])

    def reasoning(self, size: int, caption_share: float, micro_batch: int) -> list[Batch]:
        """Reasoning in tags and captions, mostly without a system prompt."""
        system = THINK_PROMPT if self.rng.random() < 0.2 else None
        rows: list[Row] = []
        for i, text in self._draw(size):
            if self.rng.random() < caption_share:
                rows.append((i, "Describe the picture.", text["caption"]))
            else:
                rows.append((i, text["problem"], completion(text, "tags", self._way(PRACTICE_SHARES))))
        return self._split(rows, system, micro_batch)

    def mixed(self, size: int, micro_batch: int) -> list[Batch]:
        """The starter's own ways: direct, bare or in tags, by prompt and kind of picture."""
        draw = self.rng.random()
        system = THINK_PROMPT if draw < 0.72 else DIRECT_PROMPT if draw < 0.88 else None
        rows: list[Row] = []
        for i, text in self._draw(size):
            mode = "direct" if system == DIRECT_PROMPT else self.rng.choices(MODES, MODE_SHARES[text["kind"]])[0]
            rows.append((i, text["problem"], completion(text, mode, self._way(WAY_SHARES[text["kind"]]))))
        return self._split(rows, system, micro_batch)

    def drills(self, size: int) -> Batch:
        """Arithmetic and choosing among options, with no picture: the single steps of reasoning."""
        return self.collate([(None, *drill(self.rng)) for _ in range(size)], None)

    def collate(self, rows: Sequence[Row], system: str | None) -> Batch:
        """Right-padded ids and labels (B, T), with the loss on the completion alone; pictures unless rows have none."""
        indices = [i for i, _, _ in rows if i is not None]
        before, after = self.prompts[system] if indices else self.bare_prompt
        prompts = [before + self._ids(question) + after for _, question, _ in rows]
        answers = [self._ids(answer) + [self.tokenizer.eos_token_id] for _, _, answer in rows]
        longest = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers))
        ids = torch.full((len(rows), longest), self.tokenizer.pad_token_id)
        labels = torch.full((len(rows), longest), -100)
        for i, (prompt, answer) in enumerate(zip(prompts, answers)):
            end = len(prompt) + len(answer)
            ids[i, :end] = torch.tensor(prompt + answer)
            labels[i, len(prompt) : end] = torch.tensor(answer)
        return {"input_ids": ids, "labels": labels} | (self._pictures(indices) if indices else {})

    def _pictures(self, indices: list[int]) -> Batch:
        cells = torch.from_numpy(self.pool.cells[indices]).flatten(0, 1)
        return {"pixel_values": patches(self.pool.pixels[indices]), "cells": cells}

    def _draw(self, size: int) -> list[tuple[int, Text]]:
        kinds = self.rng.choices(KINDS, [KIND_SHARES[kind] for kind in KINDS], k=size)
        indices = [self.rng.choice(self.rows_by_kind[kind]) for kind in kinds]
        return [(i, self.pool.texts[i]) for i in indices]

    def _split(self, rows: list[Row], system: str | None, micro_batch: int) -> list[Batch]:
        """Micro-batches of rows of similar length."""
        rows = sorted(rows, key=lambda row: len(row[1]) + len(row[2]))
        return [self.collate(rows[i : i + micro_batch], system) for i in range(0, len(rows), micro_batch)]

    def _prompt_ids(self, system: str | None) -> tuple[list[int], list[int]]:
        """The prompt's tokens before and after the question."""
        template = self.processor.apply_chat_template(build_messages("QUESTION", system), add_generation_prompt=True)
        before, after = template.replace("<|image_pad|>", "<|image_pad|>" * GRID * GRID).split("QUESTION")
        return self._ids(before), self._ids(after)

    def _way(self, shares: Sequence[float]) -> str:
        return self.rng.choices(list(WAYS), shares)[0]

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text).input_ids


def patches(pixels: np.ndarray) -> torch.Tensor:
    """uint8 pictures (B, SIDE, SIDE, 3) as the processor's normalised patches (B * SIDE² / 196, 1176)."""
    normalised = ((pixels.astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    cut = normalised.reshape(-1, 3, GRID, 2, 14, GRID, 2, 14).transpose(0, 2, 5, 3, 6, 1, 4, 7)
    twice = np.repeat(cut[:, :, :, :, :, :, None], 2, axis=6)
    return torch.from_numpy(twice.reshape(-1, 1176))


def caption(problem: Problem) -> str:
    """The contents of the picture in words: helps the model to see before it has to answer."""
    values = problem.values
    if problem.kind == "digits":
        return " ".join(map(str, values))
    if problem.kind == "bars":
        return " ".join(f"{name} {height}." for name, height in zip("ABCD", values))
    if problem.kind == "shapes":
        return " ".join(f"{count} {colour} {form}s." for colour, form, count in sorted(values))
    return " ".join([values[0], *(mark.label.removeprefix("glyph ") for mark in problem.marks)])


def completion(text: Text, mode: str, way: str = "careful") -> str:
    """The completion of a problem in one of `MODES`, with its reasoning in one of `templates.WAYS`."""
    if mode == "direct":
        return text["answer"]
    if mode == "bare":
        return f"{text[way]} The answer is {text['answer']}."
    return f"<think>{text[way]}</think>\n<answer>{text['answer']}</answer>"


def corpus() -> Iterator[str]:
    """The texts that the tokenizer is trained on: those of the train split and the system prompts."""
    stream = iterate_problems("train", 7)
    for _ in range(600):
        problem = next(stream)
        yield problem.problem
        yield f"{' '.join(problem.thoughts.values())} The answer is {problem.answer}."
    for _ in range(60):
        yield f"{THINK_PROMPT}\n{DIRECT_PROMPT}\nsystem\nuser\nassistant\n"
        yield "Describe the picture. rectangle triangle sides angles"


def drill(rng: random.Random) -> tuple[str, str]:
    """A question without a picture, of numbers like those of the problems, and its completion in tags."""
    kind = rng.choice(("sum", "difference", "product", "half", "choose", "choose"))
    question, options = _exercise(kind, rng), []
    if kind == "choose" or rng.random() < 0.5:
        options = [question.answer]
        while len(options) < 4:
            other = _exercise(kind, rng).answer
            if other not in options:
                options.append(other)
        rng.shuffle(options)
    thoughts, answer = think(question, {}, options)
    text = lettered(question.text, options) if options else question.text
    return text, completion({"answer": answer} | thoughts, "tags", rng.choice(("short", "careful", "careful")))


def _exercise(kind: str, rng: random.Random) -> Question:
    """One calculation as a question."""
    if kind == "choose":
        whole, part = rng.randint(0, 80), rng.randint(1, 9)
        answer = rng.choice((str(whole % 12), str(whole), str(whole), f"{whole}.5", f"{part}/{rng.randint(3, 14)}"))
        return Question(f"Which choice is {answer}?", f"{answer}.", f"The value is {answer}.", answer)
    if kind == "product":
        a, b = rng.randint(2, 9), rng.choice((rng.randint(2, 9), rng.randint(2, 39)))
        return Question(f"What is {a} × {b}?", f"{a} × {b} = {a * b}.", product(a, b), str(a * b))
    if kind == "half":
        whole = rng.randint(2, rng.choice((80, 351)))
        term, value = f"{whole} / 2", f"{whole / 2:g}"
    elif kind == "difference":
        is_angle = rng.random() < 0.4
        a = 180 if is_angle else rng.randint(1, rng.choice((20, 48)))
        b = 2 * rng.randint(20, 80) if is_angle else rng.randint(0, min(a, 39))
        term, value = f"{a} - {b}", str(a - b)
    else:
        numbers = rng.choice(((1, 40, 0, 9), (1, 58, 2, 39), (20, 120, 20, 120), (20, 270, 0, 81)))
        a, b = rng.randint(*numbers[:2]), rng.randint(*numbers[2:])
        if numbers[0] == 20:
            a = a // 10 * 10 if numbers[2] == 0 else a // 2 * 2
            b = b if numbers[2] == 0 else b // 2 * 2
        term, value = f"{a} + {b}", str(a + b)
    return Question(f"What is {term}?", f"{term} = {value}.", f"{term} = {value}.", value)


def _draw_part(job: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, list[Text]]:
    """Pixels, cells and texts of some problems; `job` is their seed and number."""
    torch.set_num_threads(1)
    seed, size = job
    processor = Qwen2VLImageProcessor(
        size=IMAGE_SIZE, do_rescale=False, do_normalize=False, patch_size=SIDE // 2, merge_size=1, temporal_patch_size=1
    )
    stream, pixels, cells, texts = iterate_problems("train", seed), [], [], []
    for _ in range(size):
        problem = next(stream)
        pixels.append(_scaled(problem.image, processor))
        cells.append(_cells(problem))
        columns = {name: getattr(problem, name) for name in ("problem", "answer", "kind")}
        texts.append(columns | problem.thoughts | {"caption": caption(problem)})
    return np.stack(pixels), np.stack(cells), texts


def _scaled(image: Image.Image, processor: Qwen2VLImageProcessor) -> np.ndarray:
    """The picture in the processor's own scaling, as uint8 pixels (SIDE, SIDE, 3)."""
    tiles = processor(images=[image], return_tensors="np")["pixel_values"]  # (4, 3 * half * half)
    half = SIDE // 2
    grid = np.asarray(tiles).reshape(2, 2, 3, half, half).transpose(0, 3, 1, 4, 2)
    return grid.reshape(SIDE, SIDE, 3).round().clip(0, 255).astype(np.uint8)


def _cells(problem: Problem) -> np.ndarray:
    """The labels in each quarter of each cell (GRID * GRID, 4 * labels)."""
    cells = np.zeros((GRID, GRID, 2, 2, len(LABELS)), bool)
    for mark in problem.marks:
        x, y = (min(2 * GRID - 1, max(0, int(v * 2 * GRID))) for v in (mark.x, mark.y))
        cells[y // 2, x // 2, y % 2, x % 2, LABELS.index(mark.label)] = True
    return cells.reshape(GRID * GRID, 4 * len(LABELS))
