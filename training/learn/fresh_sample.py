"""A fresh sample of a dataset: rollouts of the served model on a few of its problems, recorded as those of a run.

    config = sample_config("my-set", settings)
    make_sample(samples(settings.home) / "first", config, 16, settings, progress=bar.update)

The folder is then read by `training.learn.reward_lab` like a run's, and has no checkpoint, no adapter and no curve of
learning: each of its steps has `prompts_per_step` other problems.
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from inference.adapters.served import serving
from inference.common.errors import UserError
from inference.common.files import read_json, write_json
from inference.common.settings import STARTER, STARTER_NAME, Settings
from training.config.run_config import RunConfig, change_config, load_config
from training.grading.reward_loading import load_reward, reward_settings
from training.learn.reward_lab import weighing_of
from training.runs.folder import RunFolder

MAX_PROBLEMS = 256
MAX_SAMPLES = 8
"""Samples that a home keeps; the oldest go once a new one is made."""
_ADAPTER = "served"
_PLAN = "sample.json"


def samples(home: Path) -> Path:
    """The folder of a home's samples."""
    return home / "samples"


def new_sample(home: Path) -> Path:
    """A folder for a new sample, not made yet, by a name that no other has."""
    return samples(home) / f"{time.strftime('sample-%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def forget_old(path: Path, home: Path) -> None:
    """Deletes the samples beyond `MAX_SAMPLES`, the oldest first, if the one at `path`, just made, is one of them."""
    if path.parent.resolve() == samples(home).resolve():
        for old in sorted(set(samples(home).glob("sample-*")) - {samples(home) / path.name})[: 1 - MAX_SAMPLES]:
            shutil.rmtree(old, ignore_errors=True)


def sample_config(dataset: str, settings: Settings) -> RunConfig:
    """The run that a sample of a dataset stands for: the deployment's profile, and the base that is served here.

    All rows are problems to sample from. Raises `UserError`.
    """
    base = STARTER_NAME if Path(settings.base) == STARTER else settings.base
    data = {"dataset": dataset, **({} if dataset == STARTER_NAME else {"validation_rows": 0})}
    values = {"base": base, "data": data, "eval_rows": 0, "choose_checkpoint": False}
    return load_config(None, values, deployment=settings)


def num_planned(path: Path) -> int:
    """The number of problems that a sample was to have; 0 where it is not on record."""
    num = (read_json(path / _PLAN) or {}).get("num_problems")
    return num if type(num) is int and 0 < num <= MAX_PROBLEMS else 0


def check_size(num_problems: float) -> None:
    """Raises `UserError` for a number of problems that a sample cannot have."""
    if not (1 <= num_problems <= MAX_PROBLEMS and num_problems == int(num_problems)):
        raise UserError(f"{num_problems:g} problems are asked for; give a whole number from 1 to {MAX_PROBLEMS}")


def make_sample(
    path: Path, config: RunConfig, num_problems: int, settings: Settings, progress: Callable[[int], object]
) -> None:
    """Samples and rewards `num_generations` completions of each problem; `progress` gets their number in each step.

    By the served adapter, or by the base where none is served. Raises `UserError`.
    """
    check_size(num_problems)
    from inference.engine.engine import Engine  # these load torch, which weighing does without
    from inference.model.request import Request
    from training.data.copied_rows import with_columns
    from training.data.dataset import load_rows
    from training.data.pictures import pictures_of
    from training.grpo.rollouts import RolloutWriter

    train = load_rows(config.data, home=settings.home).train
    rows = train.shuffle(seed=config.seed).select(range(min(num_problems, len(train))))
    adapter = serving(settings).path
    config = change_config(config, {"start_adapter": str(adapter) if adapter else None})  # on record: who answers
    folder = RunFolder.create(path, config)
    write_json(path / _PLAN, {"num_problems": len(rows)})
    engine = Engine.load(settings.base)
    if adapter:
        engine.add_adapter(_ADAPTER, adapter)
    prompt = (engine.system_prompt(_ADAPTER) if adapter else None) or config.system_prompt_text
    size = config.num_generations
    for first in range(0, len(rows), config.prompts_per_step):
        batch = rows[first : first + config.prompts_per_step]
        pictures = pictures_of(batch)
        requests = [
            Request(
                images[0],
                problem,
                prompt,
                adapter=_ADAPTER if adapter else None,
                max_new_tokens=config.max_completion_length,
                temperature=config.temperature,
                top_p=config.top_p,
                seed=(config.seed * 1_000_003 + first + i) * size + generation,
                more_images=tuple(images[1:]),
            )
            for i, (images, problem) in enumerate(zip(pictures, batch["problem"]))
            for generation in range(size)
        ]
        completions = engine.generate(requests)
        own = [{name: values[i] for name, values in batch.items()} for i in range(len(pictures)) for _ in range(size)]
        columns = {name: [row[name] for row in with_columns(own)] for name in with_columns(own[:1])[0]}
        texts = [[{"role": "assistant", "content": completion.text}] for completion in completions]
        columns |= {"completions": texts, "completion_ids": [range(one.num_tokens) for one in completions]}
        logs = _rewarded(config, columns, len(own))
        logs |= {"completion": texts, "prompt": [row["problem"] for row in own]}
        logs["images"] = [list(images) for images in pictures for _ in range(size)]
        RolloutWriter(folder).write(
            first // config.prompts_per_step + 1,
            logs,
            size,
            [one.num_tokens for one in completions],
            [not one.truncated for one in completions],
            [(row.get("row_id"), row["solution"]) for row in own],
        )
        progress(len(completions))


def _rewarded(config: RunConfig, columns: dict[str, Any], num: int) -> dict[str, Any]:
    """The rewards, reasons and advantages of a step, as TRL logs them."""
    settings = reward_settings(config.max_completion_length, config.data.tolerance)
    rewards: dict[str, list[float | None]] = {}
    extra: dict[str, list[object]] = {}
    for name in config.rewards:
        function = load_reward(name, **settings.get(name, {}))
        given = function(**columns, log_extra=extra.__setitem__)
        rewards[function.__name__] = list(asyncio.run(given) if inspect.iscoroutinefunction(function) else given)
    table = np.array([[np.nan if each is None else each for each in given] for given in rewards.values()], float).T
    group = np.arange(num) // config.num_generations
    advantages = weighing_of(config).advantages(table, group, np.zeros(num, np.int64))
    return {"rewards": rewards, "extra": extra, "advantages": advantages.tolist()}
