"""A fresh sample of a dataset by the shipped model: recorded as a run's rollouts, and scored like them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.common.errors import UserError
from inference.common.files import read_lines
from inference.common.settings import load_settings
from training.config.run_config import change_config
from training.learn.fresh_sample import MAX_SAMPLES, make_sample, new_sample, sample_config, samples
from training.learn.regrading import GradeStore, grade_missing, lab_config, needed
from training.learn.reward_lab import read_rollouts, scored

SMALL = {"num_generations": 2, "prompts_per_step": 2, "max_completion_length": 24}


def test_a_sample_is_recorded_like_a_run(tmp_path: Path) -> None:
    """Rewards and advantages are those that the lab finds when it grades the same answers as a run's."""
    settings = load_settings(env={"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(tmp_path)})
    config, made = change_config(sample_config("starter", settings), SMALL), []
    make_sample(new_sample(tmp_path), config, 3, settings, made.append)
    [folder] = samples(tmp_path).iterdir()
    recorded = read_rollouts(folder)
    assert made == [4, 2] and recorded.steps.tolist() == [1, 1, 2] and recorded.num_without_solution == 0
    own = scored(recorded, config, recorded.rewards)
    np.testing.assert_allclose(own.advantages, recorded.advantages, atol=1e-3)
    first = next(iter(read_lines(folder / "rollouts.jsonl")))
    assert (folder / "images" / first["image"]).is_file() and first["row"].startswith("train-")
    other, store = lab_config(config, {"soft_format_reward": 1.0, **config.rewards}, 0.5, 24), GradeStore(tmp_path)
    needs = needed(recorded, config, other, store)
    grade_missing(folder, needs, other, store, lambda _: None)
    assert needed(recorded, config, other, store).num_missing == 0 < needs.num_missing


@pytest.mark.parametrize("num", [0, 257])
def test_a_sample_is_bounded(num: int, tmp_path: Path) -> None:
    settings = load_settings(env={"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(tmp_path)})
    with pytest.raises(UserError, match=f"{num} problems are asked for; give 1 to 256"):
        make_sample(tmp_path / "new", sample_config("starter", settings), num, settings, lambda _: None)
    assert not (tmp_path / "new").exists()


def test_old_samples_go(tmp_path: Path) -> None:
    for number in range(MAX_SAMPLES + 2):
        (samples(tmp_path) / f"sample-20260101-{number:06}").mkdir(parents=True)
    new_sample(tmp_path)
    left = sorted(path.name for path in samples(tmp_path).iterdir())
    assert len(left) == MAX_SAMPLES - 1 and left[-1] == f"sample-20260101-{MAX_SAMPLES + 1:06}"
