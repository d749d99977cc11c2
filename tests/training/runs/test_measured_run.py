"""The measured steps of a run folder, which projections and estimates use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inference.common.errors import UserError
from inference.common.settings import STARTER
from training.config.run_config import load_config
from training.runs.estimate import MeasuredSteps, Step, read_measured_run


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
