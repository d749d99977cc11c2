"""The rewards that shape: their formulas, their bounds, and the reasons they log."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.grading.rewards import length_reward, repetition_reward, soft_format_reward

GOOD = "<think>3 + 4 = 7.</think>\n<answer>7</answer>"


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


def test_each_says_why() -> None:
    columns: dict[str, list[Any]] = {}
    soft_format_reward([GOOD], log_extra=columns.__setitem__)
    length_reward([GOOD], ["7"], completion_ids=[[1, 2]], max_tokens=10, log_extra=columns.__setitem__)
    repetition_reward(["a a a"], ngram_words=1, log_extra=columns.__setitem__)
    assert columns == {
        "soft_format_reason": ["4 of 4 tags in place"],
        "length_reason": ["right, 2 of 10 tokens"],
        "repetition_reason": ["67% of 1-word runs repeat"],
    }
