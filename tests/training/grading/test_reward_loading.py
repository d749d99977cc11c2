"""Rewards by name, and what is said when a user's own cannot be used."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from inference.common.errors import UserError
from training.grading.reward_loading import REWARDS, load_reward

OWN = """
import asyncio

def short_reward(completions, **columns):
    return [1 if len(c) < 5 else None for c in completions]

def scaled_reward(completions, scale=1.0, **columns):
    return [scale * len(c) for c in completions]

async def slow_reward(completions, **columns):
    await asyncio.sleep(0)
    return [0.5] * len(completions)

class Judge:
    def __call__(self, completions, **columns):
        return [2.0] * len(completions)

judge = Judge()
A_NUMBER = 3

def no_columns(completions): return []
def one_reward(completions, **columns): return [1.0]
def a_number(completions, **columns): return 1.0
def a_text(completions, **columns): return "no"
def words(completions, **columns): return ["good"] * len(completions)
def infinite(completions, **columns): return [float("inf")] * len(completions)
"""


@pytest.fixture(autouse=True)
def _own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_rewards_for_a_test.py").write_text(OWN)
    (tmp_path / "broken_rewards_for_a_test.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("name", REWARDS)
def test_the_projects_own_by_name(name: str) -> None:
    assert load_reward(name) is REWARDS[name]
    assert load_reward(name).__name__ == name


def test_settings_are_fixed_and_the_name_stays() -> None:
    reward = load_reward("length_reward", max_tokens=10)
    assert reward.__name__ == "length_reward"
    assert reward(completions=["<answer>7</answer>"], solution=["7"], completion_ids=[[1] * 10]) == [0.5]
    with pytest.raises(UserError, match="no setting max_words"):
        load_reward("length_reward", max_words=10)


def test_a_users_own() -> None:
    reward = load_reward("own_rewards_for_a_test:short_reward")
    assert reward(completions=["abc", "abcdef"], prompts=["", ""], solution=["", ""]) == [1.0, None]
    assert reward.__name__ == "short_reward"
    assert load_reward("own_rewards_for_a_test:scaled_reward", scale=2.0)(completions=["ab"]) == [4.0]
    assert load_reward("own_rewards_for_a_test:judge")(completions=["ab"]) == [2.0]
    assert load_reward("own_rewards_for_a_test:judge").__name__ == "judge"
    slow = load_reward("own_rewards_for_a_test:slow_reward")
    assert asyncio.iscoroutinefunction(slow)
    assert asyncio.run(slow(completions=["a", "b"])) == [0.5, 0.5]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("accuracy", "there is no reward 'accuracy'; use one of format_reward"),
        ("", "there is no reward ''"),
        ("a b:c", "not of the form module:function"),
        (":short_reward", "not of the form module:function"),
        ("no_such_module_for_a_test:f", "cannot be imported .ModuleNotFoundError"),
        ("broken_rewards_for_a_test:f", "cannot be imported .ZeroDivisionError"),
        ("own_rewards_for_a_test:missing", "has no 'missing'"),
        ("own_rewards_for_a_test:A_NUMBER", "is 'int', not a function"),
        ("own_rewards_for_a_test:Judge", "not a function"),
        ("own_rewards_for_a_test:no_columns", "cannot be called as TRL calls it"),
    ],
)
def test_what_cannot_be_loaded(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_reward(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("one_reward", "returned 1 rewards for 2 completions"),
        ("a_number", "returned 'float'"),
        ("a_text", "returned 'str'"),
        ("words", "returned 'good'"),
        ("infinite", "returned inf"),
    ],
)
def test_what_a_reward_may_not_return(name: str, message: str) -> None:
    reward = load_reward(f"own_rewards_for_a_test:{name}")
    with pytest.raises(UserError, match=message):
        reward(completions=["a", "b"])
