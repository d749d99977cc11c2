"""Where live figures go: TensorBoard and W&B in the run's own folder, trackio where it keeps all runs.

A run that is resumed stays one run in each.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

PROJECT = "lookthink"
"""What trackio and W&B group runs under, unless WANDB_PROJECT names another."""


def tracker_environment(folder: Path) -> dict[str, str]:
    """The variables that keep the trackers' files in the run folder, and a resumed run the same run.

    >>> tracker_environment(Path("/runs/first"))["TENSORBOARD_LOGGING_DIR"]
    '/runs/first/tensorboard'
    """
    folder = folder.absolute()
    return {
        "TENSORBOARD_LOGGING_DIR": str(folder / "tensorboard"),
        "WANDB_DIR": str(folder),
        "WANDB_PROJECT": os.environ.get("WANDB_PROJECT", PROJECT),
        "WANDB_RUN_ID": run_id(folder),
        "WANDB_RESUME": "allow",
    }


def run_id(folder: Path) -> str:
    """The same at each start of a run, another for each run: its name with a hash of where it is."""
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in folder.name)[:64]
    return f"{name}-{hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:8]}"
