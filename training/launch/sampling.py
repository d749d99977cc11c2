"""Room for a second model beside the app's: asked for before memory is spent.

    check_room(home, config)            # on the page, before a process is started
    with room(home, config): ...        # in the process itself, `python -m training rewards FOLDER --sample 16`

A sample waits for nobody: where a run trains, or the memory does not suffice, it is refused. A run in the background
that is started meanwhile waits for its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inference.common.errors import UserError
from training.config.run_config import RunConfig
from training.launch.machine_lock import by_hand, is_taken
from training.runs.estimate.memory import GB, MARGIN, free_bytes_here, on_gpu_here, sampling_bytes
from training.runs.estimate.shapes import sizes_of


def check_room(home: Path, config: RunConfig) -> None:
    """Raises `UserError` while a run trains, a doctor looks or another sample is made on this machine, and where a
    model of its own does not fit into the memory that is free."""
    if is_taken(home):
        raise UserError(
            "a run, a doctor or another sample is at work on this machine, and a sample loads the model a second time; "
            "wait for its end, or cancel it (Train, Runs)"
        )
    need = sampling_bytes(config, sizes_of(config.base, config.base_revision), on_gpu_here())
    free = free_bytes_here()
    if need > (1 - MARGIN) * free:
        where = "card" if on_gpu_here() else "machine"
        raise UserError(
            f"a sample loads the model a second time and needs about {need / GB:.1f} GB by the sizes; of this {where} "
            f"{free / GB:.1f} GB are free, of which {100 * (1 - MARGIN):.0f} % may be taken. Stop what else uses the "
            "memory, or stop the app and sample in a terminal: python -m training rewards FOLDER --sample PROBLEMS "
            f"--dataset {config.data.dataset}"
        )


@contextmanager
def room(home: Path, config: RunConfig) -> Iterator[None]:
    """Holds the machine for a sample, as a run begun by hand does; raises `UserError` as `check_room`."""
    check_room(home, config)
    with by_hand(home):
        yield
