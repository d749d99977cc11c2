"""Completions of a sample of problems, and their figures."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from inference.engine.engine import Engine
from inference.model.device import hardware_name
from inference.model.request import Completion, Request
from training.audit.sample import sample_rollouts
from training.config.run_config import RunConfig

PLAN = RunConfig(num_generations=4, prompts_per_step=2, max_completion_length=16)


class Scripted:
    """Says for the n-th prompt what its script says, one text for each completion of the group; then nothing right."""

    def __init__(self, script: list[list[str]]) -> None:
        self.texts = [text for group in script for text in group]
        self.asked: list[Request] = []

    def generate(self, rows: list[Request]) -> list[Completion]:
        """The next texts; one that says "cut" was cut off."""
        first = len(self.asked)
        self.asked += rows
        texts = self.texts[first : first + len(rows)] or [said("blank")] * len(rows)
        return [Completion(text, (), 10, 1.0, 0.1, text == "cut", False) for text in texts]


def said(answer: str) -> str:
    return f"<think>hm</think> <answer>{answer}</answer>"


def test_the_figures_of_a_sample(problems: Any) -> None:
    rows = problems.select(range(4))
    golds = [solution.split("<answer>")[1].split("<")[0] for solution in rows["solution"]]
    script = [
        [said(golds[0])] * 4,
        [said("no such thing")] * 4,
        [said(golds[2]), "cut", golds[2], said("no such thing")],
        [said(golds[3]), said(golds[3]), said(golds[3]), said("no such thing")],
    ]
    engine = Scripted(script)
    told: list[int] = []
    found = sample_rollouts(engine, rows, PLAN, batch_size=8, progress=told.append)
    assert (found.num_prompts, found.num_generations, told) == (4, 4, [8, 8])
    assert {row.repetition_penalty for row in engine.asked} == {1.0}, "as rollouts: without the base's penalty"
    assert found.pass_rate == 8 / 16 and found.lenient_rate == 9 / 16
    assert found.format_rate == 14 / 16 and found.truncated_rate == 1 / 16
    assert found.zero_std.value == 0.5 and found.always_right == found.never_right == 0.25
    blank = engine.asked[16:]
    assert [len(set(row.image.getdata())) for row in blank] == [1] * 4 and found.blind_rate == 0.0
    assert [row.image.size for row in blank] == [image.size for image in rows["image"]]
    assert len({row.seed for row in engine.asked[:16]}) == 16
    assert {(row.temperature, row.max_new_tokens, row.adapter) for row in engine.asked} == {(1.0, 16, None)}
    assert [row.question for row in engine.asked[:5]] == [rows["problem"][0]] * 4 + [rows["problem"][1]]
    assert json.loads(json.dumps(found.to_json()))["zero_std"]["value"] == 0.5


def test_the_starter(engine: Engine, problems: Any) -> None:
    plan = PLAN.model_copy(update={"num_generations": 2, "max_completion_length": 6})
    one, other = (sample_rollouts(engine, problems.select(range(2)), plan) for _ in range(2))
    assert replace(one, seconds=1.0) == replace(other, seconds=1.0)
    assert one.hardware == hardware_name() and one.seconds > 0 and 1 <= one.mean_tokens <= 6
