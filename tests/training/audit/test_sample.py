"""Completions of a sample of problems, and a projection that never pretends to know."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from inference.engine.engine import Engine
from inference.model.device import hardware_name
from inference.model.request import Completion, Request
from training.audit.sample import PlannedRun, Rollouts, project, sample_rollouts
from training.runs.estimate.measured import MeasuredSteps

PLAN = PlannedRun(
    num_generations=4,
    prompts_per_step=2,
    num_steps=100,
    max_completion_length=16,
    base="starter",
    max_pixels=1000,
    dollars_per_hour=2.5,
)


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
    plan = replace(PLAN, num_generations=2, max_completion_length=6)
    one, other = (sample_rollouts(engine, problems.select(range(2)), plan) for _ in range(2))
    assert replace(one, seconds=1.0) == replace(other, seconds=1.0)
    assert one.hardware == hardware_name() and one.seconds > 0 and 1 <= one.mean_tokens <= 6


@pytest.fixture
def rollouts(problems: Any) -> Rollouts:
    found = sample_rollouts(Scripted([[said("1")] * 4] * 2), problems.select(range(2)), PLAN)
    return replace(found, seconds=4.0)


def test_a_projection_from_measured_steps(rollouts: Rollouts) -> None:
    measured = MeasuredSteps(18.0, 10, PLAN.step, rollouts.hardware)
    found = project(rollouts, PLAN, measured)
    assert (found.generation_seconds, found.step_seconds, found.hours, found.dollars) == (4.0, 18.0, 0.5, 1.25)
    assert project(rollouts, replace(PLAN, dollars_per_hour=None), measured).dollars is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (None, "no run of this kind was measured here"),
        ({"hardware": "one H200"}, "the measured run was on one H200, and this is"),
        ({"completions": 64}, "the measured steps had completions 64, the planned ones have 8"),
        ({"base": "owner/large"}, "the measured steps had base owner/large, the planned ones have starter"),
        ({"max_completion_length": 24}, "had max_completion_length 24, the planned ones have 16"),
        (
            {"max_pixels": 9, "num_gpus": 2},
            "had max_pixels 9, the planned ones have 1000; the measured steps had num_g",
        ),
        ({"gradient_checkpointing": True}, "had gradient_checkpointing True, the planned ones have False"),
    ],
)
def test_what_was_not_measured_here_is_unknown(rollouts: Rollouts, changes: dict | None, reason: str) -> None:
    changes = changes and dict(changes)
    hardware = changes.pop("hardware", rollouts.hardware) if changes else ""
    measured = None if changes is None else MeasuredSteps(18.0, 10, replace(PLAN.step, **changes), hardware)
    found = project(rollouts, PLAN, measured)
    assert found.step_seconds is found.hours is found.dollars is None
    assert reason in found.reason
    assert found.to_json()["dollars"] == found.to_json()["step_seconds"] == "unknown"
    assert found.generation_seconds == 4.0
