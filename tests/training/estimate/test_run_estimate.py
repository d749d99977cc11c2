"""What a run would take: from measured steps of runs like it on this hardware, else unknown with the reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference.common.errors import UserError
from inference.common.settings import STARTER
from training.config.run_config import RunConfig, load_config
from training.runs.estimate import MeasuredSteps, StepConditions, estimate_run, read_measured_run
from training.runs.record import RunRecord

HERE = "a machine, 2 cores"
SECONDS = [9.0, 9.0, 2.0, 2.2, 1.8, 2.0]
"""Two slow steps at first, which do not count."""


def measured(folder: Path, config: RunConfig, hardware: str = HERE, seconds: list[float] | None = None) -> RunRecord:
    folder.mkdir()
    (folder / "config.json").write_text(config.model_dump_json())
    (folder / "versions.json").write_text(json.dumps([{"hardware": hardware, "num_gpus": 0}]))
    steps = SECONDS if seconds is None else seconds
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": i, "step_time": value}) + "\n" for i, value in enumerate(steps, 1))
    )
    return RunRecord(folder.name, folder, config.model_dump_json())


def config(**values: Any) -> RunConfig:
    return load_config("starter", values)


def test_hours_and_dollars_follow_from_measured_steps(tmp_path: Path) -> None:
    found = estimate_run(config(max_steps=180), [measured(tmp_path / "run", config())], 2.5, HERE)
    assert (found.num_steps, found.completions, found.step_seconds) == (180, 180 * 64, 2.0)
    assert found.hours == pytest.approx(0.1) and found.dollars == pytest.approx(0.25)
    assert "median of 4 measured steps of run run" in found.reason


def test_without_a_price_only_the_price_is_unknown(tmp_path: Path) -> None:
    found = estimate_run(config(), [measured(tmp_path / "run", config())], None, HERE)
    assert found.hours is not None and found.dollars is None


@pytest.mark.parametrize(
    "change",
    [
        {"prompts_per_step": 4, "micro_batch_size": 32},
        {"max_completion_length": 200},
        {"data": {"max_pixels": 50_000}},
        {"resample_rounds": 2},
        {"base": "owner/other"},
    ],
)
def test_a_run_of_another_kind_says_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    found = estimate_run(config(**change), [measured(tmp_path / "run", config())], 2.5, HERE)
    assert (found.step_seconds, found.hours, found.dollars) == (None, None, None)
    assert "unknown" in found.reason and "a dozen steps" in found.reason


def test_another_machine_says_nothing_and_is_named(tmp_path: Path) -> None:
    found = estimate_run(config(), [measured(tmp_path / "run", config(), "a larger one")], 2.5, HERE)
    assert found.hours is None and "a larger one" in found.reason and HERE in found.reason


def test_runs_that_measured_nothing_are_passed_over(tmp_path: Path) -> None:
    good = measured(tmp_path / "good", config())
    short = measured(tmp_path / "short", config(), seconds=[1.0])
    gone = replace(good, id="gone", folder=tmp_path / "gone")
    other_version = replace(good, id="old", config='{"unheard_of": 1}')
    assert estimate_run(config(), [short, gone, other_version, good], None, HERE).step_seconds == 2.0


def test_steps_from_the_rows_where_max_steps_is_none() -> None:
    starter = {"max_steps": 0, "num_epochs": 2.0}
    assert estimate_run(config(**starter, data={"train_rows": 100}), [], None, HERE).num_steps == 25
    hub = estimate_run(config(max_steps=0, data={"dataset": "owner/name", "train_rows": None}), [], None, HERE)
    assert hub.num_steps is None and "max_steps" in hub.reason


def test_the_audit_that_a_curriculum_is_from_gives_a_lower_bound(tmp_path: Path) -> None:
    audit = tmp_path / "audit.json"
    audit.write_text(json.dumps({"rollouts": {"hardware": HERE, "completions_per_second": 32}}))
    found = estimate_run(config(curriculum=str(audit)), [], None, HERE)
    assert "take 2.00 s" in found.reason and found.hours is None
    assert "2.00 s" not in estimate_run(config(curriculum=str(audit)), [], None, "another").reason


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
    step = StepConditions("starter", 8, 96, 1_003_520, False, 0)
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
