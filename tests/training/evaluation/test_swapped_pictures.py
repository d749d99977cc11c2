"""Swapped pictures: each row gets another one's, of about the same size, the same way each time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.common.errors import UserError
from training.evaluation.swapped_pictures import sizes_and_keys, swap

SIZES = [(28, 28), (29, 28), (56, 56), (448, 448), (1280, 720), (720, 1280), (3, 3)]
ROWS = st.lists(st.tuples(st.sampled_from(SIZES), st.integers(0, 12)), min_size=2, max_size=40)


@given(rows=ROWS, seed=st.integers(0, 9))
def test_everyone_gets_another_picture_and_none_is_lost(rows: list[tuple[tuple[int, int], int]], seed: int) -> None:
    sizes, keys = [size for size, _ in rows], [f"{size}-{number}" for size, number in rows]
    most = Counter(keys).most_common(1)[0][1]
    if 2 * most > len(rows):
        with pytest.raises(UserError, match=f"{most} have the same picture"):
            swap(sizes, keys, seed)
        return
    partners = swap(sizes, keys, seed)
    assert sorted(partners) == list(range(len(rows)))
    assert all(keys[row] != keys[partner] for row, partner in enumerate(partners))
    assert partners == swap(sizes, keys, seed)


def test_pictures_of_one_size_trade_among_themselves() -> None:
    sizes = [(28, 28), (448, 448)] * 10 + [(29, 28), (28, 29)]
    partners = swap(sizes, [str(i) for i in range(22)], seed=1)
    assert {sizes[partners[i]] for i in range(20) if sizes[i] == (448, 448)} == {(448, 448)}
    assert {sizes[partners[i]] for i in (20, 21)} == {(29, 28), (28, 29)}, "two of about one size trade with each other"
    assert partners != swap(sizes, [str(i) for i in range(22)], seed=2)


def test_a_picture_without_its_like_joins_the_next_larger() -> None:
    assert sorted(swap([(3, 3), (448, 448), (448, 448)], ["a", "b", "c"], seed=0)) == [0, 1, 2]


def test_sizes_and_keys_of_rows(problems: Any) -> None:
    sizes, keys = sizes_and_keys(problems.select([0, 1, 0]))
    assert sizes == [(448, 448)] * 3
    assert keys[0] == keys[2] != keys[1]
