"""What a sample of completions says, and that a projection never pretends to know."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference.engine import Engine
from inference.errors import UserError
from inference.rows import Completion, Row
from training.audit_rollouts import MeasuredSteps, Plan, Rollouts, project, read_measured_run, sample_rollouts
from training.hardware import hardware_name

PLAN = Plan(num_generations=4, prompts_per_step=2, num_steps=100, max_new_tokens=16, dollars_per_hour=2.5)


class Scripted:
    """Says for the n-th prompt what its script says, one text for each completion of the group."""

    def __init__(self, script: list[list[str]]) -> None:
        self.texts = [text for group in script for text in group]
        self.asked: list[Row] = []

    def generate(self, rows: list[Row]) -> list[Completion]:
        """The next texts; one that says "cut" was cut off."""
        first = len(self.asked)
        self.asked += rows
        texts = self.texts[first : first + len(rows)]
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
    assert found.pass_rate == 8 / 16 and found.lenient_rate == 9 / 16
    assert found.format_rate == 14 / 16 and found.truncated_rate == 1 / 16
    assert found.zero_std.value == 0.5 and found.always_right == found.never_right == 0.25
    assert len({row.seed for row in engine.asked}) == 16
    assert {(row.temperature, row.max_new_tokens, row.adapter) for row in engine.asked} == {(1.0, 16, None)}
    assert [row.question for row in engine.asked[:5]] == [rows["problem"][0]] * 4 + [rows["problem"][1]]
    assert json.loads(json.dumps(found.to_json()))["zero_std"]["value"] == 0.5


def test_the_starter(engine: Engine, problems: Any) -> None:
    plan = replace(PLAN, num_generations=2, max_new_tokens=6)
    one, other = (sample_rollouts(engine, problems.select(range(2)), plan) for _ in range(2))
    assert replace(one, seconds=1.0) == replace(other, seconds=1.0)
    assert one.hardware == hardware_name() and one.seconds > 0 and 1 <= one.mean_tokens <= 6


@pytest.fixture
def rollouts(problems: Any) -> Rollouts:
    found = sample_rollouts(Scripted([[said("1")] * 4] * 2), problems.select(range(2)), PLAN)
    return replace(found, seconds=4.0)


def test_a_projection_from_measured_steps(rollouts: Rollouts) -> None:
    measured = MeasuredSteps(18.0, 10, 8, rollouts.hardware)
    found = project(rollouts, PLAN, measured)
    assert (found.generation_seconds, found.step_seconds, found.hours, found.dollars) == (4.0, 18.0, 0.5, 1.25)
    assert project(rollouts, replace(PLAN, dollars_per_hour=None), measured).dollars is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (None, "no run of this kind was measured here"),
        ({"hardware": "one H200"}, "the measured run was on one H200, and this is"),
        ({"completions_per_step": 64}, "the measured steps had 64 completions, the planned ones have 8"),
    ],
)
def test_what_was_not_measured_here_is_unknown(rollouts: Rollouts, changes: dict | None, reason: str) -> None:
    measured = changes and replace(MeasuredSteps(18.0, 10, 8, rollouts.hardware), **changes)
    found = project(rollouts, PLAN, measured)
    assert found.step_seconds is found.hours is found.dollars is None
    assert reason in found.reason
    assert found.to_json()["dollars"] == found.to_json()["step_seconds"] == "unknown"
    assert found.generation_seconds == 4.0


def write_run(folder: Path, steps: list[Any], hardware: str = "two cores", **config: Any) -> Path:
    folder.mkdir()
    (folder / "versions.json").write_text(json.dumps([{"hardware": "the first start's"}, {"hardware": hardware}]))
    (folder / "config.json").write_text(json.dumps({"prompts_per_step": 2, "num_generations": 4} | config))
    (folder / "metrics.jsonl").write_text("".join(json.dumps({"step_time": step}) + "\n" for step in steps))
    return folder


def test_a_measured_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [90, 60, 3, 1, 2, None, 4, 5], hardware="one H200")
    assert read_measured_run(run) == MeasuredSteps(3.0, 5, 8, "one H200")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nowhere", "no run folder with config.json and metrics.jsonl"),
        (lambda folder: write_run(folder / "a", [1, 2, 3, 4]), "has 2 timed steps after the first 2"),
        (lambda folder: write_run(folder / "b", [1] * 9, num_generations="many"), "no run folder"),
    ],
)
def test_what_is_no_measured_run(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_measured_run(make(tmp_path))
