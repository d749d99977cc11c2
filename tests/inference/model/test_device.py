"""Tensors on their way between host and device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from inference.model.device import SHARED_FROM, HostCopy, send, threads_for

DEVICES = [
    torch.device("cpu"),
    pytest.param(
        torch.device("cuda"), marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
    ),
]


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_what_was_sent_comes_back(device: torch.device) -> None:
    sent = send(torch.arange(5), device)
    assert sent.device.type == device.type
    arrivals = [HostCopy(sent + i) for i in range(3)]  # none of which anything refers to any more
    assert [arrival.read() for arrival in arrivals] == [[i, i + 1, i + 2, i + 3, i + 4] for i in range(3)]
    assert send(torch.tensor([0.5, 1.0], dtype=torch.float64), device).dtype == torch.float64
    assert HostCopy(torch.empty(0, dtype=torch.long, device=device)).read() == []


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
