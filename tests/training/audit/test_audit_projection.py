"""A projection never pretends to know."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference.common.errors import UserError
from inference.common.settings import STARTER
from tests.training.audit.test_sample import PLAN, Scripted, said
from training.audit.audit_projection import project
from training.audit.sample import Rollouts, sample_rollouts
from training.config.run_config import load_config
from training.runs.estimate import MeasuredSteps, Step, read_measured_run


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


def write_run(folder: Path, steps: list[Any], hardware: str = "two cores", **config: Any) -> Path:
    folder.mkdir()
    starts = [{"hardware": "the first start's", "step": 0}, {"hardware": hardware, "num_gpus": 0, "step": 1}]
    (folder / "versions.json").write_text(json.dumps(starts))
    stored = load_config("starter", {"prompts_per_step": 2, "num_generations": 4}).model_dump(mode="json")
    (folder / "config.json").write_text(json.dumps(stored | config))
    lines = [{"step": number, "step_time": step} for number, step in enumerate(steps, 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_measured_run(tmp_path: Path) -> None:
    """Of the steps after step 1, where the last start began, the first two are not counted."""
    run = write_run(tmp_path / "run", [99, 90, 60, 3, 1, 2, None, 4, 5], hardware="one H200", base=str(STARTER))
    step = Step("starter", 8, 96, 1_003_520, False, 0)
    assert read_measured_run(run) == MeasuredSteps(3.0, 5, step, "one H200")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nowhere", "no run folder with config.json, versions.json and metrics.jsonl"),
        (lambda folder: write_run(folder / "a", [9, 1, 2, 3, 4]), "has 2 timed steps after the first 2"),
        (lambda folder: write_run(folder / "b", [1] * 9, num_generations="many"), "no run folder"),
    ],
)
def test_what_is_no_measured_run(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_measured_run(make(tmp_path))
