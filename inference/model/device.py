"""Work on a device: small tensors between host and device without waiting, and the threads of a step on a CPU.

A GPU works off its queue in order. To read a tensor the ordinary way, the host waits until the GPU has come so far, and
queues nothing meanwhile; the same holds for what it sends from ordinary memory. From and to pinned memory the GPU
copies by itself, in its turn.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

SHARED_FROM = 16_000_000
"""Weights times rows from which a step is shared by all threads. Below it one thread was faster, by half where several
threads of the process compute (2 cores, 1.9 M weights, 1 to 64 rows). Threads change a result only by its rounding."""


def hardware_name() -> str:
    """The GPUs (`2 × NVIDIA A100-SXM4-80GB`), else the processor and its cores (`AMD EPYC 7B13, 2 cores`).

    Measured times are stored with it, since they hold for this hardware only.
    """
    if torch.cuda.is_available():
        num = torch.cuda.device_count()
        name = torch.cuda.get_device_name(0)
        return f"{num} × {name}" if num > 1 else name
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(models, platform.machine())}, {os.cpu_count()} cores"


class HostCopy:
    """A copy of a tensor on its way to the host; the device goes on meanwhile."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._host, self._event = tensor, None
        if tensor.is_cuda:
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.current_stream(tensor.device).record_event()

    def read(self) -> list[int]:
        """The numbers, once they have arrived. Raises errors of the device up to then."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.tolist()


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the host on the device, for what is queued there next."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)  # torch keeps the pinned copy until it was sent


@contextmanager
def threads_for(num_weights: int, num_rows: int) -> Iterator[None]:
    """Use one thread within the block if a step of `num_rows` tokens through `num_weights` is small."""
    before = torch.get_num_threads()
    if before == 1 or num_weights * num_rows >= SHARED_FROM:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
