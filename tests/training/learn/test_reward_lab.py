"""Recorded rollouts weighed otherwise: what the run had is found again, and each figure is counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.common.files import append_line, read_lines
from tests.support.recorded_run import record_rollouts
from tests.training.grpo.test_log_probs import make
from training.config.run_config import RunConfig, change_config, load_config
from training.learn import reward_lab
from training.learn.reward_lab import Recorded, compare, figures, read_rollouts, scored, swapped
from training.runs.folder import RunFolder

SMALL = {"prompts_per_step": 2, "num_generations": 4, "max_steps": 6, "warmup_steps": 0}
REWARDS = {"format_reward": 0.5, "accuracy_reward": 1.0, "length_reward": 0.3}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunConfig]:
    config = load_config("starter", {**SMALL, "rewards": REWARDS})
    folder = RunFolder.create(tmp_path_factory.mktemp("lab") / "run", config)
    record_rollouts(folder, config, num_steps=6)
    return folder.path, config


@pytest.mark.parametrize(
    "trl",
    [{}, {"scale_rewards": "none"}, {"scale_rewards": "batch"}, {"multi_objective_aggregation": "normalize_then_sum"}],
)
def test_a_trainers_own_advantages_are_found_again(trl: dict[str, str], tmp_path: Path) -> None:
    """Two steps by the real trainer: model, rewards, TRL's formula and our writer."""
    trainer = make(tmp_path, max_completion_length=12, trl=trl, rewards=REWARDS)
    batches = iter(trainer.get_train_dataloader())
    for step in range(2):
        trainer.state.global_step = step
        trainer._generate_and_score_completions(next(batches))
    folder, config = RunFolder.open(tmp_path / "run")
    recorded = read_rollouts(folder.path, config)
    assert recorded.steps.tolist() == [1, 1, 2, 2] and recorded.num_without_solution == 0
    assert np.abs(recorded.advantages).max() > 0.01
    found = scored(recorded, config, recorded.rewards)
    np.testing.assert_allclose(found.advantages, recorded.advantages, atol=5e-3)


@given(st.lists(st.floats(0, 3), min_size=3, max_size=3).filter(lambda weights: sum(weights) > 0.01))
def test_the_same_weights_change_nothing_and_a_common_factor_no_order(
    run: tuple[Path, RunConfig], weights: list[float]
) -> None:
    recorded, config = read_rollouts(*run), run[1]
    own = scored(recorded, config, recorded.rewards)
    np.testing.assert_allclose(own.advantages, recorded.advantages, atol=1e-3)
    one, twice = (
        scored(recorded, change_config(config, {"rewards": dict(zip(REWARDS, each))}), recorded.rewards)
        for each in (weights, [2 * weight for weight in weights])
    )
    change = compare(recorded, one, twice)
    assert not change.swapped.any() and not change.is_led_anew.any() and not change.flipped.any()


def test_figures_by_hand(tmp_path: Path) -> None:
    """One group whose order turns round, one that dies, and one that stays."""
    rewards = [[(1, 0), (0, 1)], [(1, 0), (0, 0)], [(1, 1), (0, 0)]]
    for step, group in enumerate(rewards, 1):
        rows = [
            {"text": f"{i}", "num_tokens": 4, "rewards": {"accuracy_reward": a, "format_reward": f}, "advantage": 0.0}
            for i, (a, f) in enumerate(group)
        ]
        append_line(tmp_path / "rollouts.jsonl", {"step": step, "prompt": "?", "completions": rows, "solution": "7"})
    config = load_config("starter", {"rewards": {"accuracy_reward": 1.0, "format_reward": 0.5}})
    recorded = read_rollouts(tmp_path, config)
    other = change_config(config, {"rewards": {"format_reward": 1.0}})
    change = compare(recorded, *(scored(recorded, each, recorded.rewards) for each in (config, other)))
    assert change.swapped.tolist() == [True, True, False, False, False, False]
    assert change.flipped.tolist() == [True, True, False, False, False, False]
    assert change.is_led_anew.tolist() == [True, False, False]
    assert change.dead == (0.0, pytest.approx(1 / 3))
    assert change.curves["reward"] == ([(1, 0.75), (2, 0.5), (3, 0.75)], [(1, 0.5), (2, 0.0), (3, 0.5)])
    assert change.curves["zero_std_share"][1] == [(1, 0.0), (2, 1.0), (3, 0.0)]
    assert ("Answers that swap places with another of their problem", "", "2 (33 %)") in figures(change, recorded)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 3)), max_size=12))
def test_swaps_are_those_of_all_pairs(rows: list[tuple[int, int, int]]) -> None:
    rows = sorted(rows)
    before, after = (np.array([float(row[at]) for row in rows]) for at in (1, 2))
    wanted = [any(g == h and (b - c) * (a - d) < 0 for h, c, d in rows) for g, b, a in rows]
    assert swapped(before, after, np.array([row[0] for row in rows], int)).tolist() == wanted


def test_a_long_record_is_read_in_steps_apart(run: tuple[Path, RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_lab, "MAX_COMPLETIONS", 16)
    recorded = read_rollouts(*run)
    assert recorded.every == 3 and recorded.steps.tolist() == [3, 3, 6, 6] and recorded.numbers.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    "line", ["", "no JSON", '{"step": 1}', '{"step": "x", "prompt": "", "completions": []}', "[" * 9000]
)
def test_lines_that_are_no_groups_are_left_out(line: str, run: tuple[Path, RunConfig], tmp_path: Path) -> None:
    text = (run[0] / "rollouts.jsonl").read_text(encoding="utf-8")
    (tmp_path / "rollouts.jsonl").write_text(f"{line}\n{text}{line}", encoding="utf-8")
    assert read_rollouts(tmp_path, run[1]).num_completions == read_rollouts(*run).num_completions == 48


def test_a_reward_that_is_not_there_is_none(run: tuple[Path, RunConfig], tmp_path: Path) -> None:
    for row in read_lines(run[0] / "rollouts.jsonl"):
        row["completions"][0]["rewards"] = {"accuracy_reward": None, "format_reward": "1"}
        append_line(tmp_path / "rollouts.jsonl", json.loads(json.dumps(row)))
    recorded: Recorded = read_rollouts(tmp_path, run[1])
    firsts = np.flatnonzero(np.r_[True, np.diff(recorded.group) > 0])
    assert all(
        np.isnan(values[firsts]).all() and not np.isnan(np.delete(values, firsts)).any()
        for values in recorded.rewards.values()
    )
    assert (scored(recorded, run[1], recorded.rewards).advantages[firsts] == 0).all()


def test_no_record_is_no_group(tmp_path: Path) -> None:
    assert read_rollouts(tmp_path, load_config("starter")).num_completions == 0


def test_many_rewards_are_read_and_only_those_of_the_run(run: tuple[Path, RunConfig], tmp_path: Path) -> None:
    """A line that names thousands of others crowds none of the run's out."""
    names = {f"my_rewards:r{i}_reward": 0.1 for i in range(40)}
    for row in read_lines(run[0] / "rollouts.jsonl"):
        for one in row["completions"]:
            one["rewards"] = {f"x{i}": 1.0 for i in range(500)} | {f"r{i}_reward": float(i) for i in range(40)}
        append_line(tmp_path / "rollouts.jsonl", row)
    config = change_config(run[1], {"rewards": names})
    recorded = read_rollouts(tmp_path, config)
    assert recorded.rewards.keys() == {f"r{i}_reward" for i in range(40)} == recorded.absent.keys()
    assert (
        not any(each.any() for each in recorded.absent.values())
        and recorded.rewards["r39_reward"].tolist() == [39.0] * 48
    )
    np.testing.assert_allclose(scored(recorded, config, recorded.rewards).totals, 0.1 * sum(range(40)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_tokens", 10**300),
        ("num_tokens", -5),
        ("num_tokens", "x"),
        ("advantage", float("nan")),
        ("advantage", 1e300),
        ("rewards", {"accuracy_reward": 1e300, "format_reward": float("inf"), "length_reward": float("nan")}),
        ("rewards", ["accuracy_reward"]),
        ("rewards", {"accuracy_reward": True, "format_reward": {"a": 1}, "length_reward": [1]}),
        ("truncated", "yes"),
        ("text", "\ud800<answer>\udfff</answer>"),
    ],
)
def test_a_hostile_value_breaks_nothing(name: str, value: object, run: tuple[Path, RunConfig], tmp_path: Path) -> None:
    with (tmp_path / "rollouts.jsonl").open("w", encoding="utf-8") as file:
        for row in read_lines(run[0] / "rollouts.jsonl"):
            row["completions"][0][name] = value
            file.write(json.dumps(row) + "\n")
    recorded = read_rollouts(tmp_path, run[1])
    assert recorded.num_completions == 48 and recorded.num_tokens.min() >= 0
    assert recorded.num_tokens.max() <= run[1].max_completion_length
    heavy = change_config(run[1], {"rewards": dict.fromkeys(REWARDS, 1e300)})
    change = compare(recorded, *(scored(recorded, each, recorded.rewards) for each in (run[1], heavy)))
    assert (
        all(np.isfinite(value) for _, value in change.curves["zero_std_share"][1])
        and len(figures(change, recorded)) == 6
    )


def test_groups_of_one_have_no_signal(run: tuple[Path, RunConfig], tmp_path: Path) -> None:
    for row in read_lines(run[0] / "rollouts.jsonl"):
        append_line(tmp_path / "rollouts.jsonl", row | {"completions": row["completions"][:1]})
    recorded = read_rollouts(tmp_path, run[1])
    assert not scored(recorded, run[1], recorded.rewards).advantages.any()


def test_reading_ends_where_the_start_of_the_file_said_too_little(
    run: tuple[Path, RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (run[0] / "rollouts.jsonl").read_text(encoding="utf-8").replace('"num_tokens"', '"nothing"')
    (tmp_path / "rollouts.jsonl").write_text(text, encoding="utf-8")
    monkeypatch.setattr(reward_lab, "MAX_COMPLETIONS", 10)
    recorded = read_rollouts(tmp_path, run[1])
    assert (recorded.num_completions, recorded.is_whole) == (20, False) and read_rollouts(*run).is_whole
