"""The reward lab: a run's recorded rollouts as they would have been scored by other settings. No torch.

    recorded = read_rollouts(folder, config)
    before = scored(recorded, config, recorded.rewards)
    after = scored(recorded, change_config(config, {"rewards": {"accuracy_reward": 1.0}}), recorded.rewards)
    change = compare(recorded, before, after)
    change.swapped.sum(), change.dead

Weights need no grading: the file has what each function gave. `training.learn.regrading` makes what it has not.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.common.files import Json, json_object
from training.config.run_config import RunConfig
from training.grading.advantages import NO_ADVANTAGE, Floats, Ints, Weighing, means
from training.runs.metrics import METRICS, is_number, number, step_in
from training.runs.rollout_file import is_group

Bools = NDArray[np.bool_]
Pair = tuple[float, float]
"""Of figures: before and after."""
Points = list[tuple[float, float]]
"""Step and value."""
MAX_COMPLETIONS = 100_000
"""Completions that are weighed; of a longer run every second, third, … step."""
MAX_READ_BYTES = 400_000_000
"""Of a file; of a larger one fewer steps are read."""
MAX_FUNCTIONS = 32
"""Reward functions up to which so many completions are read; of more, fewer."""
_LINE_BYTES = 16 << 20
_STEP = re.compile(rb'\{"step": ?(\d{1,12})[,}]')
_DECIMALS = 5
"""Rewards that differ by less are equal: the file has six decimals of each."""


@dataclass(frozen=True)
class Recorded:
    """The N completions of a run's G groups, without their texts."""

    steps: Ints
    """(G,)"""
    numbers: Ints
    """(G,) the group's number in its step, from 0 on."""
    group: Ints
    """(N,) from 0 on."""
    rewards: Mapping[str, Floats]
    """(N,) of each of the run's functions, by its name; NaN where it gave none, or none can be read."""
    absent: Mapping[str, Bools]
    """(N,) by the same names, True where the record has no entry of the function that can be read."""
    advantages: Floats
    """(N,) as they were trained on."""
    num_tokens: Ints
    """At most as many as the run allowed."""
    truncated: Bools
    """(N,) cut off at the run's length limit."""
    identities: tuple[bytes, ...]
    """(N,) digests of problem, solution and text."""
    num_without_solution: int
    every: int
    """1 where every step was read, 2 for every second one, and so on."""
    is_whole: bool
    """False where reading ended early, at twice `MAX_COMPLETIONS`."""

    @property
    def num_completions(self) -> int:
        return len(self.group)

    @property
    def batch(self) -> Ints:
        """(N,) the number of each completion's step, from 0 on."""
        _, numbers = np.unique(self.steps, return_inverse=True)
        return np.asarray(numbers[self.group], dtype=np.int64)


def recorded_groups(folder: Path, config: RunConfig) -> Iterator[tuple[int, Json]]:
    """Each group that the lab reads of a run's `rollouts.jsonl`, with its number in its step, in order."""
    every = _every(folder / "rollouts.jsonl", config)
    step, number = -1, 0
    try:
        with (folder / "rollouts.jsonl").open("rb") as file:
            while line := file.readline(_LINE_BYTES):
                match = _STEP.match(line)
                if match is not None and int(match[1]) % every:
                    continue
                row = json_object(line) if line.endswith(b"\n") else None
                at = None if row is None else step_in(row)
                if row is None or at is None or at % every or not is_group(row):
                    continue
                step, number = (step, number + 1) if at == step else (at, 0)
                if row["completions"]:
                    yield number, row
    except FileNotFoundError:
        return


def _most(config: RunConfig) -> int:
    """The number of completions that are read of a run with so many reward functions."""
    return MAX_COMPLETIONS * MAX_FUNCTIONS // max(MAX_FUNCTIONS, len(config.rewards))


def _every(path: Path, config: RunConfig) -> int:
    """The distance of the steps that are read, so that neither limit is passed, by the start of the file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(1 << 20)
    except OSError:
        return 1
    completions = start.count(b'"num_tokens"') * size / max(1, len(start))
    return max(1, -int(-size // MAX_READ_BYTES), -int(-completions // max(1, _most(config))))


def identity(row: Json, completion: Json) -> bytes:
    """The digest of a completion with its row, problem and solution: what a grade can depend on."""
    parts = (row.get("row"), row.get("solution"), row["prompt"], completion["text"], tokens_of(completion))
    return hashlib.blake2b(repr(parts).encode(errors="replace"), digest_size=16).digest()


def tokens_of(completion: Json) -> int:
    """The number of tokens that a completion has on record; 0 where it has none."""
    num = completion.get("num_tokens")
    return int(num) if is_number(num) and num >= 0 else 0


def read_rollouts(folder: Path, config: RunConfig) -> Recorded:
    """The rollouts of a run folder, as far as the limits go; of no group where it has none."""
    steps, numbers, group, num_tokens = array("q"), array("q"), array("q"), array("q")
    advantages, truncated = array("d"), bytearray()
    identities: list[bytes] = []
    names = {short_name(name) for name in config.rewards}
    rewards, absent = {name: array("d") for name in names}, {name: bytearray() for name in names}
    without, is_whole = 0, True
    for at, row in recorded_groups(folder, config):
        completions = row["completions"]
        if len(group) + len(completions) > 2 * _most(config):  # the start of the file has said too little
            is_whole = False
            break
        for one in completions:
            given = one.get("rewards") if isinstance(one.get("rewards"), dict) else {}
            for name in names:
                value = given.get(name)
                rewards[name].append(value if is_number(value) else np.nan)
                absent[name].append(name not in given or value is not None and not is_number(value))
            advantage = one.get("advantage")
            group.append(len(steps))
            num_tokens.append(min(tokens_of(one), config.max_completion_length))
            truncated.append(one.get("truncated") is True)
            advantages.append(advantage if is_number(advantage) else np.nan)
            identities.append(identity(row, one))
        without += 0 if isinstance(row.get("solution"), str) else len(completions)
        steps.append(step_in(row) or 0)
        numbers.append(at)
    return Recorded(
        np.array(steps, np.int64),
        np.array(numbers, np.int64),
        np.array(group, np.int64),
        {name: np.array(values, np.float64) for name, values in rewards.items()},
        {name: np.array(values, np.bool_) for name, values in absent.items()},
        np.array(advantages, np.float64),
        np.array(num_tokens, np.int64),
        np.array(truncated, np.bool_),
        tuple(identities),
        without,
        _every(folder / "rollouts.jsonl", config),
        is_whole,
    )


@dataclass(frozen=True)
class Scored:
    """The completions under one configuration."""

    totals: Floats
    """(N,) weighted sums, NaN where no function gave a reward."""
    advantages: Floats
    """(N,)"""


def scored(recorded: Recorded, config: RunConfig, rewards: Mapping[str, Floats]) -> Scored:
    """Totals and advantages by a configuration's weights, of rewards (N,) by the functions' names."""
    columns = np.stack([rewards[short_name(name)] for name in config.rewards], axis=1)
    weighing = weighing_of(config)
    with np.errstate(all="ignore"):  # sums of weights and rewards without bound
        return Scored(weighing.totals(columns), weighing.advantages(columns, recorded.group, recorded.batch))


def weighing_of(config: RunConfig) -> Weighing:
    """The weights of a run's reward functions, and how its trainer makes advantages of them."""
    fields = {
        name: str(config.trl[name]) for name in ("scale_rewards", "multi_objective_aggregation") if name in config.trl
    }
    return Weighing(np.array(list(config.rewards.values())), **fields)


def short_name(name: str) -> str:
    """The name of a reward function in the rollouts: that of the function, without its module."""
    return name.partition(":")[2] or name


@dataclass(frozen=True)
class Change:
    """Two configurations compared on the same completions."""

    reward: Pair
    """Mean reward, before and after."""
    dead: Pair
    """Share of groups in which no completion has an advantage."""
    size: Pair
    """Mean size of an advantage, |A|."""
    swapped: Bools
    """(N,) True for a completion that was below another of its group and is above it, or the other way round."""
    is_led_anew: Bools
    """(G,) True for a group none of whose best completions is among its best now."""
    flipped: Bools
    """(N,) True where the advantage has the other sign."""
    advantages: Floats
    """(N,) as they would have been."""
    curves: Mapping[str, tuple[Points, Points]]
    """Points (step, value) before and after: `reward` and `zero_std_share`, as the run's metrics are called."""


def compare(recorded: Recorded, before: Scored, after: Scored) -> Change:
    """The change between two ways of scoring."""
    dead, dead_now = (_dead(one.advantages, recorded).astype(float) for one in (before, after))
    steps, of_group = np.unique(recorded.steps, return_inverse=True)
    rewards, rewards_now = (_points(steps, means(one.totals, recorded.batch)) for one in (before, after))
    shares, shares_now = (_points(steps, means(one, of_group)) for one in (dead, dead_now))
    return Change(
        reward=(_mean(before.totals), _mean(after.totals)),
        dead=(_mean(dead), _mean(dead_now)),
        size=(_mean(np.abs(before.advantages)), _mean(np.abs(after.advantages))),
        swapped=swapped(before.totals, after.totals, recorded.group),
        is_led_anew=_led_anew(before.totals, after.totals, recorded),
        flipped=(before.advantages * after.advantages < 0)
        & (np.minimum(np.abs(before.advantages), np.abs(after.advantages)) > NO_ADVANTAGE),
        advantages=after.advantages,
        curves={"reward": (rewards, rewards_now), "zero_std_share": (shares, shares_now)},
    )


def figures(change: Change, recorded: Recorded) -> list[tuple[str, str, str]]:
    """A change in figures: label, before and after; what is about both has no figure before."""
    num, groups = recorded.num_completions, len(recorded.steps)
    share = METRICS["zero_std_share"]
    reward = METRICS["reward"]
    return [
        (reward.label, reward.text(change.reward[0]), reward.text(change.reward[1])),
        ("Size of an advantage, on average", number(change.size[0]), number(change.size[1])),
        (share.label, share.text(change.dead[0]), share.text(change.dead[1])),
        ("Answers that swap places with another of their problem", "", _of(int(change.swapped.sum()), num)),
        ("Answers whose advantage changes its sign", "", _of(int(change.flipped.sum()), num)),
        ("Problems with another best answer", "", _of(int(change.is_led_anew.sum()), groups)),
    ]


def _of(part: int, whole: int) -> str:
    return f"{part:,} ({number(part / max(1, whole), '%')})"


def swapped(before: Floats, after: Floats, group: Ints) -> Bools:
    """(N,) True for each completion that changes places with another of its group; ties are no places.

    >>> swapped(np.array([1.0, 0.0, 0.5]), np.array([0.0, 1.0, 2.0]), np.zeros(3, int)).tolist()
    [True, True, True]
    """
    found = np.zeros(len(group), np.bool_)
    usable = np.flatnonzero(~np.isnan(before) & ~np.isnan(after))
    low, high, part = before[usable].round(_DECIMALS), after[usable].round(_DECIMALS), group[usable]
    found[usable] = _passed(low, high, part) | _passed(-low, -high, part)
    return found


def _passed(before: Floats, after: Floats, group: Ints) -> Bools:
    """True for each that another of its group, which was below it, is above now. Takes N log N operations."""
    if not len(group):
        return np.zeros(0, np.bool_)
    order = np.lexsort((before, group))
    value, part = before[order], group[order]
    _, rank = np.unique(after[order], return_inverse=True)
    key = part * (int(rank.max()) + 1) + rank  # later groups have larger keys, so that a maximum stays in its group
    highest = np.maximum.accumulate(key)
    is_first = np.r_[True, (part[1:] != part[:-1]) | (value[1:] != value[:-1])]
    below = np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0)) - 1  # the last one that is lower
    passed = np.zeros(len(order), np.bool_)
    passed[order] = (below >= 0) & (part[below] == part) & (highest[below] > key)
    return passed


def _dead(advantages: Floats, recorded: Recorded) -> Bools:
    """(G,) True for a group without a signal."""
    alive = np.bincount(recorded.group, np.abs(advantages) > NO_ADVANTAGE, minlength=len(recorded.steps))
    return np.asarray(alive == 0)


def _led_anew(before: Floats, after: Floats, recorded: Recorded) -> Bools:
    stays = _best(before, recorded) & _best(after, recorded)
    return np.asarray(np.bincount(recorded.group, stays, minlength=len(recorded.steps)) == 0)


def _best(totals: Floats, recorded: Recorded) -> Bools:
    """(N,) True for the best of each group; several where they are equal."""
    rounded = np.where(np.isnan(totals), -np.inf, totals.round(_DECIMALS))
    top = np.full(len(recorded.steps), -np.inf)
    np.maximum.at(top, recorded.group, rounded)
    return np.asarray(rounded == top[recorded.group])


def _mean(values: Floats) -> float:
    """The mean of what is there; 0 where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else 0.0


def _points(steps: Ints, values: Floats) -> Points:
    return [(float(step), float(value)) for step, value in zip(steps, values) if np.isfinite(value)]
