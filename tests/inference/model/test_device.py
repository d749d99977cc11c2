"""Tensors on their way between host and device."""

from __future__ import annotations

import pytest
import torch

from inference.model.device import Arrival, send

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
    arrivals = [Arrival(sent + i) for i in range(3)]  # none of which anything refers to any more
    assert [arrival.read() for arrival in arrivals] == [[i, i + 1, i + 2, i + 3, i + 4] for i in range(3)]
    assert send(torch.tensor([0.5, 1.0], dtype=torch.float64), device).dtype == torch.float64
    assert Arrival(torch.empty(0, dtype=torch.long, device=device)).read() == []
