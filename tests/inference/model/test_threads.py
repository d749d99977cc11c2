"""A small step is one thread's, a large one everybody's, and afterwards all is as it was."""

from collections.abc import Iterator

import pytest
import torch

from inference.model.threads import SHARED_FROM, threads_for


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("rows", "within"), [(1, 1), (9, 1), (10, 4), (64, 4)])
def test_a_small_step_has_one_thread(rows: int, within: int, four_threads: None) -> None:
    with threads_for(SHARED_FROM // 10, rows):
        assert torch.get_num_threads() == within
    assert torch.get_num_threads() == 4


def test_a_step_that_fails_leaves_the_threads_as_they_were(four_threads: None) -> None:
    with pytest.raises(MemoryError), threads_for(1, 1):
        raise MemoryError
    assert torch.get_num_threads() == 4
