"""The Rewards section without a browser: no reward of a run is lost, and fields are refused in words."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import pytest

from inference.common.errors import UserError
from inference.common.files import append_line
from inference.common.settings import load_settings
from tests.support.recorded_run import record_rollouts
from training.admin.access import Access
from training.config.run_config import RunConfig, change_config, load_config
from training.learn.fresh_sample import make_sample, new_sample, sample_config
from training.learn.grades import GradeStore
from training.learn.regrading import grade_missing, needed
from training.learn.reward_lab import read_rollouts
from training.runs.folder import RunFolder
from training.runs.store import RunStore
from training.ui.rewards.reward_lab import MAX_REWARDS, RewardLab, build_rewards
from training.ui.training_app import TrainingApp

NAMES = [f"my_rewards:r{i}_reward" for i in range(MAX_REWARDS + 3)]
SMALL = {"prompts_per_step": 2, "num_generations": 4, "max_steps": 2, "warmup_steps": 0}
REWARDS = {"format_reward": 0.5, "accuracy_reward": 1.0}
WEIGHTS = [0.1 + i for i in range(len(NAMES))]


@pytest.fixture
def lab(tmp_path: Path) -> RewardLab:
    """A run with three more rewards than there are sliders."""
    store = RunStore(tmp_path)
    config = load_config("starter", {"rewards": dict(zip(NAMES, WEIGHTS))})
    record = store.submit(config, "admin", name="many")
    folder = RunFolder.create(record.folder, config) if not record.folder.exists() else RunFolder(record.folder)
    given = {f"r{i}_reward": float(i) for i in range(len(NAMES))}
    rows = [{"text": f"{i}", "num_tokens": 4, "rewards": given, "advantage": 0.0} for i in range(2)]
    append_line(folder.rollouts, {"step": 1, "prompt": "?", "completions": rows, "solution": "7"})
    settings = load_settings(env={"LOOKTHINK_HOME": str(tmp_path), "LOOKTHINK_BASE": "starter"}, has_gpu=False)
    side = TrainingApp(settings, Access(tmp_path, {"LOOKTHINK_ADMIN_TOKEN": "a token of the tests"}))
    with gr.Blocks():
        return build_rewards(side.context(lambda: None), gr.Textbox())[1]


def config_of(lab: RewardLab, changes: dict[int, object] | None = None) -> RunConfig:
    fields: list[object] = [*WEIGHTS[:MAX_REWARDS], "0", "96"]
    for at, value in (changes or {}).items():
        fields[at] = value
    return lab.config("many", "many#0", NAMES[:MAX_REWARDS], *fields)


def test_a_reward_without_a_slider_keeps_its_weight_and_is_named(lab: RewardLab) -> None:
    assert config_of(lab).rewards == dict(zip(NAMES, WEIGHTS))
    changed = config_of(lab, {0: 0.0, 1: 5.0}).rewards
    assert changed == dict(zip(NAMES[1:], [5.0, *WEIGHTS[2:]]))
    status = str(lab.refresh(None, "many", "", [], *[None] * (MAX_REWARDS + 2))[3 + MAX_REWARDS + 2])  # type: ignore[arg-type]
    assert all(f"{name} ({weight:g})" in status for name, weight in zip(NAMES[MAX_REWARDS:], WEIGHTS[MAX_REWARDS:]))


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (0, -1, "the weight of my_rewards:r0_reward is -1; give 0 to 1,000,000"),
        (0, 1e300, "give 0 to 1,000,000"),
        (0, "heavy", "is 'heavy'; give a number such as 2.5"),
        (MAX_REWARDS, "1e9", r"the tolerance is 1e\+09; give a share from 0 to below 1"),
        (MAX_REWARDS, "-1", "the tolerance is -1; give a share"),
        (MAX_REWARDS, "some", "the tolerance is 'some'; give a number such as 0.05"),
        (MAX_REWARDS + 1, "x", "the length limit is 'x'; give a number such as 64"),
        (MAX_REWARDS + 1, "0", "the length limit is 0; give whole tokens from 1 to 32,768"),
        (MAX_REWARDS + 1, "1e12", "give whole tokens from 1 to 32,768"),
        (MAX_REWARDS + 1, "9.5", "the length limit is 9.5; give whole tokens"),
    ],
)
def test_fields_are_refused_in_words(lab: RewardLab, at: int, value: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        config_of(lab, {at: value})


def test_a_refused_sample_deletes_nothing(lab: RewardLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = [tmp_path / "samples" / f"sample-20260101-{i:06}" for i in range(10)]
    for path in old:
        path.mkdir(parents=True)
    monkeypatch.setattr("training.launch.sampling.free_bytes_here", lambda: 1e6)
    with pytest.raises(UserError, match="GB are free"):
        lab._sample(None, "many", "many#0", NAMES, *[None] * (MAX_REWARDS + 2), "starter", "4")  # type: ignore[arg-type]
    assert all(path.is_dir() for path in old) and not lab._context.regrading.is_running


def test_a_problem_count_in_words_is_answered_with_a_whole_example(lab: RewardLab) -> None:
    with pytest.raises(UserError, match="the number of problems is 'x'; give a number such as 16, "):
        lab._sample(None, "many", "many#0", NAMES, *[None] * (MAX_REWARDS + 2), "starter", "x")  # type: ignore[arg-type]


def test_a_cut_answer_says_so_and_keeps_no_old_reading(lab: RewardLab, tmp_path: Path) -> None:
    config = load_config("starter", {**SMALL, "rewards": REWARDS, "data": {"tolerance": 0.05}})
    record = lab._context.store.submit(config, "admin", name="cut")
    folder = RunFolder.create(record.folder, config) if not record.folder.exists() else RunFolder(record.folder)
    record_rollouts(folder, config, num_steps=8)
    fields = [0.5, 1.0, *[0.0] * (MAX_REWARDS - 2), "0.05", "20"]
    other = lab.config("cut", "cut#0", list(config.rewards), *fields)
    recorded, store = read_rollouts(folder.path, config), GradeStore(tmp_path)
    needs = needed(recorded, config, other, store)
    grade_missing(folder.path, config, other, needs, store, lambda _: None)
    html = str(lab.refresh(None, "cut", "cut#0", list(config.rewards), *fields)[-1])  # type: ignore[arg-type]
    answers = html.split('<li class="lt-rollout">')[1:]
    assert 0 < sum("cut at 20 tokens" in each for each in answers) < len(answers)
    for each in answers:
        tokens = int(each.split(" tokens")[0].rpartition(">")[2].rpartition(" ")[2])
        assert ("cut at 20 tokens" in each) == (tokens > 20)
        assert tokens <= 20 or "read as" not in each
    assert "read as" in html


def test_a_stopped_sample_says_so_and_names_its_adapter(lab: RewardLab, tmp_path: Path) -> None:
    settings = lab._context.settings
    config = change_config(sample_config("starter", settings), SMALL)

    def stop(num: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_sample(new_sample(tmp_path), config, 3, settings, stop)
    record = lab.records()[-1]
    status = str(lab.refresh(None, record.id, "", [], *[None] * (MAX_REWARDS + 2))[3 + MAX_REWARDS + 2])  # type: ignore[arg-type]
    assert "The sample has 2 of its 3 problems: it was stopped" in status
    assert "answers of the adapter starter-adapter to problems of starter" in status
