"""What a run would take: from measured steps of runs like it, here or elsewhere, else by arithmetic, with its basis."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference.common.errors import UserError
from inference.common.settings import STARTER
from training.config.data_config import read_data_config
from training.config.run_config import PROFILES, RunConfig, load_config
from training.evaluation.conditions import GROUPS
from training.runs.estimate.hardware import Machine, card_named, machine
from training.runs.estimate.measured import (
    NUM_CONDITIONS,
    MeasuredSteps,
    StepConditions,
    evaluated_completions,
    read_measured_run,
)
from training.runs.estimate.memory import choose_batch
from training.runs.estimate.rows import count_rows
from training.runs.estimate.run_estimate import estimate_run
from training.runs.estimate.shapes import sizes_of
from training.runs.record import RunRecord

HERE = "a machine, 2 cores"
SECONDS = [9.0, 9.0, 2.0, 2.2, 1.8, 2.0]
"""Two slow steps at first, which do not count."""
REAL = [name for name in PROFILES if name != "starter"]


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
    return load_config("starter", {"max_completion_length": 90} | values)


@pytest.fixture
def here() -> Machine:
    return machine(HERE)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("hardware", ["a100-large", "l40sx1", "2x H100", "t4-small", "cpu-basic"])
def test_nothing_is_unknown(profile: str, hardware: str) -> None:
    run = load_config(profile)
    found = estimate_run(run, on=machine(hardware), train_rows=7_000)
    assert found.num_steps == (30 if profile == "starter" else found.num_steps) >= 1
    assert 0 < found.hours_low < found.hours < found.hours_high and found.memory.need.total > 0
    assert found.after_seconds > 0 and found.basis
    assert (found.dollars is None) == (hardware == "2x H100")
    assert bool(found.obstacle) == (hardware == "cpu-basic" and profile != "starter" or not found.memory.fits)
    figures = found.to_json()
    names = ("steps", "hours", "hours_low", "hours_high", "dollars", "peak_gb", "fits", "basis")
    assert set(names) <= set(figures) and json.loads(json.dumps(figures)) == figures


@pytest.mark.parametrize(
    ("profile", "card", "with_checkpointing"),
    [
        ("a100", "A100 80 GB", False),
        ("40gb", "A100 40 GB", False),
        ("40gb", "L40S", False),
        ("24gb", "A10G", False),
        ("24gb", "L4", False),
        ("recipe", "A100 40 GB", False),
    ],
)
def test_each_profile_fits_the_card_it_names(profile: str, card: str, with_checkpointing: bool) -> None:
    found = card_named(card)
    assert found is not None and found.name == card
    run = load_config(profile)
    chosen = choose_batch(run, sizes_of(run.base), found.memory_gb * 1e9)
    assert chosen.fits and chosen.batch.gradient_checkpointing is with_checkpointing, chosen.words


def test_hours_and_dollars_follow_from_measured_steps(tmp_path: Path, here: Machine) -> None:
    run = config(max_steps=180, eval_rows=0)
    found = estimate_run(run, [measured(tmp_path / "run", config())], here, dollars_per_hour=2.5)
    assert (found.num_steps, found.completions, found.step_seconds) == (180, 180 * 64, 2.0)
    assert found.training_seconds == 360 and found.after_seconds == 0 and found.loading_seconds > 0
    assert found.dollars == pytest.approx(2.5 * found.hours)
    assert found.basis == "measured here on 4 steps of run run, ±10 %" and found.factor == 1.1


def test_loading_and_evaluation_are_measured_too(tmp_path: Path, here: Machine) -> None:
    record = measured(tmp_path / "run", config(eval_rows=480, eval_conditions="main"))
    hours = {"starts": [{"seconds": 100.0}], "load_seconds": 10.0, "trained_seconds": 26.0}
    (record.folder / "hours.json").write_text(json.dumps(hours))
    (record.folder / "status.json").write_text(json.dumps({"status": "succeeded"}))
    found = estimate_run(config(eval_rows=240, eval_conditions="main"), [record], here)
    assert (found.loading_seconds, found.after_seconds) == (10.0, 32.0)  # half as many completions


@pytest.mark.parametrize(
    "change",
    [
        {"prompts_per_step": 4},
        {"max_completion_length": 200},
        {"data": {"max_pixels": 50_000}},
        {"resample_rounds": 2},
    ],
)
def test_of_a_run_of_another_kind_nothing_is_taken(tmp_path: Path, here: Machine, change: dict[str, Any]) -> None:
    found = estimate_run(config(**change), [measured(tmp_path / "run", config())], here)
    assert found.basis == "arithmetic, within a factor of 2" and found.hours_high == 2 * found.hours


def test_machines_that_share_a_step_take_less_time_and_cost_more_an_hour() -> None:
    run = load_config("a100", {"prompts_per_step": 32})
    one, two, half = (
        estimate_run(run.model_copy(update=change), on=machine("l4x4"), train_rows=7_000)
        for change in ({}, {"num_nodes": 2}, {"num_processes": 2})
    )
    assert two.step_seconds < one.step_seconds < half.step_seconds
    assert one.dollars_per_hour == 3.8 and two.dollars_per_hour == 7.6
    beside = load_config("starter", {"num_processes": 2, "micro_batch_size": 8})
    alone = estimate_run(beside.model_copy(update={"num_processes": 1}), on=machine("2 cores"))
    assert estimate_run(beside, on=machine("2 cores")).memory.free == alone.memory.free / 2


def test_times_of_another_machine_are_carried_over(tmp_path: Path, here: Machine) -> None:
    found = estimate_run(config(), [measured(tmp_path / "run", config(), "the other, 8 cores")], here)
    assert "on the other, 8 cores, carried over to a machine, 2 cores by arithmetic" in found.basis
    assert 2.0 < found.step_seconds < 8.0


def test_the_shipped_starter_is_a_record() -> None:
    shipped = estimate_run(load_config("starter"), on=machine("Intel(R) Xeon(R) Processor @ 2.80GHz, 2 cores"))
    assert "measured here on 28 steps of the shipped starter's run" in shipped.basis
    assert shipped.step_seconds == 2.42 and shipped.after_seconds == pytest.approx(131.7)


def test_runs_that_measured_nothing_are_passed_over(tmp_path: Path, here: Machine) -> None:
    good = measured(tmp_path / "good", config())
    short = measured(tmp_path / "short", config(), seconds=[1.0])
    gone = replace(good, id="gone", folder=tmp_path / "gone")
    other_version = replace(good, id="old", config='{"unheard_of": 1}')
    assert estimate_run(config(), [short, gone, other_version, good], here).step_seconds == 2.0


def test_the_number_of_conditions_is_the_evaluation_s() -> None:
    assert NUM_CONDITIONS == {name: len(GROUPS[name]) for name in NUM_CONDITIONS}
    assert evaluated_completions(config(eval_rows=0), 30) == 0
    chosen = config(eval_rows=10, eval_conditions="main", choose_checkpoint=True, data={"validation_rows": 4})
    assert evaluated_completions(chosen, 30) == 50 + 8 + 2 * 4


def test_steps_from_the_rows_of_the_data(tmp_path: Path, here: Machine) -> None:
    starter = {"max_steps": 0, "num_epochs": 2.0}
    assert estimate_run(config(**starter, data={"train_rows": 100}), on=here).num_steps == 25
    rows = [{"image": "a.png", "problem": "?", "solution": "1"}] * 50
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert count_rows(read_data_config(dataset=str(file), test_share=0.2)).num == 40
    with pytest.raises(UserError, match=r"nowhere\.jsonl"):
        count_rows(read_data_config(dataset="/nowhere.jsonl"))


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
