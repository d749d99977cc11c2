"""One start of a run, in a process of its own: the ordinary trainer, and a word on how it ended.

    python -m training.attempt HOME ID LAUNCH

The launcher starts it. It claims the run in the records first, so that a start that was given up trains nothing. While
it lives it writes `process.json` (who it is, for how long); when the trainer ends it writes `exit.json`: the exit
status and the reason in words, for whoever looks, as only a parent could learn it from the system. A process that is
killed leaves none.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from inference.errors import UserError
from training.failures import INTERRUPTED, explain_failure
from training.processes import Identity, boot_seconds, own_identity
from training.run_ends import EXIT
from training.run_folder import RunFolder
from training.run_rebuild import PROCESS
from training.runs import RunStore

BEAT_SECONDS = 2.0
_RESERVED = 8192
"""Bytes of `exit.json`, taken at the start: a disk that is full at the end must not hide why it ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trainer on the run's folder; returns its exit status, 0 too where this start was given up."""
    home, run_id, launch = sys.argv[1:] if argv is None else argv
    signal.signal(signal.SIGTERM, _stop)
    store = RunStore(Path(home))
    identity = own_identity()
    if not store.claim(run_id, launch, identity):
        print(f"start {launch} of run {run_id} was given up", flush=True)
        return 0
    folder = store.get(run_id).folder
    with _Beat(folder, launch, identity) as beat:
        status, reason = _train(folder)
        beat.end(status, reason)
    return status


def _stop(number: int, frame: FrameType | None) -> None:
    """Outside of the training loop, which has its own way to stop, a run stops at once."""
    raise KeyboardInterrupt


def _train(folder: Path) -> tuple[int, str]:
    """The trainer's exit status, and why it is not 0."""
    try:
        from training import train  # slow to load; what is wrong with it is a reason too

        parser = argparse.ArgumentParser()
        train.add_arguments(parser)
        status = train.main(parser.parse_args(["--resume", str(folder)]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2, str(error)
    except KeyboardInterrupt:
        return INTERRUPTED, "stopped at once, without a checkpoint of the last steps"
    except Exception as error:  # whatever it is, the records are to say it
        traceback.print_exc()
        explained = explain_failure(error, RunFolder.open(folder)[1], folder)
        if explained is not None:
            return explained.status, str(explained)
        return 1, f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0][:500]}"
    return status, "" if status == 0 else str(RunFolder(folder).status().get("reason", ""))


class _Beat:
    """A thread that writes `process.json`, and the room for `exit.json`."""

    def __init__(self, folder: Path, launch: str, identity: Identity) -> None:
        self.folder = folder
        self.word: dict[str, Any] = {"launch": launch, **asdict(identity)}
        self.created = identity.created
        self._over = threading.Event()
        self._part = folder / f"{EXIT}.part"

    def __enter__(self) -> _Beat:
        self._write()
        (self.folder / EXIT).unlink(missing_ok=True)
        self._part.write_text(" " * _RESERVED, encoding="ascii")
        threading.Thread(target=self._go_on, name="beat", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def end(self, status: int, reason: str) -> None:
        """Say how the trainer ended, in the room that was kept for it."""
        said = self._word() | {"status": status, "reason": reason[:2000]}
        with self._part.open("r+", encoding="ascii") as file:
            file.write(json.dumps(said))
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        self._part.replace(self.folder / EXIT)

    def _word(self) -> dict[str, Any]:
        return self.word | {"seconds": round(boot_seconds() - self.created, 1), "time": time.time()}

    def _go_on(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            self._write()

    def _write(self) -> None:
        path = self.folder / PROCESS
        part = path.with_name(PROCESS + ".part")
        with contextlib.suppress(OSError):  # a full disk must not end the run; the next beat may succeed
            part.write_text(json.dumps(self._word()), encoding="utf-8")
            part.replace(path)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    sys.exit(main())
