"""Completions of held-out rows under every condition, graded with the reward's grader.

    report = evaluate(engine, rows, choose_conditions(["main"]), adapter="tuned")
    print(report.verdict)

For callers with an engine and rows; `training.evaluation.evaluate` loads both and writes files.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import Image
from tqdm import tqdm

from inference.common.errors import UserError
from inference.common.files import Json
from inference.model.request import Request
from inference.prompt.format import THINK_PROMPT, is_well_formed, parse_completion, stated_answer
from training.data.pictures import pictures_of
from training.evaluation.conditions import ADAPTER_THINKING, CONDITIONS, Condition, with_thoughts
from training.evaluation.held_out import clusters_of, sizes_and_keys, swap
from training.evaluation.measures.calibration import Vote, calibration
from training.evaluation.measures.probes import Probe, Said, measure, prefix_of, read_said
from training.evaluation.outcomes import GradedCompletion
from training.evaluation.report import Report
from training.evaluation.resume import KeptCompletion, Parts
from training.grading.contradiction import contradiction
from training.grading.grader import Mode, grade_answer, grade_many, last_answer
from training.grading.math_pool import num_workers

if TYPE_CHECKING:
    from datasets import Dataset

    from inference.engine.engine import Engine

_NOT_ASKED = KeptCompletion("", 0, False)
_SAMPLE_STEP = 1_000_000_007
"""The difference between the seeds of two samples of a row."""


def evaluate(
    engine: Engine,
    rows: Dataset,
    conditions: Sequence[Condition] = CONDITIONS,
    *,
    adapter: str | None = None,
    max_new_tokens: int = 256,
    seed: int = 0,
    batch_size: int = 64,
    num_samples: int = 1,
    progress: bool | tqdm = False,
    parts: Parts | None = None,
    tolerance: float = 0.0,
) -> Report:
    """Completes and grades every row under every condition.

    `rows` has `image`, perhaps `more_images`, `problem`, `solution` and, for the tables by kind, `kind`. `adapter` is
    its name in the engine; without one, the conditions that need it are left out. Those that change its thought bring
    `adapter-thinking` along, which has the thoughts; rows without what they need are not asked. An adapter with its own
    system prompt is asked with that instead of the thinking prompt, as visitors ask it. Conditions with a temperature
    complete each row `num_samples` times. Batches in `parts` are not completed again, and each finished batch is added
    to it. `progress` shows a bar on standard error, or is the bar of several evaluations; `tolerance` is the data's
    relative error of numbers. Raises `UserError` if there is no row or no condition.
    """
    conditions = with_thoughts([c for c in conditions if adapter or not c.tuned])
    if not conditions or len(rows) == 0:
        raise UserError(f"{len(rows)} rows, {len(conditions)} conditions: an evaluation needs one of each at least")
    swapped = any(c.picture == "swapped" or c.thought == "other" for c in conditions)
    partners = swap(*sizes_and_keys(rows), seed) if swapped else None
    own_prompt = engine.system_prompt(adapter) if adapter else None
    completer = _Completer(engine, rows, adapter, own_prompt, max_new_tokens, seed, batch_size, partners)
    started = time.perf_counter()
    completions = _complete(completer, conditions, num_samples, progress, parts)
    outcomes, samples = _graded(rows, conditions, completions, tolerance)
    clusters = clusters_of(rows)
    probes = _measured(rows, conditions, outcomes, partners, clusters)
    votes = {name: count_votes(graded) for name, graded in samples.items()}
    return Report(
        kinds=rows["kind"] if "kind" in rows.column_names else ["all"] * len(rows),
        outcomes=outcomes,
        probes=probes,
        clusters=clusters,
        about={
            "num_rows": len(rows),
            "seed": seed,
            "max_new_tokens": max_new_tokens,
            "prefixes": {c.name: c.prefix for c in conditions if c.prefix},
            "seconds": round(time.perf_counter() - started, 1),
            "own_system_prompt": own_prompt is not None,
            "repetition_penalty": engine.repetition_penalty,
        },
        samples=samples,
        votes={name: [vote.is_right for vote in each] for name, each in votes.items()},
        calibration={name: calibration(each, num_samples, clusters) for name, each in votes.items()},
    )


def _graded(
    rows: Dataset,
    conditions: Sequence[Condition],
    completions: Mapping[str, Sequence[Sequence[KeptCompletion]]],
    tolerance: float,
) -> tuple[dict[str, list[GradedCompletion]], dict[str, list[list[GradedCompletion]]]]:
    """The outcomes of each condition's first sample, and of those with several all samples, row by row."""
    outcomes: dict[str, list[GradedCompletion]] = {}
    samples: dict[str, list[list[GradedCompletion]]] = {}
    for condition in conditions:
        graded = [
            grade_rows(rows["solution"], each, condition.is_direct, rows["problem"], tolerance)
            for each in completions[condition.name]
        ]
        outcomes[condition.name] = graded[0]
        if len(graded) > 1:
            samples[condition.name] = [list(row) for row in zip(*graded, strict=True)]
    return outcomes, samples


def _measured(
    rows: Dataset,
    conditions: Sequence[Condition],
    outcomes: dict[str, list[GradedCompletion]],
    partners: Sequence[int] | None,
    clusters: Sequence[int],
) -> dict[str, Probe]:
    """The measures of the conditions that change a thought; of `outcomes` those go that asked no row."""
    probes = {}
    for condition in conditions:
        if condition.thought == "own":
            continue
        own = [read_said(outcome.text) for outcome in outcomes[ADAPTER_THINKING.name]]
        texts = [outcome.text for outcome in outcomes[condition.name]]
        probes[condition.name] = measure(condition.thought, own, texts, rows["problem"], partners, clusters)
        if not probes[condition.name].rows:
            del outcomes[condition.name]
    return probes


def grade_rows(
    solutions: Sequence[str],
    completions: Sequence[KeptCompletion],
    is_direct: bool,
    problems: Sequence[str] | None = None,
    tolerance: float = 0.0,
) -> list[GradedCompletion]:
    """One outcome for each row, in order, graded in parallel.

    Strict: the answer in its tags counts. Lenient: the last answer stated counts, tags or not. Where only the answer
    was asked for (`is_direct`), the whole completion is the answer, and strict and lenient are the same. `problems`
    give the options of choices; `tolerance` is the relative error that a number may have.
    """
    problems = problems if problems is not None else [""] * len(solutions)
    pairs = [(s, completion.text, p) for s, completion, p in zip(solutions, completions, problems, strict=True)]
    strict = _grades(pairs, "direct" if is_direct else "strict", tolerance)
    # A right answer in its tags is also the last one stated.
    wrong = [] if is_direct else [pair for pair in pairs if not strict[pair]]
    lenient = strict | _grades(wrong, "lenient", tolerance)
    with ThreadPoolExecutor(num_workers(), thread_name_prefix="contradictions") as threads:
        contradict = [False] * len(pairs) if is_direct else threads.map(_contradicts, pairs)
        return [
            GradedCompletion(
                is_well_formed(c.text), strict[pair], lenient[pair], c.num_tokens, c.truncated, c.text, is_so
            )
            for pair, c, is_so in zip(pairs, completions, contradict)
        ]


def count_votes(samples: Sequence[Sequence[GradedCompletion]]) -> list[Vote]:
    """For each row the share of its samples with the most frequent answer, and whether that is right (lenient).

    Answers are the same if the grader finds them equal. Among equally many votes the first answer wins; a sample
    without an answer has no vote.
    """
    sampled_answers = [tuple((last_answer(o.text).strip(), o.lenient) for o in row) for row in samples]
    different = list(dict.fromkeys(sampled_answers))
    with ThreadPoolExecutor(num_workers(), thread_name_prefix="counting") as threads:
        winners = dict(zip(different, threads.map(_winner, different)))
    return [winners[answers] for answers in sampled_answers]


@dataclass(frozen=True)
class _Completer:
    """Builds the engine's requests from rows and a condition."""

    engine: Engine
    rows: Dataset
    adapter: str | None
    own_prompt: str | None
    """The adapter's system prompt, used instead of the thinking prompt."""
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

    def prefixes(
        self, condition: Condition, said: Callable[[int], Said | None], first: int, problems: Sequence[str]
    ) -> list[str | None]:
        """The beginning of each row's completion; `None` for a row that lacks what the condition changes.

        `said` gives what the adapter said of its own to a row.
        """
        if condition.thought == "own":
            return [condition.prefix] * len(problems)
        rows = range(first, first + len(problems))
        others = [said(self.partners[row]) if condition.thought == "other" and self.partners else None for row in rows]
        return [prefix_of(condition.thought, said(row), *each) for row, each in zip(rows, zip(others, problems))]

    def complete(
        self, condition: Condition, sample: int, first: int, batch: Json, prefixes: Sequence[str | None]
    ) -> list[KeptCompletion]:
        """One sample of the rows from `first` on, decoded together; an empty one of a row whose prefix is `None`."""
        if condition.picture == "swapped":
            assert self.partners is not None
            images = pictures_of(self.rows[list(self.partners[first : first + len(batch["image"])])])
        else:
            images = pictures_of(batch)
        if condition.picture == "blank":
            images = [[Image.new("RGB", image.size, "white") for image in of_row] for of_row in images]
        requests = [
            Request(
                image=of_row[0],
                more_images=tuple(of_row[1:]),
                question=problem,
                system_prompt=self.system_prompt(condition),
                adapter=self.adapter if condition.tuned else None,
                max_new_tokens=self.max_new_tokens,
                temperature=condition.temperature,
                repetition_penalty=None,  # the base's own, as visitors ask
                seed=self.seed * 1_000_003 + first + i + sample * _SAMPLE_STEP,
                prefix=prefix,
            )
            for i, (of_row, problem, prefix) in enumerate(zip(images, batch["problem"], prefixes, strict=True))
            if prefix is not None
        ]
        completions = iter(self.engine.generate(requests) if requests else [])
        kept = (_NOT_ASKED if prefix is None else next(completions) for prefix in prefixes)
        return [KeptCompletion(c.text, c.num_tokens, c.truncated) for c in kept]


def progress_bar(total: int, shown: bool, initial: int = 0) -> tqdm:
    """A bar on standard error for so many completions, `initial` of them done before."""
    return tqdm(
        total=total,
        initial=initial,
        desc="completing",
        unit="completion",
        mininterval=0.1 if sys.stderr.isatty() else 10.0,
        disable=not shown,
    )


def _complete(
    completer: _Completer, conditions: Sequence[Condition], num_samples: int, progress: bool | tqdm, parts: Parts | None
) -> dict[str, list[list[KeptCompletion]]]:
    """For each condition its samples, each a completion for every row."""
    turns = [(c, sample) for c in conditions for sample in range(num_samples if c.temperature else 1)]
    batches = [(first, condition, sample) for first in completer.firsts() for condition, sample in turns]
    done = {(first, c.name, i): parts.get(c, i, first) if parts else None for first, c, i in batches}
    for (first, name, i), kept in done.items():
        if kept is not None and len(kept) != len(completer.rows[first : first + completer.batch_size]["problem"]):
            done[first, name, i] = None  # a damaged line
    num_kept = sum(len(completions or []) for completions in done.values())
    bar = progress
    if isinstance(bar, bool):
        bar = progress_bar(len(completer.rows) * len(turns), bar, num_kept)
    else:
        bar.initial += num_kept  # they took no time
        bar.n += num_kept
        bar.refresh()

    def said(row: int) -> Said | None:
        first = row - row % completer.batch_size
        return read_said((done[first, ADAPTER_THINKING.name, 0] or [])[row - first].text)

    # The thought of another row is known once all rows are done.
    stages = [[turn for turn in turns if (turn[0].thought == "other") is last] for last in (False, True)]
    with bar if isinstance(progress, bool) else nullcontext():
        for stage, first in itertools.product(stages, completer.firsts()):
            missing = [(c, sample) for c, sample in stage if done[first, c.name, sample] is None]
            batch = completer.rows[first : first + completer.batch_size] if missing else {}
            for condition, sample in missing:  # here, while the engine has this batch's encoded pictures
                prefixes = completer.prefixes(condition, said, first, batch["problem"])
                completions = completer.complete(condition, sample, first, batch, prefixes)
                done[first, condition.name, sample] = completions
                if parts:
                    parts.add(condition, sample, first, completions)
                bar.update(len(completions))
    samples: dict[str, list[list[KeptCompletion]]] = {c.name: [] for c in conditions}
    for condition, sample in turns:
        whole = [c for first in completer.firsts() for c in done[first, condition.name, sample] or []]
        samples[condition.name].append(whole)
    return samples


def _grades(cases: Sequence[tuple[str, str, str]], mode: Mode, tolerance: float) -> dict[tuple[str, str, str], bool]:
    """Of every solution, completion and problem, whether the completion is right."""
    pairs, problems = [(solution, text) for solution, text, _ in cases], [problem for _, _, problem in cases]
    return dict(zip(cases, (grade.correct for grade in grade_many(pairs, mode, problems, tolerance))))


def _contradicts(pair: tuple[str, str, str]) -> bool:
    """True if a completion's thought ends at another answer than the one given; `pair` as in `grade_rows`."""
    _, text, problem = pair
    parsed = parse_completion(text)
    both = (parsed.thinking, parsed.answer) if parsed.thinking else stated_answer(text)
    return bool(contradiction(*both, problem))


def _winner(answers: Sequence[tuple[str, bool]]) -> Vote:
    groups: list[tuple[str, bool]] = []
    votes: list[int] = []
    for answer, right in answers:
        if not answer:
            continue
        at = next((i for i, (first, _) in enumerate(groups) if _same(first, answer)), len(groups))
        if at == len(groups):
            groups.append((answer, right))
            votes.append(0)
        votes[at] += 1
    most = max(votes, default=0)
    return Vote(most / len(answers), bool(votes) and groups[votes.index(most)][1])


@lru_cache(maxsize=20_000)
def _same(one: str, other: str) -> bool:
    return one == other or grade_answer(one, other).correct
