"""Asks the engine the held-out rows under every condition, and grades what it says.

    found = evaluate(engine, rows, choose_conditions(["main"]), adapter="tuned")
    print(found.verdict)

For programs that hold an engine and rows; `training.cli.evaluate` loads both and writes files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from inference.common.errors import UserError
from inference.engine.engine import Engine
from inference.model.request import Request
from inference.prompt.format import THINK_PROMPT
from training.evaluation.conditions import ADAPTER_THINKING, BASE_THINKING, CONDITIONS, Condition
from training.evaluation.evaluation_grading import judge, majority_votes
from training.evaluation.report import MEASURES, Outcome, Report
from training.evaluation.resume import Parts, Said
from training.evaluation.statistics import PairedDifference, paired_difference
from training.evaluation.swapped_pictures import sizes_and_keys, swap
from training.grading.grader import gold_answer
from training.grading.kinds import answer_kind

Progress = Callable[[int, int, float], None]
"""Told (completions done, completions in all, seconds since the start), first of those that were kept, if any."""
_SAMPLE_STEP = 1_000_000_007
"""Between the seeds of two samples of a row."""


def evaluate(
    engine: Engine,
    rows: Any,
    conditions: Sequence[Condition] = CONDITIONS,
    *,
    adapter: str | None = None,
    max_new_tokens: int = 256,
    seed: int = 0,
    batch_size: int = 64,
    num_samples: int = 1,
    progress: Progress | None = None,
    parts: Parts | None = None,
) -> Report:
    """Complete and grade every row under every condition.

    `rows` is a `datasets.Dataset` with `image`, `problem`, `solution` and, for the tables by kind, `kind`. `adapter` is
    the name under which the engine holds it; without one, the conditions that need it are left out. An adapter with a
    system prompt of its own is asked with that in the place of the thinking prompt, as visitors ask it. Conditions with
    a temperature complete each row `num_samples` times. What `parts` holds is not decoded again, and every batch that
    is finished goes there.
    """
    conditions = [c for c in conditions if adapter or not c.tuned]
    if not conditions or len(rows) == 0:
        raise UserError(f"{len(rows)} rows, {len(conditions)} conditions: an evaluation needs one of each at least")
    swapped = any(c.picture == "swapped" for c in conditions)
    partners = swap(*sizes_and_keys(rows), seed) if swapped else None
    own_prompt = engine.system_prompt(adapter) if adapter else None
    asking = _Asking(engine, rows, adapter, own_prompt, max_new_tokens, seed, batch_size, partners)
    started = time.perf_counter()
    said = _complete(asking, conditions, num_samples, progress, parts)
    outcomes, samples = _grade(rows["solution"], conditions, said)
    return Report(
        kinds=rows["kind"] if "kind" in rows.column_names else ["all"] * len(rows),
        outcomes=outcomes,
        about={
            "num_rows": len(rows),
            "seed": seed,
            "max_new_tokens": max_new_tokens,
            "seconds": round(time.perf_counter() - started, 1),
            "own_system_prompt": own_prompt is not None,
        },
        answer_kinds=[answer_kind(gold_answer(solution)) for solution in rows["solution"]],
        samples=samples,
        votes={name: majority_votes(found) for name, found in samples.items()},
    )


@dataclass(frozen=True)
class Comparison:
    """Two adapters on the same rows: how much larger the shares of the new one are."""

    format: PairedDifference
    strict: PairedDifference
    lenient: PairedDifference


def compare_adapters(engine: Engine, rows: Any, served: str | None, new: str, **options: Any) -> Comparison:
    """Paired differences, `new` less `served`, both greedy with the thinking prompt.

    Both are names of adapters that the engine holds; `served` may be `None`, for the base alone. `options` are those
    of `evaluate`, apart from `parts`. Choices are made on validation rows.
    """
    found = []
    for name in (new, served):
        condition = ADAPTER_THINKING if name else BASE_THINKING
        found.append(evaluate(engine, rows, [condition], adapter=name, **options).outcomes[condition.name])
    differences = {
        measure: paired_difference(*([passes(outcome) for outcome in outcomes] for outcomes in found))
        for measure, passes in MEASURES.items()
    }
    return Comparison(**differences)


@dataclass(frozen=True)
class _Asking:
    """All that turns a row and a condition into what the engine takes."""

    engine: Engine
    rows: Any
    adapter: str | None
    own_prompt: str | None
    """The adapter's, in the place of the thinking prompt."""
    max_new_tokens: int
    seed: int
    batch_size: int
    partners: Sequence[int] | None

    def firsts(self) -> Iterator[int]:
        return iter(range(0, len(self.rows), self.batch_size))

    def system_prompt(self, condition: Condition) -> str:
        if condition.tuned and self.own_prompt and condition.system_prompt == THINK_PROMPT:
            return self.own_prompt
        return condition.system_prompt

    def complete(self, condition: Condition, sample: int, first: int, batch: dict[str, Any]) -> list[Said]:
        """One sample of the rows from `first` on, decoded together."""
        images = batch["image"]
        if condition.picture == "swapped":
            assert self.partners is not None
            images = self.rows[list(self.partners[first : first + len(images)])]["image"]
        asked = [
            Request(
                image=Image.new("RGB", image.size, "white") if condition.picture == "blank" else image.convert("RGB"),
                question=problem,
                system_prompt=self.system_prompt(condition),
                adapter=self.adapter if condition.tuned else None,
                max_new_tokens=self.max_new_tokens,
                temperature=condition.temperature,
                seed=self.seed * 1_000_003 + first + i + sample * _SAMPLE_STEP,
                prefix=condition.prefix,
            )
            for i, (image, problem) in enumerate(zip(images, batch["problem"], strict=True))
        ]
        return [Said(c.text, c.num_tokens, c.truncated) for c in self.engine.generate(asked)]


def _complete(
    asking: _Asking, conditions: Sequence[Condition], num_samples: int, progress: Progress | None, parts: Parts | None
) -> dict[str, list[list[Said]]]:
    """For each condition its samples, each a completion for every row."""
    turns = [(c, sample) for c in conditions for sample in range(num_samples if c.temperature else 1)]
    batches = [(first, condition, sample) for first in asking.firsts() for condition, sample in turns]
    found = {(first, c.name, i): parts.get(c, i, first) if parts else None for first, c, i in batches}
    started, total = time.perf_counter(), len(asking.rows) * len(turns)
    done = sum(len(said or []) for said in found.values())
    if progress and done:
        progress(done, total, 0.0)
    for first in asking.firsts():
        missing = [(c, sample) for c, sample in turns if found[first, c.name, sample] is None]
        batch = asking.rows[first : first + asking.batch_size] if missing else {}
        for condition, sample in missing:  # inside, while the engine still holds this batch's encoded pictures
            said = found[first, condition.name, sample] = asking.complete(condition, sample, first, batch)
            if parts:
                parts.add(condition, sample, first, said)
            done += len(said)
            if progress:
                progress(done, total, time.perf_counter() - started)
    samples: dict[str, list[list[Said]]] = {c.name: [] for c in conditions}
    for condition, sample in turns:
        whole = [s for first in asking.firsts() for s in found[first, condition.name, sample] or []]
        samples[condition.name].append(whole)
    return samples


def _grade(
    solutions: Sequence[str], conditions: Sequence[Condition], said: dict[str, list[list[Said]]]
) -> tuple[dict[str, list[Outcome]], dict[str, list[list[Outcome]]]]:
    """Of each condition the outcomes of its first sample, and of several samples all, row by row."""
    firsts, several = {}, {}
    for condition in conditions:
        graded = [judge(solutions, sample, condition.is_direct) for sample in said[condition.name]]
        firsts[condition.name] = graded[0]
        if len(graded) > 1:
            several[condition.name] = [list(row) for row in zip(*graded, strict=True)]
    return firsts, several
