"""The process of one start of a run: runs the trainer, and records how it ended.

    python -m training.launch.worker HOME ID LAUNCH

The launcher starts it. It claims the run in the records first, so that a start that was given up trains nothing. While
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
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from inference.common.background import PeriodicTask
from inference.common.environment import hide_secrets
from inference.common.errors import UserError
from inference.common.files import Json, write_json
from training.launch.machine_lock import alone
from training.pipeline.signals import Stop, StopRequested
from training.runs.failures import INTERRUPTED, RunFailed
from training.runs.folder import RunFolder
from training.runs.outcome import EXIT, WRONG_INPUT
from training.runs.processes import Identity, boot_seconds, own_identity
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
    """Runs the trainer; returns its exit status, and the reason if it is not 0."""
    with Stop() as stop:
        try:
            from training.pipeline.run import is_finished, run  # slow to import; an error of it is a reason too

            with alone(path.parents[1], stop, lambda: print("waits for a run that was begun by hand", flush=True)):
                folder, config = RunFolder.open(path)
                if not is_finished(folder, config):  # else it was killed before `exit.json` was written
                    run(config, path, resume=True, stop=stop, began=own_identity())
            return 0, ""
        except StopRequested:
            return INTERRUPTED, "stopped while starting"
        except RunFailed as failure:
            return failure.status, str(failure)
        except UserError as error:
            return WRONG_INPUT, str(error)
        except Exception as error:  # a bug or a fault: the launcher tries again, and the log has the traceback
            traceback.print_exc()
            return 1, f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0][:500]}"


class _Beat:
    """Writes `process.json` periodically, and reserves the space of `exit.json`."""

    def __init__(self, folder: Path, launch: str, identity: Identity) -> None:
        self.folder = folder
        self.claim: Json = {"launch": launch, **asdict(identity)}
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
