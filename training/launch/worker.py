"""The process of one start of a run: runs the trainer, and records how it ended.

    python -m training.launch.worker HOME ID LAUNCH

The launcher starts it. It claims the run in the records first, so that a start that was given up trains nothing. On a
machine with several cards it starts a process for each (`training.launch.ranks`), else it trains itself. While
it lives it writes `process.json` (its identity and its age); when the trainer ends it writes `exit.json` with the exit
status and the reason, since only a parent process could learn them from the system. A killed process leaves none.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from inference.common.background import PeriodicTask
from inference.common.environment import hide_secrets
from inference.common.errors import UserError
from inference.common.files import Json, write_json
from training.launch.machine_lock import alone
from training.launch.ranks import processes_of, train, train_together
from training.launch.rendezvous import node_here
from training.pipeline.signals import Stop, StopRequested
from training.runs.failures import INTERRUPTED
from training.runs.folder import RunFolder
from training.runs.outcome import EXIT, WRONG_INPUT
from training.runs.processes import Identity, boot_seconds, memory_kills, own_identity
from training.runs.recovery import PROCESS
from training.runs.store import RunStore

BEAT_SECONDS = 2.0
_RESERVED = 8192
"""Bytes of `exit.json`, reserved at the start: a full disk must not hide why the run ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the trainer on the run's folder; returns its exit status, also 0 if this start was given up."""
    home, run_id, launch = sys.argv[1:] if argv is None else argv
    os.environ["LOOKTHINK_HOME"] = home  # for prepared rows and the served adapter
    store = RunStore(Path(home))
    identity = own_identity()
    if not store.claim(run_id, launch, identity):
        print(f"start {launch} of run {run_id} was given up", flush=True)
        return 0
    folder = store.get(run_id).folder
    with _Beat(folder, launch, identity) as beat:
        status, reason = _train(folder)
        print(reason or "done", flush=True)
        beat.end(status, reason)
    return status


def _train(path: Path) -> tuple[int, str]:
    """Runs the trainer, in one process or in several; returns its exit status, and the reason if it is not 0."""
    with Stop() as stop:
        try:
            with alone(path.parents[1], stop, lambda: print("waits for a run that was begun by hand", flush=True)):
                config = RunFolder.open(path)[1]
                num_processes, node = processes_of(config), node_here(config.num_nodes)
                if num_processes * node.count == 1:
                    return train(path, stop)
                return train_together(path, num_processes, stop, node)
        except StopRequested:
            return INTERRUPTED, "stopped while starting"
        except UserError as error:
            return WRONG_INPUT, str(error)


class _Beat:
    """Writes `process.json` periodically, and reserves the space of `exit.json`."""

    def __init__(self, folder: Path, launch: str, identity: Identity) -> None:
        self.folder = folder
        self.claim: Json = {"launch": launch, **asdict(identity), "memory_kills": memory_kills()}
        self.created = identity.created
        self._task = PeriodicTask(self._write, BEAT_SECONDS, "beat")
        self._part = folder / f"{EXIT}.part"

    def __enter__(self) -> _Beat:
        self._write()
        (self.folder / EXIT).unlink(missing_ok=True)
        self._part.write_text(" " * _RESERVED, encoding="ascii")
        self._task.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._task.stop()

    def end(self, status: int, reason: str) -> None:
        """Writes `exit.json` into the reserved space."""
        outcome = self._process() | {"status": status, "reason": hide_secrets(reason)[:2000]}
        with self._part.open("r+", encoding="ascii") as file:
            file.write(json.dumps(outcome))
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        self._part.replace(self.folder / EXIT)

    def _process(self) -> Json:
        return self.claim | {"seconds": round(boot_seconds() - self.created, 1), "time": time.time()}

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # a full disk must not end the run; the next beat may succeed
            write_json(self.folder / PROCESS, self._process(), indent=None)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    sys.exit(main())
