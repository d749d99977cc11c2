"""Starts the process that sends what a run has queued for the Hub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from inference.common.environment import publisher_environment
from training.hub.publish.queue import QUEUE

_ROOT = Path(__file__).resolve().parents[3]


def start_publisher(folder: Path, *options: str, stdin: int) -> subprocess.Popen[bytes]:
    """For the queue in a run's folder, with options of `training.hub.publish.publisher`. Raises `OSError`.

    It has a session of its own, and writes what it says to `output.log` beside the queue.
    """
    with (folder / QUEUE / "output.log").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "training.hub.publish.publisher", str(folder), *options],
            cwd=_ROOT,
            env=publisher_environment(os.environ),
            stdin=stdin,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
