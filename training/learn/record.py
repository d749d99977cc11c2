"""The record of what a run's training changed: completions of base, checkpoints and adapter on held-out problems.

    learn/                      beside the adapter (`LEARN_FOLDER`)
        changes.json            base and adapter on up to `MAX_CHANGES` test rows, graded
        replay.json             base and each kept checkpoint on `REPLAYED` of these rows
        strengths.json          accuracy and format of the adapter at each strength, on validation rows
        checkpoints.json        pass@k over the checkpoints (`training.evaluation.checkpoints`)
        0.jpg, 1.jpg, …         the pictures of the rows, small

The page shows it without a call of the model. It may come from another machine: every value is checked when it is read.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import Field, ValidationError, model_validator

from inference.adapters.record import LEARN_FOLDER
from inference.common.files import read_json, write_json, write_whole
from inference.common.settings import STARTER, base_source
from inference.common.validation import Strict
from inference.engine.engine import Engine
from inference.model.lora_file import WEIGHTS_FILE
from inference.model.lora_layers import holding, scaled
from inference.model.request import Request
from inference.prompt.format import THINK_PROMPT
from inference.prompt.image import small_jpeg
from inference.prompt.system_prompt import read_system_prompt
from training.config.run_config import RunConfig
from training.data.pictures import pictures_of
from training.evaluation.checkpoint_choice import candidates
from training.evaluation.compare import validation_rows
from training.evaluation.conditions import ADAPTER_THINKING, BASE_THINKING
from training.evaluation.evaluate import completion_limit
from training.evaluation.held_out import clusters_of, load_held_out
from training.evaluation.outcomes import GradedCompletion
from training.evaluation.resume import KeptCompletion
from training.evaluation.scoring import evaluate, grade_rows, progress_bar
from training.evaluation.statistics import Estimate, share
from training.grading.grader import gold_answer, last_answer
from training.learn.strength import STRENGTHS, STRENGTHS_FILE, part_of
from training.runs.folder import RunFolder, step_of

if TYPE_CHECKING:
    from datasets import Dataset

    from training.data.dataset import Splits

CHANGES, REPLAY = "changes.json", "replay.json"
MAX_CHANGES = 96
"""Rows of the gallery."""
REPLAYED = 6
MAX_CHECKPOINTS = 8
"""Kept checkpoints that are asked; as many adapters as share a batch."""
STRENGTH_ROWS = 48
"""Validation rows that a run asks at each strength at its end, if its evaluation has as many."""
_BATCH_ROWS = 64
"""Rows whose pictures are held at a time while the strengths are asked."""
MAX_TEXT_CHARS = 4_000
"""Of a completion that is kept."""
PICTURE_PIXELS = 200
"""The longer side of a kept picture."""
MAX_FILE_BYTES = 4_000_000
_Part = TypeVar("_Part", bound=Strict)
_Share = Annotated[float, Field(ge=0, le=1)]


class Row(Strict):
    """A held-out problem."""

    pictures: list[Annotated[str, Field(pattern=r"^\d{1,4}\.jpg$")]] = Field(max_length=16)
    """Names of files in the folder."""
    problem: str
    gold: str
    kind: str


class Side(Strict):
    """A completion of one row, graded."""

    text: str
    read: str
    """The answer as the grader reads it: the last one that is stated."""
    right: bool
    in_format: bool


class ChangedRow(Row):
    base: Side
    adapter: Side

    @property
    def change(self) -> str:
        """`gained`, `lost`, `right` (both) or `wrong` (both)."""
        if self.base.right == self.adapter.right:
            return "right" if self.adapter.right else "wrong"
        return "gained" if self.adapter.right else "lost"


class Changes(Strict):
    """The content of `changes.json`."""

    rows: list[ChangedRow] = Field(max_length=MAX_CHANGES)


class ReplayedRow(Row):
    sides: list[Side]
    """By step."""


class Replay(Strict):
    """The content of `replay.json`."""

    steps: list[int] = Field(min_length=1, max_length=MAX_CHECKPOINTS + 1)
    """0 is the base."""
    rows: list[ReplayedRow] = Field(max_length=REPLAYED)

    @model_validator(mode="after")
    def _is_whole(self) -> Replay:
        if any(len(row.sides) != len(self.steps) for row in self.rows):
            raise ValueError("each row has a completion for each step")
        if self.steps != sorted(set(self.steps)) or self.steps[0] < 0:
            raise ValueError("steps grow, from 0 on")
        return self


class Strengths(Strict):
    """The content of `strengths.json`: shares with their intervals, by strength; empty if the run had no rows."""

    strengths: list[Annotated[float, Field(ge=0, le=STRENGTHS[-1])]] = Field(max_length=20)
    accuracy: list[tuple[_Share, _Share, _Share]]
    """Lenient: value, low, high."""
    in_format: list[tuple[_Share, _Share, _Share]]
    num_rows: int = Field(ge=0, le=10**9)

    @model_validator(mode="after")
    def _is_whole(self) -> Strengths:
        if not len(self.strengths) == len(self.accuracy) == len(self.in_format):
            raise ValueError("each strength has its shares")
        if self.num_rows and not any(self.strengths) or bool(self.num_rows) != bool(self.strengths):
            raise ValueError("rows were asked at a strength above 0, or there was none")
        return self

    @property
    def best(self) -> float:
        """The strength with the highest accuracy; among equals the one nearest to 1, which it is without rows."""
        pairs = [pair for pair in zip(self.strengths, self.accuracy) if pair[0]]
        return max(pairs, key=lambda pair: (pair[1][0], -abs(pair[0] - 1)))[0] if pairs else 1.0


def read_record(adapter: Path, name: str, kind: type[_Part]) -> _Part | None:
    """A part of the record beside an adapter; `None` if there is none, or it is damaged or of another version."""
    try:
        path = part_of(adapter, name)
        state = path.stat() if path else None
    except OSError:
        return None
    if path is None or state is None or state.st_size > MAX_FILE_BYTES:
        return None
    return _read(path, kind, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=16)
def _read(path: Path, kind: type[_Part], modified: int, size: int) -> _Part | None:
    """The part in one state of its file."""
    content = read_json(path, MAX_FILE_BYTES)
    try:
        json.dumps(content, ensure_ascii=False, allow_nan=False).encode()  # no half characters
        return kind.model_validate(content)
    except (ValidationError, ValueError):
        return None


def record_run(folder: RunFolder, config: RunConfig, splits: Splits | None = None, num_rows: int = MAX_CHANGES) -> Path:
    """Writes the parts that a finished run's record lacks; returns the folder of the record.

    `splits` are its rows if they are loaded already. Of its test rows those are taken that its evaluation takes, and of
    its validation rows as many, at most `STRENGTH_ROWS`.
    """
    most = min(num_rows, config.eval_rows or num_rows, MAX_CHANGES)
    rows = load_held_out(config.data, "test", most, splits=splits).rows
    engine = Engine.load(base_source(config.base), revision=config.base_revision)
    limit, tolerance = completion_limit(config), config.data.tolerance
    recorder = Recorder(engine, folder.adapter, rows, max_new_tokens=limit, tolerance=tolerance)
    if not (recorder.folder / REPLAY).is_file():
        recorder.write_replay(recorder.write_changes(), kept_checkpoints(folder))
    recorder.write_strengths(validation_rows(config, splits, min(most, STRENGTH_ROWS)))
    return recorder.folder


def is_recorded(adapter: Path) -> bool:
    """True if a run's record has all that the run writes."""
    return all((adapter / LEARN_FOLDER / name).is_file() for name in (REPLAY, STRENGTHS_FILE))


def kept_checkpoints(run: RunFolder) -> dict[int, Path]:
    """The adapters of a run's kept checkpoints by step: at most `MAX_CHECKPOINTS`, closer together at the beginning."""
    found = {step_of(path): path for path in (*run.checkpoints.glob("checkpoint-*"), *candidates(run))}
    there = {step: path for step, path in found.items() if step > 0 and (path / WEIGHTS_FILE).is_file()}
    return {step: there[step] for step in spread(sorted(there))}


def shipped_checkpoints() -> dict[int, Path]:
    """Those of the shipped run."""
    return {int(path.name.rpartition("-")[2]): path for path in sorted((STARTER / "history").glob("step-*"))}


def spread(steps: Sequence[int], most: int = MAX_CHECKPOINTS) -> list[int]:
    """At most so many of the steps, in order, with growing distances, since most changes early; the last among them.

    >>> spread([5 * i for i in range(1, 31)])
    [5, 10, 15, 20, 35, 55, 90, 150]
    """
    if len(steps) <= most:
        return list(steps)
    first, last = steps[0], steps[-1]
    wanted = [first * (last / first) ** (i / (most - 1)) for i in range(most)]
    return sorted({min(steps, key=lambda step: abs(step - each)) for each in wanted})


class Recorder:
    """Asks the engine and writes the record beside an adapter."""

    def __init__(
        self,
        engine: Engine,
        adapter: Path,
        rows: Dataset,
        *,
        max_new_tokens: int,
        tolerance: float = 0.0,
        progress: bool = False,
    ) -> None:
        """`rows` are test rows; at most `MAX_CHANGES` of them are asked. `progress` shows bars on standard error."""
        self._engine, self._adapter, self.folder = engine, adapter, adapter / LEARN_FOLDER
        self._rows = rows.select(range(min(len(rows), MAX_CHANGES)))
        self._limit, self._tolerance, self._progress = max_new_tokens, tolerance, progress
        self.folder.mkdir(exist_ok=True)

    def write_changes(self) -> Changes:
        """`changes.json`, and the pictures."""
        self._engine.add_adapter("recorded", self._adapter)
        report = self._ask(self._rows, "recorded", with_base=True)
        sides = zip(self._sides(report[BASE_THINKING.name]), self._sides(report[ADAPTER_THINKING.name]), strict=True)
        rows = [
            ChangedRow(**row.model_dump(), base=base, adapter=adapter)
            for row, (base, adapter) in zip(self._described(), sides, strict=True)
        ]
        changes = Changes(rows=rows)
        write_json(self.folder / CHANGES, changes.model_dump())
        return changes

    def write_replay(self, changes: Changes, checkpoints: dict[int, Path]) -> Replay:
        """`replay.json`, on rows of every change and kind."""
        chosen = _varied(changes.rows)
        rows = self._rows.select(chosen)
        sides = [[changes.rows[i].base for i in chosen]]
        for path in checkpoints.values():
            self._engine.add_adapter("recorded", path)
            sides.append(self._sides(self._ask(rows, "recorded")[ADAPTER_THINKING.name]))
        described = [Row(**changes.rows[i].model_dump(include=set(Row.model_fields))) for i in chosen]
        replayed = [
            ReplayedRow(**row.model_dump(), sides=list(own)) for row, own in zip(described, zip(*sides), strict=True)
        ]
        replay = Replay(steps=[0, *checkpoints], rows=replayed)
        write_json(self.folder / REPLAY, replay.model_dump())
        return replay

    def write_strengths(self, validation: Dataset | None) -> Strengths:
        """`strengths.json`; each row is asked at all strengths together. Without rows it says that there were none."""
        if validation is None:
            found = Strengths(strengths=[], accuracy=[], in_format=[], num_rows=0)
        else:
            by_strength = self._at_strengths(validation)
            clusters = clusters_of(validation)
            accuracy = [_rounded(share([one.lenient for one in own], clusters)) for own in by_strength]
            in_format = [_rounded(share([one.well_formed for one in own], clusters)) for own in by_strength]
            num_rows = len(validation)
            found = Strengths(strengths=list(STRENGTHS), accuracy=accuracy, in_format=in_format, num_rows=num_rows)
        write_json(self.folder / STRENGTHS_FILE, found.model_dump())
        return found

    def _at_strengths(self, rows: Dataset) -> list[list[GradedCompletion]]:
        """The greedy completions of the rows at each of `STRENGTHS`, graded."""
        weights, prompt = self._engine.read_adapter(self._adapter), read_system_prompt(self._adapter) or THINK_PROMPT
        held = [(f"{strength:g}", holding(scaled(weights, strength))) if strength else None for strength in STRENGTHS]
        kept: list[list[KeptCompletion]] = [[] for _ in STRENGTHS]
        with progress_bar(len(rows) * len(STRENGTHS), self._progress) as bar:
            for first in range(0, len(rows), _BATCH_ROWS):
                batch = rows[first : first + _BATCH_ROWS]
                requests = [
                    Request(
                        image=images[0],
                        more_images=tuple(images[1:]),
                        question=problem,
                        system_prompt=prompt,
                        adapter=at_strength and at_strength[0],
                        get_adapter=at_strength and at_strength[1],
                        max_new_tokens=self._limit,
                        repetition_penalty=None,  # the base's own, as visitors ask
                    )
                    for images, problem in zip(pictures_of(batch), batch["problem"], strict=True)
                    for at_strength in held
                ]
                for i, one in enumerate(self._engine.generate(requests)):
                    kept[i % len(held)].append(KeptCompletion(one.text, one.num_tokens, one.truncated))
                bar.update(len(requests))
        return [grade_rows(rows["solution"], own, False, rows["problem"], self._tolerance) for own in kept]

    def _ask(self, rows: Dataset, name: str, with_base: bool = False) -> dict[str, list[GradedCompletion]]:
        conditions = [*([BASE_THINKING] if with_base else []), ADAPTER_THINKING]
        limit, tolerance = self._limit, self._tolerance
        return evaluate(
            self._engine,
            rows,
            conditions,
            adapter=name,
            max_new_tokens=limit,
            tolerance=tolerance,
            progress=self._progress,
        ).outcomes

    def _sides(self, outcomes: Sequence[GradedCompletion]) -> list[Side]:
        return [
            Side(
                text=one.text[:MAX_TEXT_CHARS],
                read=last_answer(one.text)[:200],
                right=one.lenient,
                in_format=one.well_formed,
            )
            for one in outcomes
        ]

    def _described(self) -> list[Row]:
        """The rows in words; writes their pictures."""
        kinds = self._rows["kind"] if "kind" in self._rows.column_names else [""] * len(self._rows)
        rows, number = [], 0
        for i, kind in enumerate(kinds):
            batch = self._rows[i : i + 1]
            names = []
            for picture in pictures_of(batch)[0]:
                names.append(f"{number}.jpg")
                write_whole(self.folder / names[-1], small_jpeg(picture, PICTURE_PIXELS))
                number += 1
            problem, gold = batch["problem"][0], gold_answer(batch["solution"][0])
            rows.append(Row(pictures=names, problem=problem[:2_000], gold=str(gold)[:200], kind=str(kind or "")[:40]))
        return rows


def _rounded(found: Estimate) -> tuple[float, float, float]:
    return round(found.value, 4), round(found.low, 4), round(found.high, 4)


def _varied(rows: Sequence[ChangedRow]) -> list[int]:
    """At most `REPLAYED` rows, of every kind in turn, gained ones before others, always the same."""
    order = {"gained": 0, "lost": 1, "right": 2, "wrong": 3}
    shuffled = random.Random(0).sample(range(len(rows)), len(rows))
    best = sorted(shuffled, key=lambda i: order[rows[i].change])
    chosen: list[int] = []
    while best and len(chosen) < REPLAYED:
        kinds = [rows[i].kind for i in chosen]
        chosen.append(min(best, key=lambda i: kinds.count(rows[i].kind)))
        best.remove(chosen[-1])
    return sorted(chosen)
