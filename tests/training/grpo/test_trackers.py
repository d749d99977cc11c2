"""Live figures: their files in the run folder, and one run over every resume."""

from pathlib import Path

import pytest

from training.config.run_config import load_config
from training.grpo.trainer import PROJECT, grpo_config, run_id, tracker_environment


def test_a_run_keeps_its_id_and_shares_it_with_no_other(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_id(Path("runs/first")) == run_id(tmp_path / "runs" / "first")
    assert run_id(tmp_path / "runs/first") != run_id(tmp_path / "other/first")
    assert run_id(tmp_path / "my run: 50 %").startswith("my-run--50---")


def test_files_stay_in_the_run_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    found = tracker_environment(tmp_path / "first")
    assert found["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "first/tensorboard")
    assert (found["WANDB_DIR"], found["WANDB_RESUME"]) == (str(tmp_path / "first"), "allow")
    assert found["WANDB_PROJECT"] == PROJECT
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    assert tracker_environment(tmp_path / "first")["WANDB_PROJECT"] == "mine"


@pytest.mark.parametrize("reporter", ["tensorboard", "trackio", "wandb"])
def test_the_trainer_is_told(tmp_path, monkeypatch, reporter) -> None:
    for name in tracker_environment(tmp_path):
        monkeypatch.setenv(name, "before")
    arguments = grpo_config(load_config("starter", {"report_to": [reporter]}), tmp_path, on_gpu=False, bf16=False)
    assert (arguments.run_name, arguments.project) == (run_id(tmp_path), PROJECT)
    assert arguments.trackio_static_space_id is False and arguments.report_to == [reporter]
