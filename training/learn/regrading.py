"""Rewards of recorded rollouts by other settings: what the record has, what is kept, and what must be graded.

    needs = needed(recorded, config, other, GradeStore(home))
    if needs.is_enough: scored(recorded, other, needs.rewards)
    grade_missing(folder, config, other, needs, store, progress)      # makes `needs.missing`, and keeps it

What the record lacks of a run's own function can be graded anew too, and is left out of the sums until then. The page
has a process for it (`training.learn.lab_process`).
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from inference.common.errors import UserError, first_line
from inference.common.files import Json
from inference.common.settings import base_source
from training.config.run_config import RunConfig, change_config
from training.grading.advantages import Floats, Ints
from training.grading.reward_loading import check_name, load_reward, reward_settings
from training.grading.rewards import REWARDS, Reward
from training.learn.further_columns import FurtherColumns
from training.learn.grades import GradeStore, Keys
from training.learn.reward_lab import Bools, Recorded, identity, recorded_groups, short_name, tokens_of

MAX_NAMED = 8
"""Reward functions that a sentence names."""


@dataclass(frozen=True)
class Needs:
    """The rewards of a configuration as far as they are known, and what is missing."""

    rewards: Mapping[str, Floats]
    """(N,) by the function's short name; NaN also where a grade is missing."""
    missing: Mapping[str, Bools]
    """(N,) by the function's name, of those that lack a grade which can be made."""
    is_enough: bool
    """True if all that is missing is what the record lacks of the run's own functions."""
    left_out: Mapping[str, tuple[int, str]]
    """The run's functions that the record lacks: for how many completions, and "" or why they cannot be graded."""
    cut: Bools
    """(N,) True where a completion has more tokens than the configuration allows."""
    seconds: float | None
    """The time of the missing grades by the last ones; `None` where a function was never measured."""

    @property
    def num_missing(self) -> int:
        return sum(int(each.sum()) for each in self.missing.values())

    @property
    def left_out_words(self) -> list[str]:
        """Sentences about `left_out`, one for the functions of one number and reason."""
        words = []
        for num, why in dict.fromkeys(self.left_out.values()):
            names = [name for name, each in self.left_out.items() if each == (num, why)]
            more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
            without = f"The record lacks {', '.join(names[:MAX_NAMED])}{more} for {num:,} of {len(self.cut):,} answers"
            end = f". It cannot be graded: {why}" if why else " until it is graded"
            words.append(f"{without}; there it counts in neither column{end}.")
        return words


def lab_config(
    config: RunConfig, rewards: Mapping[str, float], tolerance: float, max_completion_length: int
) -> RunConfig:
    """A run's configuration with the settings that the lab changes; raises `UserError` for one that cannot be."""
    for name in rewards:
        check_name(name)
    names = [short_name(name) for name in rewards]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"two rewards are called {', '.join(twice)}; the records know them by that name: leave one out")
    values = {"rewards": dict(rewards), "max_completion_length": max_completion_length}
    return change_config(config, values | {"data": {"tolerance": tolerance}})


def needed(recorded: Recorded, config: RunConfig, other: RunConfig, store: GradeStore) -> Needs:
    """The rewards that `other` asks of a run with `config`: from the record, from the store, or still to be graded.

    Raises `UserError` where a change needs grades and the record lacks solutions, or a reward's file is not there.
    """
    cut = recorded.num_tokens > other.max_completion_length
    known: dict[str, Floats] = {}
    missing: dict[str, Bools] = {}
    left_out: dict[str, tuple[int, str]] = {}
    is_enough, seconds = True, 0.0
    for name in other.rewards:
        short, is_own = short_name(name), name in config.rewards
        values = known[short] = recorded.rewards[short].copy() if is_own else np.full(len(cut), np.nan)
        lost = recorded.absent[short] if is_own else np.zeros_like(cut)
        is_same = is_own and _settings(name, config) == _settings(name, other)
        changed = (cut if is_same else np.ones_like(cut)) & ~lost
        if not (changed | lost).any():
            continue
        at = np.flatnonzero(changed | lost)
        try:
            found, keys = _kept(recorded, name, other, at, cut, store)
        except UserError as error:
            if changed.any():
                raise
            left_out[name] = int(lost.sum()), str(error)
            continue
        values[at] = [np.nan if (grade := found.get(key)) is None else grade for key in keys]
        lacking = np.zeros_like(cut)
        lacking[at] = [key not in found for key in keys]
        if (lacking & lost).any():
            left_out[name] = int((lacking & lost).sum()), ""
        if lacking.any():
            missing[name] = lacking
            is_enough &= not (lacking & changed).any()
            each = store.seconds_each(name)
            seconds += np.nan if each is None else each * int(lacking.sum())
    return Needs(known, missing, is_enough, left_out, cut, None if np.isnan(seconds) else seconds)


def _kept(
    recorded: Recorded, name: str, other: RunConfig, at: Ints, cut: Bools, store: GradeStore
) -> tuple[dict[bytes, float | None], list[bytes]]:
    """The grades of one function that are kept, and the keys of the completions `at`."""
    if recorded.num_without_solution:
        raise UserError(
            f"{recorded.num_without_solution:,} of {recorded.num_completions:,} completions have no solution on "
            "record, as older runs wrote them: only the weights of the recorded rewards can be changed"
        )
    key = Keys(name, _settings(name, other), other.max_completion_length)
    keys = [key(recorded.identities[i], bool(cut[i])) for i in at]
    return store.find(keys), keys


def num_to_grade(config: RunConfig, other: RunConfig, before: Needs, after: Needs) -> dict[str, int]:
    """The grades that lack for the two, `before` of `config` and `after` of `other`, by the function's name."""
    counts = {name: int(lacking.sum()) for name, lacking in after.missing.items()}
    for name, lacking in before.missing.items():
        is_same = name in other.rewards and _settings(name, config) == _settings(name, other)
        counts[name] = counts.get(name, 0) + int((lacking & after.cut if is_same else lacking).sum())
    return {name: count for name, count in counts.items() if count}


def _settings(name: str, config: RunConfig) -> dict[str, object]:
    """The settings that a run gives to one reward function."""
    return reward_settings(config.max_completion_length, config.data.tolerance).get(name, {})


def grade_missing(
    folder: Path,
    config: RunConfig,
    other: RunConfig,
    needs: Needs,
    store: GradeStore,
    progress: Callable[[int], object],
    note: Callable[[str], object] = lambda words: None,
) -> None:
    """Makes the missing grades, step by step, and keeps those of each step at once; `progress` gets their number.

    A function of ours gets the completions without a grade; a user's own gets the whole step with the further columns
    of its rows, as in the run. `note` gets in words what it does not get. Raises `UserError`.
    """
    functions = {name: load_reward(name, **_settings(name, other)) for name in needs.missing}
    keys = {name: Keys(name, _settings(name, other), other.max_completion_length) for name in functions}
    own = {name: function for name, function in functions.items() if name not in REWARDS}
    columns = FurtherColumns(store.home, config, own, (row for _, row in recorded_groups(folder, config)), note)
    texts, num = Texts(config, other), len(needs.cut)
    for first, rows in _steps(folder, config):
        if first + len(rows) > num:
            return
        for name, function in functions.items():
            lacking = needs.missing[name][first : first + len(rows)].tolist()
            if not any(lacking):
                continue
            asked = rows if name in own else [one for one, lacks in zip(rows, lacking) if lacks]
            given = texts.columns(asked) if name in REWARDS else columns.given(function, asked, texts)
            began = time.perf_counter()
            with columns.explained():
                rewards = _called(function, given)
            named = [(keys[name](identity(*one), texts.is_cut(one[1])), each) for one, each in zip(asked, rewards)]
            store.add(name, named, time.perf_counter() - began)
            progress(sum(lacking))


def _steps(folder: Path, config: RunConfig) -> Iterator[tuple[int, list[tuple[Json, Json]]]]:
    """The completions of each step with their groups, and the number of the first one."""
    first = 0
    for _, groups in groupby((row for _, row in recorded_groups(folder, config)), key=lambda row: row["step"]):
        rows = [(row, one) for row in groups for one in row["completions"]]
        yield first, rows
        first += len(rows)


def _called(function: Reward, columns: Mapping[str, Any]) -> list[float | None]:
    """The rewards of a function, also of an asynchronous one."""
    returned = function(**columns)
    return list(asyncio.run(returned) if inspect.iscoroutine(returned) else returned)


class Texts:
    """The texts of completions as they would be under a length limit, by the base's own tokenizer."""

    def __init__(self, config: RunConfig, other: RunConfig) -> None:
        """Of a run with `config`, under the limit of `other`."""
        self.config, self.limit, self._most = config, other.max_completion_length, config.max_completion_length
        self._tokenizer: Any = None

    def is_cut(self, completion: Json) -> bool:
        return min(tokens_of(completion), self._most) > self.limit

    def text(self, completion: Json) -> str:
        """The text up to the limit, which the tokenizer may place a little otherwise than sampling did."""
        text = plain(completion["text"])
        if not self.is_cut(completion):
            return text
        ends = [end for _, end in self._encoded(text)["offset_mapping"]]
        return text[: ends[self.limit - 1]] if len(ends) >= self.limit else text

    def ids(self, completion: Json) -> list[int]:
        """The token ids of the text as it would be."""
        return list(self._encoded(self.text(completion))["input_ids"])

    def _encoded(self, text: str) -> Any:
        if self._tokenizer is None:
            from transformers import AutoTokenizer  # takes seconds, and only a shorter limit needs it

            base, revision = base_source(self.config.base), self.config.base_revision
            try:
                self._tokenizer = AutoTokenizer.from_pretrained(base, revision=revision, local_files_only=True)
            except (OSError, ValueError) as error:
                raise UserError(
                    f"the tokenizer of {self.config.base} is not on this machine ({first_line(error)}), and cutting "
                    "completions needs it; leave max_completion_length as the run had it"
                ) from error
        return self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)

    def columns(self, rows: Sequence[tuple[Json, Json]]) -> dict[str, Any]:
        """The columns of the record in the form in which the trainer hands them over."""
        system = [{"role": "system", "content": self.config.system_prompt_text}]
        lengths = [min(tokens_of(one), self._most, self.limit) for _, one in rows]
        return {
            "completions": [[{"role": "assistant", "content": self.text(one)}] for _, one in rows],
            "completion_ids": [range(length) for length in lengths],  # ours only count them
            "prompts": [[*system, {"role": "user", "content": plain(row["prompt"])}] for row, _ in rows],
            "solution": [plain(row.get("solution")) for row, _ in rows],
            "problem": [plain(row["prompt"]) for row, _ in rows],
        }


def plain(text: object) -> str:
    """Text of a record without halves of surrogate pairs, which tokenizers refuse."""
    return str(text).encode("utf-8", "replace").decode()
