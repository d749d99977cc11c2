"""Small tensors between the host and the device, such that neither waits for the other.

The device works off what it was told in order. To read a tensor of its own the ordinary way, the host waits until it
has come so far, and has nothing further to tell it meanwhile; the same goes for what the host sends from ordinary
memory. From and to pinned memory the device copies by itself, in its turn.
"""

from __future__ import annotations

import torch


class Arrival:
    """A tensor on its way to the host, from the moment it was told to go: the device may go on."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._host, self._event = tensor, None
        if tensor.is_cuda:
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.current_stream(tensor.device).record_event()

    def read(self) -> list[int]:
        """Its numbers, once they are there. Raises what broke on the device until then."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.tolist()


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the host, on the device for whatever that is told next."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)  # torch keeps the pinned copy until it was sent
