"""The processes of one run (`accelerate launch`, `torchrun`): the one that keeps the records, and the others.

With a single process, or before they are connected, each function returns the answer for one process.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState

from inference.common.errors import UserError

PREPARING = timedelta(hours=3)
"""Longest wait of the others while the first process prepares the rows; a process that ends is noticed at once."""


def rank() -> int:
    """The number of this process among those of the run; 0 keeps the records."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """The number of processes that share the run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """True in the process that keeps the records: the only one, or the first of several."""
    return rank() == 0


def is_first_here() -> bool:
    """True in the first of this machine's processes."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def connect() -> PartialState:
    """Connect this process to the others; later calls return the same connection."""
    cpu = not torch.cuda.is_available()
    return PartialState(cpu=cpu, timeout=PREPARING) if world_size() > 1 else PartialState(cpu=cpu)


def wait_for_all() -> None:
    """Return once every process has come to this call."""
    if _is_connected():
        connect().wait_for_everyone()


def any_process(*mine: bool) -> list[bool]:
    """For each value, whether it is true on any process. All processes call it together."""
    return [bool(value) for value in _gathered(*map(float, mine)).amax(0)]


def least_of_all(mine: float) -> float:
    """The smallest of every process's values. All processes call it together."""
    return float(_gathered(mine).min())


def check_checkpoint(path: Path, step: int) -> None:
    """Raise `UserError`, in every process, unless all see the checkpoint that the first one resumes from.

    `step` is that of the newest whole checkpoint that this process sees in the run folder `path`, 0 for none.
    """
    steps = _gathered(float(step))[:, 0].tolist()
    if len(set(steps)) > 1:
        raise UserError(
            f"the processes do not see the same checkpoints in {path}: the newest is at step "
            f"{', '.join(f'{s:g} for process {i}' for i, s in enumerate(steps))}; put the run folder on a disk that "
            "every node has"
        )


def _is_connected() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _gathered(*values: float) -> torch.Tensor:
    """The values of each process, in the order of their ranks, (processes, values)."""
    mine = torch.tensor(values)
    if not _is_connected():
        return mine[None]
    mine = mine.to("cuda" if torch.cuda.is_available() else "cpu")
    everyone = [torch.zeros_like(mine) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(everyone, mine)
    return torch.stack(everyone).cpu()
