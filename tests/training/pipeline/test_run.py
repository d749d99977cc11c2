"""A GRPO run from configuration to an adapter that the engine serves: finished, stopped in every stage, failed."""

import errno
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference.common.errors import UserError
from inference.common.files import read_lines
from inference.common.settings import STARTER
from inference.engine.engine import Engine
from inference.model.request import Request
from tests.support.datasets_on_disk import write_folder, write_lines
from tests.support.samples import SMALL_RUN, random_adapter
from tests.support.small_disk import small_disk
from training.__main__ import main
from training.cli.train import _stopped_early
from training.config.run_config import RunConfig, load_config
from training.pipeline import run as pipeline
from training.pipeline.budget import Budget
from training.pipeline.preflight import RunInputs
from training.pipeline.run import run
from training.runs.failures import BUDGET_SPENT, DISK_FULL, INTERRUPTED, NOT_A_NUMBER, RunFailed
from training.runs.folder import RunFolder, step_of
from training.runs.metrics import reward_labels
from training.starter.problems import load_problems

__all__ = ["small_disk"]  # a fixture
SMALL = SMALL_RUN | {
    "max_completion_length": 24,
    "eval_rows": 0,
    "save_steps": 1,
    "data": {"train_rows": 40, "test_rows": 4},
}


def small(**values) -> RunConfig:
    return load_config("starter", SMALL | values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "first"
    run(small(report_to=["tensorboard"]), folder)
    return folder


@pytest.mark.slow
def test_the_run_folder_is_whole(folder) -> None:
    found, config = RunFolder.open(folder)
    assert config == small(report_to=["tensorboard"])
    assert [row["step"] for row in found.history()] == [1, 2]
    assert {"reward", "rewards/format_reward/mean", "frac_reward_zero_std"} <= found.history()[0].keys()
    groups = list(read_lines(found.rollouts))
    assert [g["step"] for g in groups] == [1, 1, 2, 2] and all(len(g["completions"]) == 4 for g in groups)
    assert all((found.images / g["image"]).stat().st_size for g in groups)
    assert set(groups[0]["completions"][0]["reasons"]) == {"format", "accuracy"}
    assert (folder / "rewards.png").read_bytes().startswith(b"\x89PNG")
    assert list((folder / "tensorboard").iterdir())
    assert found.status()["status"] == "succeeded"
    assert json.loads((folder / "versions.json").read_text())[0]["trl"]
    assert sorted(p.name for p in found.adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


@pytest.mark.slow
def test_a_run_killed_after_its_last_step_is_not_trained_further(folder, tmp_path) -> None:
    """Its steps (2) are no whole number of epochs (of 20): transformers alone would train one more."""
    killed = RunFolder(Path(shutil.copytree(folder, tmp_path / "killed")))
    shutil.rmtree(killed.adapter)
    killed.set_status("running")
    run(small(report_to=["tensorboard"]), killed.path, resume=True)
    assert [row["step"] for row in killed.history()] == [1, 2]
    weights = "adapter/adapter_model.safetensors"
    assert (killed.path / weights).read_bytes() == (folder / weights).read_bytes()


@pytest.mark.slow
def test_a_resume_may_change_what_a_step_does_not_depend_on(folder, tmp_path, capsys) -> None:
    """Killed after step 1: with other micro-batches step 2 samples the same, learns the same, and all is on record."""
    killed = RunFolder(Path(shutil.copytree(folder, tmp_path / "killed")))
    shutil.rmtree(killed.adapter)
    shutil.rmtree(killed.checkpoints / "checkpoint-2")
    killed.set_status("interrupted")
    before = {path: path.read_bytes() for path in killed.path.rglob("*") if path.is_file()}
    resume = ["train", "--resume", str(killed.path)]
    assert main([*resume, "--micro-batch-size", "4", "--learning-rate", "0.5", "--test-rows", "3"]) == 2
    said = capsys.readouterr().err
    assert "learning_rate: 0.001, not 0.5" in said and "data.test_rows: 4, not 3" in said
    assert f"--start-adapter {killed.checkpoints / 'checkpoint-1'} --folder NEW" in said
    assert {path: path.read_bytes() for path in killed.path.rglob("*") if path.is_file()} == before
    changes = ["--micro-batch-size", "4", "--gradient-checkpointing", "true", "--keep-checkpoints", "1"]
    assert main([*resume, *changes, "--save-steps", "2", "--report-to", "none"]) == 0
    whole = RunFolder(folder)
    assert [row["step"] for row in killed.history()] == [1, 2]
    assert [said_in(group) for group in read_lines(killed.rollouts)] == [
        said_in(group) for group in read_lines(whole.rollouts)
    ]
    weights = [load_file(found.adapter / "adapter_model.safetensors") for found in (killed, whole)]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-5) for name in weights[1])
    noted = [json.loads(line) for line in (killed.path / "changes.jsonl").read_text().splitlines()]
    assert {(n["setting"], str(n["from"]), str(n["to"]), n["step"]) for n in noted} == {
        ("micro_batch_size", "8", "4", 1),
        ("gradient_checkpointing", "auto", "True", 1),
        ("keep_checkpoints", "3", "1", 1),
        ("save_steps", "1", "2", 1),
        ("report_to", "['tensorboard']", "[]", 1),
    }
    assert RunFolder.open(killed.path)[1] == small(
        micro_batch_size=4, gradient_checkpointing=True, keep_checkpoints=1, save_steps=2
    )
    starts = json.loads((killed.path / "versions.json").read_text())
    assert [start["step"] for start in starts] == [0, 1] and starts[1]["num_processes"] == 1


def said_in(group: dict) -> tuple:
    return group["step"], group["image"], group["prompt"], [c["text"] for c in group["completions"]]


@pytest.mark.slow
def test_the_engine_serves_the_adapter(folder) -> None:
    engine = Engine.load(STARTER)
    engine.add_adapter("new", folder / "adapter")
    problem = load_problems("test", 1)[0]
    row = Request(problem["image"].convert("RGB"), problem["problem"], adapter="new", max_new_tokens=4)
    assert engine.generate([row])[0].num_tokens >= 1


@pytest.mark.slow
def test_no_path_of_this_machine_is_kept_in_the_adapter(folder) -> None:
    assert str(STARTER) not in (folder / "adapter" / "adapter_config.json").read_text()


@pytest.mark.slow
def test_a_finished_run_is_left_alone(folder) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match="not empty"):
        run(small(), folder)
    with pytest.raises(UserError, match="is finished"):
        run(small(report_to=["tensorboard"]), folder, resume=True)
    with pytest.raises(UserError, match="another configuration"):
        run(small(learning_rate=0.5), folder, resume=True)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_training_goes_on_from_an_adapter(folder, tmp_path) -> None:
    adapter = run(small(start_adapter=str(folder / "adapter"), max_steps=1), tmp_path / "second")
    assert (adapter / "adapter_model.safetensors").exists()


@contextmanager
def signalled(when: Callable[[], bool], signals: int = 1) -> Iterator[None]:
    """SIGTERM to this process as soon as something holds."""
    stray: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: stray.append(number))
    ended = threading.Event()

    def watch() -> None:
        while not when():
            if ended.wait(0.002):
                return
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        signal.signal(signal.SIGTERM, before)
        assert not stray, "the signal came when nobody listened"


@pytest.mark.long
def test_a_stop_in_every_stage_and_an_evaluation_that_fails(tmp_path) -> None:
    """One run: stopped by SIGTERM in each stage, its evaluation refused once, resumed each time, in the end whole."""
    data = {"train_rows": 40, "test_rows": 8, "validation_rows": 4}
    config = small(max_steps=3, save_steps=1, keep_checkpoints=1, choose_checkpoint=True, eval_rows=8, data=data)
    found = RunFolder(tmp_path / "run")
    stages = "reading the data", "loading the model", "training", "choosing the checkpoint", "evaluating the adapter"
    for stage in stages:
        with signalled(lambda s=stage: found.status().get("reason") == s), pytest.raises(RunFailed) as caught:
            run(config, found.path, resume=stage != stages[0])
        assert caught.value.status == INTERRUPTED
        assert found.status()["status"] == "interrupted"
        assert f"stopped while {stage}" in str(caught.value) and "--resume" in found.status()["reason"]
    starts = len(json.loads((found.path / "versions.json").read_text()))
    (found.adapter / "evaluation.json").mkdir()  # a report cannot be written
    with pytest.raises(UserError):
        run(config, found.path, resume=True)
    assert found.status()["status"] == "failed" and "evaluates it" in found.status()["reason"]
    (found.adapter / "evaluation.json").rmdir()
    adapter = run(config, found.path, resume=True)
    assert found.status()["status"] == "succeeded"
    assert len(json.loads((found.path / "versions.json").read_text())) == starts, "only the evaluation was made up"
    assert json.loads((adapter / "evaluation.json").read_text())["about"]["num_rows"] == config.eval_rows
    assert [row["step"] for row in found.history()] == [1, 2, 3]
    assert list(json.loads((found.path / "validation.json").read_text())["scores"]) == ["1", "2", "3"]
    assert [step_of(path) for path in found.checkpoints.iterdir()] == [config.max_steps]


@pytest.mark.slow
def test_the_second_signal_is_obeyed_at_once(tmp_path) -> None:
    found = RunFolder(tmp_path / "run")
    with signalled(lambda: len(found.history()) >= 1, signals=2), pytest.raises(RunFailed) as caught:
        run(small(max_steps=500, save_steps=400), found.path)
    assert caught.value.status == INTERRUPTED and "stopped at once, without a checkpoint" in str(caught.value)
    assert found.status()["status"] == "interrupted" and found.newest_checkpoint() is None


@pytest.mark.slow
def test_a_budget_ends_the_run_at_a_checkpoint(tmp_path, monkeypatch) -> None:
    found, hours = RunFolder(tmp_path / "run"), 6 / 3600
    config = small(max_steps=500, save_steps=400, max_hours=hours)
    entered: list[str] = []
    enter = pipeline.RunPipeline._enter
    monkeypatch.setattr(pipeline.RunPipeline, "_enter", lambda self, stage: (entered.append(stage), enter(self, stage)))
    for resume in (False, True):
        entered.clear()
        with pytest.raises(RunFailed) as caught:
            run(config, found.path, resume=resume)
        assert caught.value.status == BUDGET_SPENT
        assert f"the budget of {hours:g} hours (max_hours) is used up" in str(caught.value)
        assert found.status()["status"] == "interrupted" and "raise max_hours" in found.status()["reason"]
        newest = found.newest_checkpoint()
        assert (step_of(newest) if newest else 0) == len(found.history())
    assert entered == ["reading the data"], "with nothing left of the budget nothing is loaded"
    counted = json.loads((found.path / "hours.json").read_text())
    spent = sum(start["seconds"] for start in counted["starts"])
    longest = max((row["step_time"] for row in found.history()), default=0.0)
    assert not found.history() or spent < 6 + longest, "a step may last longer than any before it"
    assert not found.history() or spent + 3 * longest + 2 * counted["save_seconds"] > 6, "none that fits is left out"
    assert not Budget(found.path, 2 * hours).is_over()


@pytest.mark.slow
def test_a_disk_that_fills_up(small_disk, tmp_path) -> None:
    """The second checkpoint (3 MB) does not fit; the first is safe, and the run goes on when there is room."""
    found = RunFolder(small_disk("5m") / "run")
    config = small(max_steps=3, save_steps=1)
    with pytest.raises(RunFailed) as caught:
        run(config, found.path)
    assert caught.value.status == DISK_FULL
    assert "the disk is full" in str(caught.value) and "Make room" in str(caught.value)
    assert found.status()["status"] == "failed" and "the disk is full" in found.status()["reason"]
    assert [step_of(path) for path in found.checkpoints.iterdir()] == [1] and found.newest_checkpoint() is not None
    small_disk("20m")
    run(config, found.path, resume=True)
    assert [row["step"] for row in found.history()] == [1, 2, 3]
    assert found.status()["status"] == "succeeded"


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_ends_the_run(tmp_path) -> None:
    with pytest.raises(RunFailed) as caught:
        run(small(max_steps=6, learning_rate=1.0, max_grad_norm=1e9, beta=1e30), tmp_path / "run")
    assert caught.value.status == NOT_A_NUMBER and "learning_rate (now 1)" in str(caught.value)
    assert RunFolder(tmp_path / "run").status()["status"] == "failed"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--folder", "other"), "leave --folder, --config and --profile out"),
        (("--profile", "recipe"), "leave --folder, --config and --profile out"),
        (("--seed", "3"), "seed: 0, not 3"),
        (("--micro-batch-size", "7"), "give one of 1, 2, 4, 8"),
        (("--micro-batch-size", "many"), "micro_batch_size is 'many'"),
        (("--dataset", "owner/other"), "data.dataset: 'starter', not 'owner/other'"),
    ],
)
def test_a_resume_that_is_refused_changes_nothing(words: tuple[str, ...], said: str, capsys, tmp_path) -> None:
    path = RunFolder.create(tmp_path / "run", small()).path
    before = sorted((file, file.stat().st_mtime_ns) for file in path.rglob("*"))
    assert main(["train", "--resume", str(path), *words]) == 2
    assert said in capsys.readouterr().err
    assert sorted((file, file.stat().st_mtime_ns) for file in path.rglob("*")) == before


@pytest.fixture
def nothing_checked(monkeypatch) -> pytest.MonkeyPatch:
    """What a run is checked for before it has a folder takes seconds."""
    monkeypatch.setattr("training.pipeline.run.check_run", RunInputs)
    return monkeypatch


def test_a_disk_that_is_full_before_the_run_has_its_folder(nothing_checked, tmp_path) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    nothing_checked.setattr("training.runs.folder.write_whole", full)
    with pytest.raises(RunFailed, match="No space left on device") as caught:
        run(small(), tmp_path / "run")
    assert caught.value.status == DISK_FULL


def test_a_stop_just_after_the_folder_is_made_is_on_record(nothing_checked, tmp_path) -> None:
    def stopped(*arguments: object) -> Budget:
        signal.raise_signal(signal.SIGTERM)
        return Budget(*arguments)

    nothing_checked.setattr("training.pipeline.run.Budget", stopped)
    with pytest.raises(RunFailed, match="stopped while starting") as caught:
        run(small(), tmp_path / "run")
    assert caught.value.status == INTERRUPTED
    assert RunFolder(tmp_path / "run").status()["status"] == "interrupted"


def test_a_finished_run_stays_one_where_its_resume_is_stopped_early(tmp_path) -> None:
    folder = RunFolder.create(tmp_path / "run", small())
    folder.set_status("succeeded", step=2)
    before = folder.status()
    assert _stopped_early(folder.path, resume=True) == INTERRUPTED
    assert folder.status() == before
    folder.set_status("failed", step=2)
    assert _stopped_early(folder.path, resume=True) == INTERRUPTED
    assert folder.status()["status"] == "interrupted" and folder.status()["step"] == 2


OWN = """
import numpy

def by_difficulty(completions, difficulty, other_column, **columns):
    assert set(columns) >= {"prompts", "problem", "solution", "trainer_state"} and "prompt" not in columns
    assert all(value in ("words", None) for value in other_column)
    return [numpy.float32(d * (i % 2)) for i, d in enumerate(difficulty)]
"""


@pytest.mark.slow
def test_an_own_reward_gets_every_column_and_training_begins_with_the_adapter(tmp_path: Path, monkeypatch) -> None:
    """Columns of the dataset's own, one of which only some rows have; an adapter with the names of earlier versions."""
    (tmp_path / "reward_by_column.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    pictures = write_folder(tmp_path / "pictures", 12)
    lines = [json.loads(line) for line in (pictures / "metadata.jsonl").read_text().splitlines()]
    lines = [line | {"difficulty": 2 + i, "prompt": "mine"} for i, line in enumerate(lines)]
    lines[0]["other_column"] = "words"
    write_lines(pictures / "metadata.jsonl", lines)
    given = random_adapter(tmp_path / "given", target_modules=["q_proj", "v_proj"])
    weights = given / "adapter_model.safetensors"
    before = load_file(weights)
    save_file({n.replace("model.language_model.layers", "model.layers"): t for n, t in before.items()}, weights)
    config = small(
        max_steps=1,
        learning_rate=1e-6,
        start_adapter=str(given),
        rewards={"reward_by_column:by_difficulty": 1.0},
        data={"dataset": str(pictures), "test_rows": 2},
    )
    run(config, tmp_path / "run")
    folder, _ = RunFolder.open(tmp_path / "run")
    groups = list(read_lines(folder.rollouts))
    rewards = {c["rewards"]["by_difficulty"] for group in groups for c in group["completions"]}
    assert len(groups) == 2 and min(rewards) == 0 and max(rewards) >= 2
    after = load_file(folder.adapter / "adapter_model.safetensors")
    assert after.keys() == before.keys()
    assert all((after[name] - before[name]).abs().max() < 1e-4 for name in after), "one small step from where it began"
    assert reward_labels(folder.history()) == {"rewards/by_difficulty/mean": "by_difficulty"}
    assert (folder.path / "rewards.png").stat().st_size > 10_000
