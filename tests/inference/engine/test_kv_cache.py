"""The KV cache: room that grows, rows that move, and columns that are shifted, against plain tensors."""

from __future__ import annotations

import pytest
import torch

from inference.engine.kv_cache import KVCache


def states(num_rows: int, length: int, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Of two layers with two heads of width 3."""
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(num_rows, 2, length, 3, generator=generator) for _ in range(4)]
    return [(made[0], made[1]), (made[2], made[3])]


@pytest.fixture
def cache() -> KVCache:
    """Three rows of five columns each."""
    made = KVCache(num_layers=2)
    made.reserve(states(3, 5), 3, 40)
    made.write(0, states(3, 5), torch.arange(3), 5)
    return made


def test_a_step_writes_one_column_and_sees_all_before_it(cache: KVCache) -> None:
    cache.select(num_rows=2, low=1, column=5)
    token = torch.randn(2, 2, 1, 3)
    for layer, (keys, values) in enumerate(states(3, 5)):
        found_keys, found_values = cache.update(token, 2 * token, layer)
        assert torch.equal(found_keys, torch.cat([keys[:2, :, 1:], token], dim=2))
        assert torch.equal(found_values, torch.cat([values[:2, :, 1:], 2 * token], dim=2))


def test_room_grows_and_keeps_what_there_is(cache: KVCache) -> None:
    rows, columns = cache.num_rows, cache.num_columns
    assert rows >= 3 and columns >= 40
    cache.widen(40)
    assert cache.num_columns >= 50, "more than is needed, so that not everything moves at each step"
    columns = cache.num_columns
    cache.reserve(states(1, 1), 3, 40)
    assert (cache.num_rows, cache.num_columns) == (rows, columns)
    cache.reserve(states(1, 1), rows + 1, 3 * columns)
    assert cache.num_rows > rows and cache.num_columns >= 3 * columns
    cache.select(3, 0, 5)
    token = torch.zeros(3, 2, 1, 3)
    assert torch.equal(cache.update(token, token, 0)[0][:, :, :5], states(3, 5)[0][0])


def test_rows_move_and_columns_are_shifted(cache: KVCache) -> None:
    cache.move([2], [0], low=0, end=5)
    cache.shift(num_rows=2, low=0, end=5, new_low=3)  # to the right, over itself
    cache.shift(num_rows=2, low=3, end=8, new_low=1)
    cache.select(2, 1, 6)
    token = torch.zeros(2, 2, 1, 3)
    found = cache.update(token, token, 1)[1][:, :, :5]
    assert torch.equal(found, states(3, 5)[1][1][[2, 1]])


def test_what_is_cleared_is_zero_whatever_was_there(cache: KVCache) -> None:
    broken = [(keys * torch.nan, values * torch.inf) for keys, values in states(1, 5)]
    cache.write(1, broken, torch.tensor([0]), 5)
    cache.clear(1, 2, low=0, end=5)
    cache.select(3, 0, 5)
    token = torch.ones(3, 2, 1, 3)
    for layer in range(2):
        for found in cache.update(token, token, layer):
            assert not found[1, :, :5].any() and found[[0, 2], :, :5].all()
