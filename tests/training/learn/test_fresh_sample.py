"""A fresh sample of a dataset by the shipped model: recorded as a run's rollouts, and scored like them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.common.errors import UserError
from inference.common.files import read_lines
from inference.common.settings import load_settings
from training.__main__ import main
from training.config.run_config import change_config, load_config
from training.grading.advantages import Weighing
from training.launch import sampling
from training.launch.machine_lock import by_hand
from training.launch.sampling import check_room, room
from training.learn.fresh_sample import (
    MAX_SAMPLES,
    _rewarded,
    forget_old,
    make_sample,
    new_sample,
    num_planned,
    sample_config,
    samples,
)
from training.learn.grades import GradeStore
from training.learn.regrading import grade_missing, lab_config, needed
from training.learn.reward_lab import read_rollouts, scored

REWARDS = {"format_reward": 0.5, "accuracy_reward": 1.0, "length_reward": 0.3}
SMALL = {"num_generations": 2, "prompts_per_step": 2, "max_completion_length": 24}


def test_a_sample_is_recorded_like_a_run(tmp_path: Path) -> None:
    """Rewards and advantages are those that the lab finds when it grades the same answers as a run's."""
    settings = load_settings(env={"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(tmp_path)})
    config, made = change_config(sample_config("starter", settings), SMALL), []
    make_sample(new_sample(tmp_path), config, 3, settings, made.append)
    [folder] = samples(tmp_path).iterdir()
    recorded = read_rollouts(folder, config)
    assert num_planned(folder) == 3
    assert made == [4, 2] and recorded.steps.tolist() == [1, 1, 2] and recorded.num_without_solution == 0
    own = scored(recorded, config, recorded.rewards)
    np.testing.assert_allclose(own.advantages, recorded.advantages, atol=1e-3)
    first = next(iter(read_lines(folder / "rollouts.jsonl")))
    assert (folder / "images" / first["image"]).is_file() and first["row"].startswith("train-")
    other, store = lab_config(config, {"soft_format_reward": 1.0, **config.rewards}, 0.5, 24), GradeStore(tmp_path)
    needs = needed(recorded, config, other, store)
    grade_missing(folder, config, other, needs, store, lambda _: None)
    assert needed(recorded, config, other, store).num_missing == 0 < needs.num_missing


@pytest.mark.parametrize("num", [0, 257])
def test_a_sample_is_bounded(num: int, tmp_path: Path) -> None:
    settings = load_settings(env={"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(tmp_path)})
    with pytest.raises(UserError, match=f"{num} problems are asked for; give a whole number from 1 to 256"):
        make_sample(tmp_path / "new", sample_config("starter", settings), num, settings, lambda _: None)
    assert not (tmp_path / "new").exists()


def test_old_samples_go_once_a_new_one_is_made(tmp_path: Path) -> None:
    """Names are unique within a second; a sample elsewhere is none of them."""
    names = [new_sample(tmp_path) for _ in range(50)]
    assert len(set(names)) == 50 and not samples(tmp_path).exists()
    for number in range(MAX_SAMPLES + 2):
        (samples(tmp_path) / f"sample-20260101-{number:06}").mkdir(parents=True)
    forget_old(tmp_path / "elsewhere", tmp_path)
    assert len(list(samples(tmp_path).iterdir())) == MAX_SAMPLES + 2
    names[0].mkdir()
    forget_old(names[0], tmp_path)
    left = sorted(path.name for path in samples(tmp_path).iterdir())
    assert len(left) == MAX_SAMPLES and {left[-1], left[-2]} == {names[0].name, f"sample-20260101-{MAX_SAMPLES + 1:06}"}


def test_a_sample_that_does_not_fit_or_meets_a_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the page before a process is started, and in the command; no folder is made, and the lock is given back."""
    config = sample_config("starter", load_settings(env={"LOOKTHINK_BASE": "starter"}))
    monkeypatch.setattr(sampling, "free_bytes_here", lambda: 1e12)
    with room(tmp_path, config):
        with pytest.raises(UserError, match="a run, a doctor or another sample is at work .* wait for its end"):
            check_room(tmp_path, config)
    with by_hand(tmp_path), pytest.raises(UserError, match="is at work on this machine"):
        check_room(tmp_path, config)
    monkeypatch.setattr(sampling, "free_bytes_here", lambda: 1e9)
    with pytest.raises(UserError, match=r"about 1\.1 GB .* 1\.0 GB are free, of which 90 % .* sample in a terminal"):
        check_room(tmp_path, config)
    monkeypatch.setenv("LOOKTHINK_HOME", str(tmp_path))
    monkeypatch.setenv("LOOKTHINK_BASE", "starter")
    assert main(["rewards", str(tmp_path / "new"), "--sample", "2"]) == 2 and not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "trl",
    [{}, {"scale_rewards": "none"}, {"scale_rewards": "batch"}, {"multi_objective_aggregation": "normalize_then_sum"}],
)
def test_a_samples_advantages_are_the_labs(trl: dict[str, str]) -> None:
    config = load_config("starter", {"trl": trl, "num_generations": 4, "rewards": REWARDS})
    texts = ["<think>a</think><answer>7</answer>", "<answer>7</answer>", "8", "<think>a</think><answer>8</answer>"] * 2
    columns = {
        "completions": [[{"role": "assistant", "content": text}] for text in texts],
        "completion_ids": [range(4 + i) for i in range(8)],
        "solution": ["7"] * 8,
    }
    logs = _rewarded(config, columns, 8)
    table = np.array(list(logs["rewards"].values())).T
    wanted = Weighing(np.array(list(REWARDS.values())), **trl).advantages(table, np.arange(8) // 4, np.zeros(8, int))
    np.testing.assert_allclose(logs["advantages"], wanted)
    assert np.abs(wanted).max() > 0.1
