"""Rollouts of a run by the real writer: real rewards and advantages of made-up completions, and no model."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from tests.support.samples import STARTER
from training.config.run_config import RunConfig
from training.grading.advantages import Weighing
from training.grading.reward_loading import load_reward, reward_settings
from training.grpo.rollouts import RolloutWriter
from training.runs.folder import RunFolder
from training.starter.problems import make_problem

SHAPES = (
    "<think>There are {n}.</think><answer>{n}</answer>",
    "<think>I count one by one, and one more, and then I have {n} of them.</think> <answer>{n}.04</answer>",
    "The answer is <answer>{n}</answer>",
    "<think>It is {n}</think><answer>{n}",
)
"""Well formed and short; longer, with an answer that is near; without a thought; with a tag that is not closed."""


def record_rollouts(folder: RunFolder, config: RunConfig, num_steps: int, seed: int = 0) -> None:
    """Writes steps of `prompts_per_step` groups: each completion of a shape and a number drawn by the seed."""
    draw, tokenizer = random.Random(seed), AutoTokenizer.from_pretrained(STARTER)
    settings = reward_settings(config.max_completion_length, config.data.tolerance)
    functions = {name: load_reward(name, **settings.get(name, {})) for name in config.rewards}
    size, num = config.num_generations, config.completions_per_step
    for step in range(1, num_steps + 1):
        golds = [draw.randint(5, 12) for _ in range(config.prompts_per_step)]
        solutions = [str(gold) for gold in golds for _ in range(size)]
        texts = [draw.choice(SHAPES).format(n=int(gold) + draw.choice((0, 0, 1))) for gold in solutions]
        ids = [tokenizer(text)["input_ids"] for text in texts]
        extra: dict[str, Any] = {}
        columns = {"solution": solutions, "completion_ids": ids, "log_extra": extra.__setitem__}
        rewards = {each.__name__: each(completions=texts, **columns) for each in functions.values()}
        table = np.array([[np.nan if each is None else each for each in given] for given in rewards.values()]).T
        weighing, group = Weighing(np.array(list(config.rewards.values()))), np.arange(num) // size
        prompts = [f"How many circles are in picture {i // size} of step {step}?" for i in range(num)]
        logs = {
            "completion": texts,
            "rewards": rewards,
            "extra": extra,
            "advantages": weighing.advantages(table, group, np.zeros(num, int)).tolist(),
            "images": [[make_problem(draw).image]] * num,
            "prompt": prompts,
        }
        origins = [(f"train-{step}-{i // size}", solution) for i, solution in enumerate(solutions)]
        RolloutWriter(folder).write(step, logs, size, [len(each) for each in ids], [True] * num, origins)
