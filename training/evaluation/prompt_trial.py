"""A few problems under several system prompts, side by side: for an adapter that does not say which one it needs.

    trials = try_prompts(engine, engine.generate, folder, trial_problems(is_starter=True), prompts_with(None))
    print(trials_text(trials))

The problems are drawn by this project, greedy, with the base's own repetition penalty, as visitors ask.
"""

from __future__ import annotations

import random
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from inference.engine.engine import Engine
from inference.model.request import Request
from inference.prompt.format import is_well_formed
from training.evaluation.measures.outside import Complete
from training.grading.grader import grade_lenient
from training.starter.everyday import EVERYDAY_KINDS, everyday_problem
from training.starter.problems import make_problem

NUM_PROBLEMS = 3
MAX_NEW_TOKENS = 256
_SEED = 23


class AskedProblem(Protocol):
    """A problem of the starter, or an everyday one."""

    @property
    def image(self) -> Image.Image: ...
    @property
    def problem(self) -> str: ...
    @property
    def answer(self) -> str: ...


@dataclass(frozen=True)
class Answered:
    """One completion of a problem."""

    text: str
    is_correct: bool
    """By the last answer that it states."""
    keeps_format: bool

    @property
    def verdict(self) -> str:
        """In words."""
        return f"{'right' if self.is_correct else 'wrong'}, {'' if self.keeps_format else 'not '}in the format"


@dataclass(frozen=True)
class Trial:
    """One problem under each prompt."""

    question: str
    answer: str
    answered: dict[str, Answered]
    """By the prompt's name."""
    repetition_penalty: float
    """The base's own, with which all were asked; 1 is none."""


def trial_problems(is_starter: bool) -> list[AskedProblem]:
    """The problems: of the starter's test split, or everyday ones for another base; always the same ones."""
    rng = random.Random(_SEED)
    if is_starter:
        return [make_problem(rng, "test") for _ in range(NUM_PROBLEMS)]
    return [everyday_problem(kind, rng) for kind in list(EVERYDAY_KINDS)[:NUM_PROBLEMS]]


def try_prompts(
    engine: Engine,
    complete: Complete,
    adapter: Path,
    problems: Sequence[AskedProblem],
    prompts: Mapping[str, str],
) -> list[Trial]:
    """Asks the adapter in a folder each problem under each of the `prompts` (texts by name).

    Raises `UserError` for an adapter or a prompt that cannot be served with this base.
    """
    for text in prompts.values():
        engine.tokenizer.check_is_text(text)
    weights = engine.read_adapter(adapter)
    requests = [
        Request(
            image=problem.image,
            question=problem.problem,
            system_prompt=text,
            adapter=adapter.name,
            get_adapter=lambda: weights,
            max_new_tokens=MAX_NEW_TOKENS,
            repetition_penalty=None,
        )
        for problem in problems
        for text in prompts.values()
    ]
    completions = iter(complete(requests))
    penalty = engine.repetition_penalty
    return [
        Trial(p.problem, p.answer, {name: _answered(p, next(completions).text) for name in prompts}, penalty)
        for p in problems
    ]


def trials_text(trials: Sequence[Trial]) -> str:
    """The problems one below the other, each with its completions, for a terminal."""
    lines = []
    for trial in trials:
        lines += [f"{trial.question}  ({trial.answer})", ""]
        for name, answered in trial.answered.items():
            lines += [f"  {name}: {answered.verdict}", textwrap.indent(answered.text, "    "), ""]
    return "\n".join([*lines, scores_text(trials)])


def scores_text(trials: Sequence[Trial]) -> str:
    """The number of right answers and of completions in the format under each prompt, in a sentence for each, and the
    base's repetition penalty if it has one."""
    sentences = []
    for name in trials[0].answered:
        answered = [trial.answered[name] for trial in trials]
        right, kept = sum(a.is_correct for a in answered), sum(a.keeps_format for a in answered)
        sentences.append(f"Under {name}, {right} of {len(trials)} are right and {kept} in the format.")
    if (penalty := trials[0].repetition_penalty) != 1:
        sentences.append(f"All were asked with the base's repetition penalty, {penalty:g}.")
    return " ".join(sentences)


def _answered(problem: AskedProblem, text: str) -> Answered:
    grade = grade_lenient(f"<answer>{problem.answer}</answer>", text, problem.problem)
    return Answered(text, grade.correct, is_well_formed(text))
