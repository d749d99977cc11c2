"""A small fixed set outside the reward, asked of the base and of an adapter: what else did training change?

    found = ask_outside(engine.generate, rows[:NUM_ROWS], after="tuned")     # before: the base
    found.sentence                                                           # "Outside the reward it gives the …"

The pictures are to be described, their questions to be answered without tags, and arithmetic is asked on a blank
picture. What is graded is graded by rule: no tags, more than a word, the right answer. Greedy, for any base.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from pydantic import BaseModel, Field, ValidationError

from inference.common.files import Json
from inference.model.request import Completion, Request
from inference.prompt.format import DIRECT_PROMPT, TAGS
from training.data.pictures import pictures_of
from training.evaluation.conditions import Condition
from training.evaluation.resume import KeptCompletion, Parts
from training.evaluation.statistics import Estimate, PairedDifference, paired_difference, share
from training.grading.grader import grade_many
from training.starter.everyday import EVERYDAY_KINDS, everyday_problem
from training.starter.problems import make_problem
from training.starter.templates import LETTERS, lettered

Complete = Callable[[Sequence[Request]], Sequence[Completion]]
"""Completes requests together, one completion for each, in order."""
Rows = Mapping[str, list[Any]]
"""A batch of a dataset's rows by column: `image`, `problem`, `solution`."""
NUM_ROWS = 24
"""Rows of each task at most."""
_MAX_NEW_TOKENS = 128
_SIDE = 224
"""The side of the blank picture, in pixels."""
DESCRIBE = "Describe the picture."


@dataclass(frozen=True)
class Ability:
    """A share of rows before and after, on the same rows."""

    name: str
    before: Estimate
    after: Estimate
    difference: PairedDifference

    def to_json(self) -> Json:
        return {"name": self.name} | {name: getattr(self, name).to_json() for name in ("before", "after", "difference")}


class _Figure(BaseModel):
    """An estimate as it was kept in a file."""

    value: float = Field(ge=-1, le=1)
    low: float = Field(ge=-2, le=2)
    high: float = Field(ge=-2, le=2)
    num_rows: int = Field(ge=1, le=NUM_ROWS)

    @property
    def estimate(self) -> Estimate:
        return Estimate(self.value, self.low, self.high, self.num_rows)


class _KeptAbility(BaseModel):
    """As `Ability.to_json`."""

    name: str = Field(max_length=100)
    before: _Figure
    after: _Figure
    difference: _Figure


def ability_figures(kept: Mapping[str, object]) -> list[tuple[str, int, str, str, str]]:
    """Name, number of rows, base, adapter and change in points with their intervals, of what `Outside.to_json` gave.

    The file may have been edited: what is no ability with figures is left out.
    """
    found: list[tuple[str, int, str, str, str]] = []
    abilities = kept.get("abilities")
    for each in abilities[:8] if isinstance(abilities, list) else []:
        with contextlib.suppress(ValidationError):
            one = _KeptAbility.model_validate(each)
            low, high = (f"{100 * end:+.1f}" for end in (one.difference.low, one.difference.high))
            change = f"{100 * one.difference.value:+.1f} ({low} to {high})"
            shares = str(one.before.estimate), str(one.after.estimate)
            found.append((one.name, one.difference.num_rows, *shares, change))
    return found


@dataclass(frozen=True)
class Outside:
    """Abilities of an adapter outside the reward, against those before."""

    abilities: tuple[Ability, ...]

    @property
    def has_changed(self) -> bool:
        """True if one of the abilities is shown to have changed."""
        return any(each.difference.is_down or each.difference.is_up for each in self.abilities)

    @property
    def sentence(self) -> str:
        less = [f"{each.name} less often ({_change(each)})" for each in self.abilities if each.difference.is_down]
        more = [f"{each.name} more often ({_change(each)})" for each in self.abilities if each.difference.is_up]
        if less or more:
            return f"Outside the reward it {', and it '.join(less + more)}."
        nums = [each.before.num_rows for each in self.abilities]
        num = f"{min(nums)} to {max(nums)}" if min(nums) < max(nums) else nums[0]
        return f"Outside the reward nothing is shown to have changed, on {num} rows of each task."

    def to_json(self) -> Json:
        return {"sentence": self.sentence, "abilities": [each.to_json() for each in self.abilities]}


@dataclass(frozen=True)
class _Task:
    """Questions of one kind, and what can be said of each completion by rule."""

    name: str
    system_prompt: str | None
    images: list[list[Image.Image]]
    questions: Sequence[str]
    solutions: Sequence[str]
    abilities: dict[str, Callable[[str, bool], bool]]
    """By name: whether a completion passes, given its text and whether it states the right answer."""


def ask_outside(
    complete: Complete,
    rows: Rows,
    *,
    after: str | None,
    before: str | None = None,
    parts: Parts | None = None,
    tolerance: float = 0.0,
) -> Outside:
    """Asks both adapters (their names in the requests; `None`: the base alone), and compares them row by row.

    `rows` are the first `NUM_ROWS` held-out rows, or fewer. Completions in `parts` are not made again; `tolerance` is
    the data's relative error of numbers.
    """
    asked, abilities = {"before": before, "after": after}, []
    for task in _tasks(rows):
        passes = [_passes(complete, task, when, adapter, parts, tolerance) for when, adapter in asked.items()]
        for name in task.abilities:
            one, other = (each[name] for each in passes)
            abilities.append(Ability(name, share(one), share(other), paired_difference(other, one)))
    return Outside(tuple(abilities))


def drawn_rows(is_starter: bool) -> Rows:
    """Rows for an adapter whose own are not at hand: problems that this project draws, always the same ones."""
    rng, kinds = random.Random("outside rows"), list(EVERYDAY_KINDS)
    problems = [
        make_problem(rng, "test") if is_starter else everyday_problem(kinds[i % len(kinds)], rng)
        for i in range(NUM_ROWS)
    ]
    return {
        "image": [problem.image for problem in problems],
        "problem": [problem.problem for problem in problems],
        "solution": [f"<answer>{problem.answer}</answer>" for problem in problems],
    }


def _passes(
    complete: Complete, task: _Task, when: str, adapter: str | None, parts: Parts | None, tolerance: float
) -> dict[str, list[bool]]:
    condition = Condition(f"outside-{task.name}-{when}", tuned=adapter is not None)
    kept = parts.get(condition, 0, 0) if parts else None
    if kept is None or len(kept) != len(task.questions):
        requests = [
            Request(
                image=images[0],
                more_images=tuple(images[1:]),
                question=question,
                system_prompt=task.system_prompt,
                adapter=adapter,
                max_new_tokens=_MAX_NEW_TOKENS,
                repetition_penalty=None,
            )
            for images, question in zip(task.images, task.questions, strict=True)
        ]
        kept = [KeptCompletion(c.text, c.num_tokens, c.truncated) for c in complete(requests)]
        if parts:
            parts.add(condition, 0, 0, kept)
    pairs = [(solution, completion.text) for solution, completion in zip(task.solutions, kept)]
    grades = grade_many(pairs, "lenient", task.questions, tolerance)
    return {
        name: [passes(completion.text, grade.correct) for completion, grade in zip(kept, grades)]
        for name, passes in task.abilities.items()
    }


def _tasks(rows: Rows) -> list[_Task]:
    images, exercises = pictures_of(rows), _exercises()
    blank = [[Image.new("RGB", (_SIDE, _SIDE), "white")]] * len(exercises)
    describes = {"describes the picture": lambda text, _: _is_free(text) and len(text.split()) > 1}
    answers = {
        "gives the answer without tags": lambda text, _: _is_free(text) and bool(text.strip()),
        "is right when asked for the answer alone": lambda text, is_right: is_right,
    }
    calculates = {"calculates without a picture": lambda text, is_right: is_right}
    return [
        _Task("describe", None, images, [DESCRIBE] * len(images), [""] * len(images), describes),
        _Task("direct", DIRECT_PROMPT, images, rows["problem"], rows["solution"], answers),
        _Task("arithmetic", None, blank, [q for q, _ in exercises], [answer for _, answer in exercises], calculates),
    ]


def _exercises() -> list[tuple[str, str]]:
    """Sums, differences, products and halves in turn, always the same ones, every fourth with options."""
    rng = random.Random("outside")
    exercises = []
    for i in range(NUM_ROWS):
        a, b, factor = rng.randint(11, 40), rng.randint(2, 9), rng.randint(2, 9)
        terms = [(f"{a} + {b}", a + b), (f"{a} - {b}", a - b), (f"{b} × {factor}", b * factor), (f"{2 * a} / 2", a)]
        term, value = terms[i % 4]
        question, answer = f"What is {term}?", str(value)
        if i % 4 == i // 4 % 4:
            options = [str(each) for each in rng.sample([value, value + 1, value + 10, value + 3], 4)]
            question, answer = lettered(question, options), LETTERS[options.index(answer)]
        exercises.append((question, answer))
    return exercises


def _is_free(text: str) -> bool:
    return not any(tag in text for tag in TAGS)


def _change(ability: Ability) -> str:
    low, high = (100 * end for end in (ability.difference.low, ability.difference.high))
    shares = f"{100 * ability.before.value:.0f} % before, {100 * ability.after.value:.0f} % now"
    return f"{shares}, of {ability.before.num_rows} rows; {low:+.0f} to {high:+.0f} points"
