"""The reward functions in each form that TRL hands completions over in, and loaded by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.common.errors import UserError
from inference.prompt.format import is_well_formed
from training.grading.reward_loading import load_reward
from training.grading.rewards import (
    REWARDS,
    accuracy_reward,
    completion_text,
    format_fault,
    format_reward,
    length_reward,
    repetition_reward,
    soft_format_reward,
)

GOOD = "<think>3 + 4 = 7.</think>\n<answer>7</answer>"
SOLUTION = "<think>There are 7.</think>\n\n<answer>7</answer>"


def plain(text: str) -> Any:
    return text


def message(text: str) -> Any:
    return [{"role": "assistant", "content": text}]


def parts(text: str) -> Any:
    return [{"role": "assistant", "content": [{"type": "text", "text": text}]}]


@pytest.mark.parametrize("form", [plain, message, parts])
@pytest.mark.parametrize(
    ("text", "formed", "accurate"),
    [
        (GOOD, 1.0, 1.0),
        (SOLUTION, 1.0, 1.0),
        (GOOD.replace("<answer>7", "<answer>8"), 1.0, 0.0),
        ("<answer>7</answer>", 0.0, 1.0),
        ("7", 0.0, 0.0),
        (GOOD + "!", 0.0, 1.0),
        ("", 0.0, 0.0),
    ],
)
def test_rewards(form: Callable[[str], Any], text: str, formed: float, accurate: float) -> None:
    completions = [form(text), form("no")]
    assert format_reward(completions=completions, prompts=["", ""]) == [formed, 0.0]
    columns: dict[str, Any] = {"solution": [SOLUTION] * 2, "kind": ["bars"] * 2, "trainer_state": None}
    assert accuracy_reward(completions=completions, **columns) == [accurate, 0.0]


def test_each_reward_says_why() -> None:
    columns: dict[str, list[Any]] = {}
    metrics: dict[str, float] = {}
    completions = [GOOD, "<answer>8 cm</answer>", "7"]
    format_reward(completions, log_extra=columns.__setitem__)
    accuracy_reward(completions, [SOLUTION] * 3, log_extra=columns.__setitem__, log_metric=metrics.__setitem__)
    assert columns == {
        "format_reason": ["well formed", "no <think>", "no <think>"],
        "gold": ["7", "7", "7"],
        "answer": ["7", "8 cm", ""],
        "accuracy_reason": ["equal numbers", "different numbers", "no answer in tags"],
    }
    assert metrics == {
        "accuracy/no_answer": pytest.approx(1 / 3),
        "accuracy/same_text": pytest.approx(1 / 3),
        "accuracy/golds_per_answer": 1.0,
    }


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GOOD, ""),
        (f"  {GOOD}\n", ""),
        ("", "no <think>"),
        ("<think>a", "no </think>"),
        ("<think>a</think>", "no <answer>"),
        ("<think>a</think><answer>7", "no </answer>"),
        (f"{GOOD} <answer>7</answer>", "more than one <answer>"),
        ("<think>" * 20_000, "more than one <think>"),
        ("<answer>7</answer><think>a</think>", "the tags are out of order"),
        (f"So {GOOD}", "text before the thought"),
        ("<think>a</think> so <answer>7</answer>", "text between thought and answer"),
        (f"{GOOD}!", "text after the answer"),
        ("<think> </think><answer>7</answer>", "an empty thought or answer"),
        ("<think>a</think><answer></answer>", "an empty thought or answer"),
    ],
)
def test_format_faults(text: str, fault: str) -> None:
    assert format_fault(text) == fault
    assert is_well_formed(text) is not bool(fault)


def test_names_are_metric_keys() -> None:
    assert (format_reward.__name__, accuracy_reward.__name__) == ("format_reward", "accuracy_reward")


def test_a_completion_without_content_is_empty() -> None:
    assert completion_text([]) == completion_text([{"role": "assistant", "content": None}]) == ""


def test_a_missing_solution_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        accuracy_reward([GOOD, GOOD], [SOLUTION])


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        (GOOD, 1.0),
        ("<think>a</think> 7", 0.5),
        ("<answer>7</answer>", 0.5),
        ("<think>a <answer>7</answer>", 0.75),
        ("</think><think>a<answer>7</answer>", 0.75),
        ("<think><think>a</think><answer>7</answer>", 0.75),
        ("7", 0.0),
        ("", 0.0),
        ("<think>" * 10_000, 0.0),
    ],
)
def test_soft_format(text: str, reward: float) -> None:
    assert soft_format_reward([text, [{"role": "assistant", "content": text}]]) == [reward, reward]


@pytest.mark.parametrize(
    ("completion", "num_tokens", "reward"),
    [
        (GOOD, 0, 1.0),
        (GOOD, 50, 0.75),
        (GOOD, 100, 0.5),
        (GOOD, 300, 0.5),
        ("8", 0, -1.0),
        ("8", 50, -0.75),
        ("8", 100, -0.5),
        ("8", 300, -0.5),
    ],
)
def test_length(completion: str, num_tokens: int, reward: float) -> None:
    [got] = length_reward([completion], ["7"], completion_ids=[[1] * num_tokens], max_tokens=100)
    assert got == pytest.approx(reward)


def test_length_wants_a_limit_and_a_length_for_each() -> None:
    with pytest.raises(ValueError, match="max_tokens is 0"):
        length_reward([GOOD], ["7"], completion_ids=[[1]], max_tokens=0)
    with pytest.raises(ValueError, match="zip"):
        length_reward([GOOD], ["7"], completion_ids=[])


@pytest.mark.parametrize(
    ("text", "reward"),
    [("a b c d e", 0.0), ("a b", 0.0), ("", 0.0), ("a b a b", -1 / 3), ("a a a a a", -0.75), ("A a A a a", -0.75)],
)
def test_repetition(text: str, reward: float) -> None:
    assert repetition_reward([text], ngram_words=2) == [pytest.approx(reward)]
    assert repetition_reward([text], ngram_words=2, max_penalty=0.5) == [pytest.approx(reward / 2)]


@given(st.text(max_size=200))
def test_bounds(text: str) -> None:
    [soft], [repeated] = soft_format_reward([text]), repetition_reward([text])
    assert soft is not None and 0 <= soft <= 1
    assert repeated is not None and -1 < repeated <= 0


def test_repetition_wants_sensible_settings() -> None:
    with pytest.raises(ValueError, match="ngram_words is 0"):
        repetition_reward(["a"], ngram_words=0)


def test_each_shaping_reward_says_why() -> None:
    columns: dict[str, list[Any]] = {}
    soft_format_reward([GOOD], log_extra=columns.__setitem__)
    length_reward([GOOD], ["7"], completion_ids=[[1, 2]], max_tokens=10, log_extra=columns.__setitem__)
    repetition_reward(["a a a"], ngram_words=1, log_extra=columns.__setitem__)
    assert columns == {
        "soft_format_reason": ["4 of 4 tags in place"],
        "length_reason": ["right, 2 of 10 tokens"],
        "repetition_reason": ["67% of 1-word runs repeat"],
    }


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
def fails(completions, **columns): return [1 / 0 for _ in completions]
def wants_a_column(completions, difficulty, **columns): return [float(d) for d in difficulty]

import numpy, torch
def array(completions, **columns): return numpy.arange(len(completions))
def tensor(completions, **columns): return torch.arange(len(completions)) / 2
def numbers(completions, **columns): return [numpy.float32(0.5), torch.tensor(2.0)]
def truths(completions, **columns): return [numpy.bool_(True), numpy.int64(3)]
def unclear(completions, **columns): return numpy.array([1.0, numpy.nan])
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
    ("name", "rewards"), [("array", [0, 1]), ("tensor", [0, 0.5]), ("numbers", [0.5, 2]), ("truths", [1, 3])]
)
def test_numbers_of_numpy_and_torch_are_taken(name: str, rewards: list[float]) -> None:
    found = load_reward(f"own_rewards_for_a_test:{name}")(completions=["a", "b"])
    assert found == rewards and all(type(reward) is float for reward in found)


def test_a_reward_that_raises_names_itself_and_the_line() -> None:
    line = OWN.splitlines().index(next(line for line in OWN.splitlines() if "def fails" in line)) + 1
    said = (
        f"own_rewards_for_a_test:fails' raised ZeroDivisionError .* in own_rewards_for_a_test.py, line {line}; correct"
    )
    with pytest.raises(UserError, match=said):
        load_reward("own_rewards_for_a_test:fails")(completions=["a"])
    with pytest.raises(UserError, match="wants_a_column' raised TypeError .*'difficulty'"):
        load_reward("own_rewards_for_a_test:wants_a_column")(completions=["a"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unclear", "returned nan"),
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


def test_the_reward_knows_the_problem_and_the_tolerance() -> None:
    problem = ["How long is it? A. 10 cm B. 12 cm"] * 2
    completions = ["<answer>12 cm</answer>", "<answer>A</answer>"]
    assert accuracy_reward(completions, ["B", "B"], problem=problem) == [1.0, 0.0]
    assert accuracy_reward(["<answer>10.4</answer>"], ["10"], tolerance=0.05) == [1.0]
    assert load_reward("accuracy_reward", tolerance=0.05)(["<answer>10.4</answer>"], ["10"]) == [1.0]


def test_what_cannot_be_graded_gets_no_reward() -> None:
    assert accuracy_reward([GOOD, GOOD, GOOD], [None, ["7", "8"], 7]) == [None, None, 1.0]
    ids = [[1]] * 2
    assert length_reward([GOOD, "8"], [None, "7"], completion_ids=ids, max_tokens=1) == [None, pytest.approx(-0.5)]


def test_one_answer_under_many_golds_is_counted() -> None:
    metrics: dict[str, float] = {}
    accuracy_reward([GOOD] * 3, ["7", "7 cm", "7.0"], log_metric=metrics.__setitem__)
    assert metrics["accuracy/golds_per_answer"] == 3
