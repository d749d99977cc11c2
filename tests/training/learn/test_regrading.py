"""Recorded rollouts graded anew: by the one grader, kept, bounded, in a process that can be stopped."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from inference.common.errors import UserError
from inference.common.files import append_line, read_lines
from tests.support.recorded_run import record_rollouts
from training.__main__ import main
from training.config.run_config import RunConfig, change_config, load_config
from training.grading.grader import grade
from training.learn import grades
from training.learn.grades import GradeStore
from training.learn.lab_process import LabProcess
from training.learn.regrading import Texts, grade_missing, lab_config, needed
from training.learn.reward_lab import read_rollouts, scored
from training.runs.folder import RunFolder

SMALL = {"prompts_per_step": 2, "num_generations": 4, "max_steps": 6, "warmup_steps": 0}
REWARDS = {"format_reward": 0.5, "accuracy_reward": 1.0}
OWN = """
import os
def brevity_reward(completions, solution, completion_ids, **columns):
    open(os.environ["LAB_CALLS"], "a").write(f"{len(completions)} ")
    parts = zip(completions, completion_ids, solution)
    return [len(ids) + int(gold) / 100 + (one[-1]["role"] == "assistant") for one, ids, gold in parts]
async def later_reward(completions, **columns):
    return [None] * len(completions)
"""

SLOW = """
import time
def slow_reward(completions, **columns):
    time.sleep(0.5)
    return [1.0] * len(completions)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunConfig]:
    config = load_config("starter", {**SMALL, "rewards": REWARDS})
    folder = RunFolder.create(tmp_path_factory.mktemp("graded") / "run", config)
    record_rollouts(folder, config, num_steps=6)
    return folder.path, config


def graded(run: tuple[Path, RunConfig], home: Path, **values: object) -> tuple[dict[str, np.ndarray], int]:
    """The rewards under other settings, and how many grades were made for them."""
    settings = {"rewards": REWARDS, "tolerance": 0.0, "max_completion_length": 96} | values
    other, store, recorded = lab_config(run[1], **settings), GradeStore(home), read_rollouts(*run)  # type: ignore[arg-type]
    needs, made = needed(recorded, run[1], other, store), []
    grade_missing(*run, other, needs, store, made.append)
    assert sum(made) == needs.num_missing
    after = needed(recorded, run[1], other, store)
    assert after.num_missing == 0
    return dict(after.rewards), sum(made)


def test_weights_need_no_grade(run: tuple[Path, RunConfig], tmp_path: Path) -> None:
    assert graded(run, tmp_path, rewards={"format_reward": 3.0, "accuracy_reward": 0.1})[1] == 0


def test_a_tolerance_is_graded_as_the_grader_does_and_once(run: tuple[Path, RunConfig], tmp_path: Path) -> None:
    rewards, num = graded(run, tmp_path, tolerance=0.05)
    rows = [(row, one) for row in read_lines(run[0] / "rollouts.jsonl") for one in row["completions"]]
    wanted = [float(grade(row["solution"], one["text"], row["prompt"], 0.05).correct) for row, one in rows]
    assert num == 48 and rewards["accuracy_reward"].tolist() == wanted
    own = read_rollouts(*run).rewards
    assert (
        wanted != own["accuracy_reward"].tolist() and rewards["format_reward"].tolist() == own["format_reward"].tolist()
    )
    assert graded(run, tmp_path, tolerance=0.05)[1] == 0 and graded(run, tmp_path, tolerance=0.01)[1] == 48
    assert GradeStore(tmp_path).seconds_each("accuracy_reward") > 0  # type: ignore[operator]


def test_grading_anew_gives_what_the_run_had(run: tuple[Path, RunConfig], tmp_path: Path) -> None:
    """As if the run had had another function only: all that it recorded is found again."""
    without = run[1].model_copy(update={"rewards": {"soft_format_reward": 1.0}})
    assert {name: values.tolist() for name, values in graded((run[0], without), tmp_path)[0].items()} == {
        name: values.tolist() for name, values in read_rollouts(*run).rewards.items()
    }


def test_a_shorter_limit_cuts_texts_by_the_bases_tokens(run: tuple[Path, RunConfig], tmp_path: Path) -> None:
    rewards, num = graded(run, tmp_path, max_completion_length=20)
    recorded = read_rollouts(*run)
    is_long = recorded.num_tokens > 20
    assert 0 < is_long.sum() < 48 and num == 2 * is_long.sum()
    assert not rewards["format_reward"][is_long].any(), "an answer that is cut off has no end"
    assert (rewards["format_reward"] == recorded.rewards["format_reward"])[~is_long].all()
    texts = Texts(run[1], lab_config(run[1], REWARDS, 0.0, 20))
    one = next(one for row in read_lines(run[0] / "rollouts.jsonl") for one in row["completions"] if texts.is_cut(one))
    assert one["text"].startswith(texts.text(one)) and len(texts.ids(one)) == 20


def test_a_file_of_ones_own(run: tuple[Path, RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets whole steps as the run gives them, and is graded anew when it has changed."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LAB_CALLS", str(tmp_path / "calls"))
    (tmp_path / "own_lab_rewards.py").write_text(OWN, encoding="utf-8")
    rewards, num = graded(run, tmp_path, rewards={**REWARDS, "own_lab_rewards:brevity_reward": 1.0})
    assert num == 48 and (tmp_path / "calls").read_text() == "8 " * 6
    recorded, [first, *_] = read_rollouts(*run), read_lines(run[0] / "rollouts.jsonl")
    wanted = recorded.num_tokens[0] + int(first["solution"]) / 100 + 1
    assert rewards["brevity_reward"][0] == pytest.approx(wanted, abs=1.01)  # the record counts an end token too
    assert np.isnan(graded(run, tmp_path, rewards={"own_lab_rewards:later_reward": 1.0})[0]["later_reward"]).all()
    (tmp_path / "own_lab_rewards.py").write_text(f"{OWN}\n# another", encoding="utf-8")
    assert graded(run, tmp_path, rewards={"own_lab_rewards:brevity_reward": 1.0})[1] == 48


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rewards": {"lambda c: [1]": 1.0}}, "not of the form module:function"),
        ({"rewards": {"no_reward": 1.0}}, "there is no reward"),
        ({"rewards": {"__import__('os').system:x": 1.0}}, "not of the form module:function"),
        ({"rewards": {"no_such_module_here:a_reward": 1.0}}, "no file of the reward"),
        ({"rewards": {"accuracy_reward": -1.0}}, "weight below 0"),
        ({"rewards": {"a:format_reward": 1.0, "format_reward": 1.0}}, "two rewards are called format_reward"),
        ({"tolerance": 2.0}, "tolerance"),
        ({"max_completion_length": 0}, "max_completion_length"),
    ],
)
def test_what_cannot_be_is_refused(
    values: dict[str, object], words: str, run: tuple[Path, RunConfig], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        graded(run, tmp_path, **values)


def test_a_record_without_solutions_is_only_weighed(run: tuple[Path, RunConfig], tmp_path: Path) -> None:
    for row in read_lines(run[0] / "rollouts.jsonl"):
        row.pop("solution")
        append_line(tmp_path / "rollouts.jsonl", row)
    old = tmp_path, run[1]
    assert graded(old, tmp_path, rewards={"format_reward": 1.0})[1] == 0
    with pytest.raises(UserError, match="48 of 48 completions have no solution .* only the weights"):
        graded(old, tmp_path, tolerance=0.05)


@pytest.mark.parametrize("kept", [0, 3])
def test_what_the_record_lacks_is_left_out_until_it_is_graded(
    kept: int, run: tuple[Path, RunConfig], tmp_path: Path
) -> None:
    """Of all completions, or of all but the first of each group of four; graded anew, it is as the run had it."""
    for row in read_lines(run[0] / "rollouts.jsonl"):
        for one in row["completions"][kept // 3 :]:
            del one["rewards"]["accuracy_reward"]
        append_line(tmp_path / "rollouts.jsonl", row)
    old, store, num = (tmp_path, run[1]), GradeStore(tmp_path), 48 - 4 * kept
    recorded = read_rollouts(*old)
    needs = needed(recorded, run[1], run[1], store)
    assert needs.is_enough and needs.num_missing == num and needs.left_out == {"accuracy_reward": (num, "")}
    [words] = needs.left_out_words
    assert (
        words.startswith(f"The record lacks accuracy_reward for {num} of 48 answers") and "until it is graded" in words
    )
    without = change_config(run[1], {"rewards": {"format_reward": 0.5}})
    if not kept:
        totals = scored(recorded, run[1], needs.rewards).totals
        assert totals.tolist() == scored(recorded, without, needs.rewards).totals.tolist()
    grade_missing(*old, run[1], needs, store, lambda _: None)
    after = needed(recorded, run[1], run[1], store)
    assert not after.left_out and after.rewards["accuracy_reward"].tolist() == (
        read_rollouts(*run).rewards["accuracy_reward"].tolist()
    )


def test_what_cannot_be_graded_is_said_and_the_rest_is_shown(run: tuple[Path, RunConfig], tmp_path: Path) -> None:
    config = change_config(run[1], {"rewards": REWARDS | {"no_such_module_here:a_reward": 0.2}})
    recorded = read_rollouts(run[0], config)
    needs = needed(recorded, config, config, GradeStore(tmp_path))
    assert needs.is_enough and not needs.num_missing
    [words] = needs.left_out_words
    assert "lacks no_such_module_here:a_reward for 48 of 48 answers" in words and "no file of the reward" in words
    found, plain = scored(recorded, config, needs.rewards), scored(recorded, run[1], recorded.rewards)
    assert found.totals.tolist() == plain.totals.tolist()


def test_a_package_around_a_reward_is_not_run_to_find_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loud_lab").mkdir()
    (tmp_path / "loud_lab" / "__init__.py").write_text("raise SystemExit(3)", encoding="utf-8")
    (tmp_path / "loud_lab" / "inner.py").write_text("x = 1", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    first = grades.Keys("loud_lab.inner:a_reward", {}, 96)(b"x", is_cut=False)
    (tmp_path / "loud_lab" / "inner.py").write_text("x = 2", encoding="utf-8")
    assert grades.Keys("loud_lab.inner:a_reward", {}, 96)(b"x", is_cut=False) != first
    with pytest.raises(UserError, match="no file of the reward"):
        grades.Keys("loud_lab.none:a_reward", {}, 96)


def test_the_store_is_bounded_and_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grades, "MAX_GRADES", 10)
    store, keys = GradeStore(tmp_path), [b"%d" % i for i in range(25)]
    store.add("a", [(key, None if i % 2 else float(i)) for i, key in enumerate(keys)], 1.0)
    assert store.find(keys) == {b"%d" % i: None if i % 2 else float(i) for i in range(15, 25)}
    (tmp_path / "grades.sqlite3").write_bytes(b"no database " * 1000)
    assert store.find(keys) == {}


def test_the_process_shows_its_progress_and_is_stopped(
    run: tuple[Path, RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow function; what was graded before the stop is kept."""
    (tmp_path / "slow_lab_rewards.py").write_text(SLOW, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    other = lab_config(run[1], {"slow_lab_rewards:slow_reward": 1.0}, 0.0, 96)
    process, recorded, store = LabProcess(tmp_path), read_rollouts(*run), GradeStore(tmp_path)
    before = set(psutil.Process().children())  # of other tests
    process.start(run[0], other)
    with pytest.raises(UserError, match="graded or sampled already"):
        process.start(run[0], other)
    until = time.monotonic() + 60
    while "grading: 8 of 48" not in process.progress and time.monotonic() < until:
        time.sleep(0.02)
    process.stop()
    assert not process.is_running and process.error == "" and time.monotonic() < until
    left = set(psutil.Process().children()) - before
    assert not [one for one in left if one.status() != psutil.STATUS_ZOMBIE]
    assert 8 <= 48 - needed(recorded, run[1], other, store).num_missing < 48


def test_the_command_says_what_changes(
    run: tuple[Path, RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOOKTHINK_HOME", str(tmp_path))
    shutil.copytree(run[0], tmp_path / "runs" / "first")
    assert main(["rewards", "first", "--rewards", "{accuracy_reward: 1}", "--tolerance", "0.05"]) == 0
    out = capsys.readouterr().out
    assert "48 completions in 12 groups" in out and "Answers that swap places" in out
    settings = tmp_path / "settings.yaml"
    settings.write_text("rewards: {format_reward: 1}\nseed: 3\n", encoding="utf-8")
    assert main(["rewards", "first", "--config", str(settings)]) == 2
    assert "has seed; only rewards" in capsys.readouterr().err
