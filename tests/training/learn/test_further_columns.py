"""A user's own reward gets the dataset's further columns in the lab as in training, or words where they are not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from inference.common.errors import UserError
from inference.common.files import append_line, read_lines
from tests.support.recorded_run import record_rollouts
from tests.training.grpo.test_log_probs import make
from training.config.run_config import RunConfig, change_config, load_config
from training.data.dataset import load_rows
from training.learn.grades import GradeStore
from training.learn.regrading import grade_missing, needed
from training.learn.reward_lab import read_rollouts
from training.runs.folder import RunFolder

OWN = """
def level_reward(completions, level, images, image, log_extra, **columns):
    assert all(one[0] is first for one, first in zip(images, image)) and "row_id" not in columns
    return [float(each) + first.size[0] / 1000 for each, first in zip(level, image)]
def quiet_reward(completions, **columns):
    return [float(each) for each in columns["level"]]
def plain_reward(completions, **columns):
    return [float("level" in columns)] * len(completions)
def lacking_reward(completions, kind, image, level=0, color=None, **columns):
    return [1.0] * len(completions)
def defaulted_reward(completions, solution, kind="none", **columns):
    return [float(kind == "none")] * len(completions)
"""
SMALL = {"prompts_per_step": 2, "num_generations": 2, "max_steps": 3, "warmup_steps": 0, "eval_rows": 0}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, RunConfig]:
    """A run on a dataset with a column `level`, the number of the row."""
    (tmp_path / "leveled_lab_rewards.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "set").mkdir()
    for i in range(8):
        Image.new("RGB", (30 + i, 30), (20 * i, 0, 0)).save(tmp_path / "set" / f"{i}.png")
        row = {"image": f"{i}.png", "problem": f"How many in {i}?", "solution": str(i), "level": i}
        append_line(tmp_path / "set" / "rows.jsonl", row)
    data = {"dataset": str(tmp_path / "set"), "test_share": 0.0}
    config = load_config("starter", {**SMALL, "data": data, "rewards": {"format_reward": 1.0}})
    rows = load_rows(config.data, home=tmp_path / "home").train
    folder = RunFolder.create(tmp_path / "run", config)
    record_rollouts(folder, config, num_steps=3)
    lines = list(read_lines(folder.rollouts))
    folder.rollouts.unlink()
    for line, row in zip(lines, rows):
        row = {name: row[name] for name in ("problem", "solution", "row_id")}
        append_line(
            folder.rollouts, line | {"prompt": row["problem"], "solution": row["solution"], "row": row["row_id"]}
        )
    return folder.path, config


def graded(run: tuple[Path, RunConfig], name: str, home: Path) -> tuple[list[float], list[str]]:
    other = change_config(run[1], {"rewards": {f"leveled_lab_rewards:{name}": 1.0}})
    recorded, store, notes = read_rollouts(*run), GradeStore(home), []
    grade_missing(*run, other, needed(recorded, run[1], other, store), store, lambda _: None, notes.append)
    return needed(recorded, run[1], other, store).rewards[name].tolist(), notes


@pytest.mark.parametrize("is_prepared", [True, False])
def test_columns_come_from_the_copy_or_the_dataset(
    is_prepared: bool, run: tuple[Path, RunConfig], tmp_path: Path
) -> None:
    """Each answer gets its own row's; where the copy is gone, it is made again."""
    levels = [int(row["solution"]) for row in read_lines(run[0] / "rollouts.jsonl") for _ in range(2)]
    if not is_prepared:
        shutil.rmtree(tmp_path / "home")
    assert graded(run, "level_reward", tmp_path / "home")[0] == pytest.approx([x + (30 + x) / 1000 for x in levels])
    assert graded(run, "quiet_reward", tmp_path / "home") == (levels, [])


@pytest.mark.parametrize("gone", ["dataset", "rows", "ids"])
def test_columns_that_are_not_here_are_said(gone: str, run: tuple[Path, RunConfig], tmp_path: Path) -> None:
    """A function that names them is refused; one that looks for them is explained; one that needs none goes on."""
    if gone == "ids":
        lines = list(read_lines(run[0] / "rollouts.jsonl"))
        (run[0] / "rollouts.jsonl").unlink()
        for line in lines:
            append_line(run[0] / "rollouts.jsonl", {name: value for name, value in line.items() if name != "row"})
    else:
        shutil.rmtree(tmp_path / "home")
        path = tmp_path / "set" / "rows.jsonl"
        changed = [row | {"problem": row["problem"] + "?"} for row in read_lines(path)]
        path.unlink() if gone == "dataset" else path.write_text("".join(json.dumps(row) + "\n" for row in changed))
    why = {"dataset": "set", "rows": "6 of 6 rows .* has changed since", "ids": "no row ids"}[gone]
    with pytest.raises(UserError, match=f"names image, images, level, and the rows of .*{why}"):
        graded(run, "level_reward", tmp_path / "home")
    with pytest.raises(UserError, match=f"KeyError .*'level'.* It had no further columns of the dataset: .*{why}"):
        graded(run, "quiet_reward", tmp_path / "home")
    rewards, [note] = graded(run, "plain_reward", tmp_path / "home")
    assert rewards == [0.0] * 12 and "graded without the dataset's further columns" in note


@pytest.mark.parametrize("dataset", ["own", "starter"])
def test_a_column_that_no_row_has_is_refused_by_its_name(
    dataset: str, run: tuple[Path, RunConfig], tmp_path: Path
) -> None:
    """A parameter with a default needs none."""
    if dataset == "starter":
        config = load_config("starter", {**SMALL, "data": {"train_rows": 8}, "rewards": {"format_reward": 1.0}})
        rows = load_rows(config.data, home=tmp_path / "home").train
        folder = RunFolder.create(tmp_path / "plain", config)
        for line, row in zip(read_lines(run[0] / "rollouts.jsonl"), rows):
            append_line(folder.rollouts, line | {"row": row["row_id"]})
        run = folder.path, config
    with pytest.raises(UserError, match="'lacking_reward' names kind, which the rows of .*(set|starter) do not have"):
        graded(run, "lacking_reward", tmp_path / "home")
    assert graded(run, "defaulted_reward", tmp_path / "home") == ([1.0] * 12, [])


def test_the_trainer_records_the_row_and_hands_its_id_to_no_reward(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "idless_lab_rewards.py").write_text(
        "def idless_reward(completions, **columns):\n    return [float('row_id' in columns)] * len(completions)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    trainer = make(tmp_path, max_completion_length=4, rewards={"idless_lab_rewards:idless_reward": 1.0})
    trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    for row in read_lines(tmp_path / "run" / "rollouts.jsonl"):
        assert row["row"].startswith("train-") and {one["rewards"]["idless_reward"] for one in row["completions"]} == {
            0
        }
