"""Sampling: each row by its own seed, never a token that was ruled out."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TopPLogitsWarper

from inference.engine.sampler import keep_nucleus, sample, sequence_noise

SEEDS = st.integers(0, 2**63 - 1)


@given(SEEDS, st.integers(1, 300), st.integers(0, 300))
def test_noise_of_a_longer_row_begins_with_that_of_a_shorter(seed: int, length: int, more: int) -> None:
    assert torch.equal(sequence_noise(seed, length + more)[:length], sequence_noise(seed, length))


@given(SEEDS)
def test_noise_lies_in_the_unit_interval_and_differs_by_seed(seed: int) -> None:
    noise = sequence_noise(seed, 64)
    assert 0 <= noise.min() and noise.max() < 1
    assert not torch.equal(noise, sequence_noise(seed ^ 1, 64))


@given(
    st.lists(st.one_of(st.just(-torch.inf), st.floats(-30, 30, width=32)), min_size=1, max_size=40),
    st.floats(0, 1, exclude_max=True),
    st.floats(0.05, 20),
)
def test_a_token_that_was_ruled_out_is_never_drawn(logits: list[float], noise: float, temperature: float) -> None:
    logits = [*logits, 0.0]  # at least one is possible
    drawn = sample(torch.tensor([logits]), torch.tensor([temperature]), torch.tensor([noise], dtype=torch.float64))
    assert logits[int(drawn)] > -torch.inf


def test_tokens_are_drawn_as_often_as_their_probability_says() -> None:
    logits, temperature, num = torch.tensor([1.0, 3.0, -torch.inf, 2.0]), 1.7, 10_000
    noise = (torch.arange(num, dtype=torch.float64) + 0.5) / num  # evenly spread: the shares come out exactly
    drawn = sample(logits.expand(num, -1), torch.full((num,), temperature), noise)
    shares = torch.bincount(drawn, minlength=4) / num
    torch.testing.assert_close(shares, torch.softmax(logits / temperature, 0), atol=2e-4, rtol=0)


def test_each_row_has_its_own_temperature_and_noise() -> None:
    logits = torch.tensor([[0.0, 2.0]]).expand(3, -1)
    cold_hot_hot = torch.tensor([0.01, 100.0, 100.0])
    assert sample(logits, cold_hot_hot, torch.tensor([0.1, 0.1, 0.9], dtype=torch.float64)).tolist() == [1, 0, 1]


@given(
    st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=30), st.floats(1 / 128, 1, width=32), st.floats(0.2, 3)
)
def test_the_nucleus_is_that_of_transformers(logits: list[float], top_p: float, temperature: float) -> None:
    scores = torch.tensor([logits]) / temperature
    shares = torch.softmax(scores, -1)
    theirs = shares[TopPLogitsWarper(float(torch.tensor(top_p)))(None, scores) > -torch.inf]
    ours = keep_nucleus(shares, torch.tensor([top_p]))
    # Of tokens with one share either may stay: their logits differ by less than a share can tell.
    assert torch.equal(ours[ours > 0].sort()[0], theirs[theirs > 0].sort()[0])


def test_each_row_has_its_own_nucleus() -> None:
    num = 3000
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2])).expand(2 * num, -1)
    noise = ((torch.arange(num, dtype=torch.float64) + 0.5) / num).repeat(2)
    top_p = torch.tensor([0.7] * num + [1.0] * num)
    drawn = sample(logits, torch.ones(2 * num), noise, top_p)
    shares = [torch.bincount(part, minlength=3) / num for part in drawn.split(num)]
    torch.testing.assert_close(shares[0], torch.tensor([0.625, 0.375, 0.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(shares[1], torch.tensor([0.5, 0.3, 0.2]), atol=1e-3, rtol=0)


def test_logits_that_are_no_numbers_give_a_token_that_there_is() -> None:
    """A token past the last one would end the whole batch, and on a GPU the process."""
    logits = torch.tensor([[torch.nan, torch.nan], [torch.inf, 0.0], [0.0, 9.0]])
    drawn = sample(logits, torch.ones(3), torch.tensor([0.0, 0.5, 0.9], dtype=torch.float64))
    assert all(0 <= token < 2 for token in drawn.tolist()) and drawn[2] == 1
