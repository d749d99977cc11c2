"""What runs inside a Hugging Face Job: the ordinary trainer, with its folder copied to the bucket and told in the log.

    python -m training.launch.jobs.worker

`LOOKTHINK_JOB` holds what is to be done, as `training.launch.jobs.spec` writes it, and `LOOKTHINK_STATE` names the folder
where the bucket is mounted. The run's folder is on the Job's own disk, which is lost at the end; a run that was begun
before goes on from its copy. SIGTERM, by which a Job is cancelled or ends at its timeout, and the hour before which
the timeout comes, stop the trainer as everywhere: with a checkpoint, which is copied too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from inference.common.errors import UserError
from inference.common.files import write_whole
from training.config.run_config import RunConfig
from training.hub.backup.mirror import Mirroring, run_state
from training.hub.backup.restore import has_copy, restore_run
from training.hub.backup.snapshots import StateTree
from training.hub.publish.queue import PublishQueue
from training.hub.publish.retry import PublishKeeper
from training.launch.jobs.log_stream import MIRRORED, Teller
from training.launch.spawn import spawn
from training.runs.folder import RunFolder, step_of
from training.runs.record import RunRecord
from training.runs.recovery import REQUEST
from training.runs.store import RunStore

ORDER = "LOOKTHINK_JOB"
TELL_SECONDS = 1.0
MIRROR_SECONDS = 60.0
COPY_SECONDS = 120.0
PUBLISH_SECONDS = 300.0
"""After the trainer's end, for what is not published yet."""


@dataclass(frozen=True)
class Order:
    """What a Job is to do."""

    record: dict[str, Any]
    """The run's record as JSON, with its configuration; `start_adapter` and `curriculum` may be below the bucket."""
    seconds: float
    """From now to the Job's timeout."""
    reserve_seconds: float
    """So long before the timeout the trainer is asked to stop."""
    served: str | None = None
    """Below the bucket: the adapter to compare with."""
    mirror_seconds: float = MIRROR_SECONDS

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Order:
        """Raises `UserError` for what is none."""
        try:
            return cls(**json.loads(env[ORDER]))
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(f"{ORDER} holds no order ({error!r}); Jobs are started by the app") from error

    def to_json(self) -> str:
        return json.dumps(vars(self))


def main() -> int:
    """Train; returns the trainer's exit status."""
    began = time.monotonic()
    order = Order.from_env(os.environ)
    state = Path(os.environ["LOOKTHINK_STATE"])
    home = Path(tempfile.mkdtemp(prefix="lookthink-"))
    stop = _Stop(began + order.seconds - order.reserve_seconds)
    record = begin(order, state, home)
    if order.served is not None:
        os.environ |= {"LOOKTHINK_ADAPTER": str(state / order.served)}
    os.environ["LOOKTHINK_BASE"] = record.run_config.base
    teller = Teller(record.folder, record.launch)
    copying = _Copying(record.folder, state, order.mirror_seconds)
    copying.start()
    trainer = spawn(record)
    stop.of = trainer
    while trainer.poll() is None:
        stop.look()
        time.sleep(TELL_SECONDS)
        teller.tell()
    _send_what_is_left(home, record, stop, teller)
    copying.finish()
    teller.tell()
    return trainer.returncode


def _send_what_is_left(home: Path, record: RunRecord, stop: _Stop, teller: Teller) -> None:
    """Publish what is queued while there is time; the app goes on with the rest, which is in the bucket."""
    keeper, queue = PublishKeeper(home / "runs"), PublishQueue(record.folder)
    end = time.monotonic() + PUBLISH_SECONDS
    while queue.waiting() and time.monotonic() < end and not stop.is_asked:
        keeper.look()
        time.sleep(TELL_SECONDS)
        teller.tell()


def begin(order: Order, state: Path, home: Path) -> RunRecord:
    """The run's folder on this disk, as it was copied or new, and its record, ready to be started."""
    run_id = str(order.record["id"])
    folder = home / "runs" / run_id
    folder.parent.mkdir(parents=True)
    _restored(run_id, state, home, int(order.record.get("checkpoint_step") or 0))
    config = RunConfig.model_validate(_with_paths(order.record["config"], state))
    if (folder / "config.json").is_file():
        run = RunFolder(folder)
        write_whole(folder / "config.json", _pinned(config, RunFolder.open(folder)[1]).model_dump_json(indent=2))
    else:
        run = RunFolder.create(folder, config)
    # Promotion is the app's: nothing is served here.
    asked = order.record | {"status": "starting", "promote": False, "config": config.model_dump(mode="json")}
    write_whole(folder / REQUEST, json.dumps(asked, indent=1))
    store = RunStore(home)
    store.adopt_folders()
    return replace(store.get(run_id), folder=run.path)


def _restored(run_id: str, state: Path, home: Path, step: int) -> None:
    """Bring the run's folder here as it was copied. A bucket that lags behind its step is waited for."""
    end = time.monotonic() + COPY_SECONDS
    while True:
        if has_copy(run_id, state):
            newest = RunFolder(restore_run(run_id, state, home)).newest_checkpoint()
            if step <= (step_of(newest) if newest else 0):
                return
        elif not step:
            return
        if time.monotonic() > end:
            raise UserError(
                f"the bucket holds no copy of run {run_id}, which is at step {step}; resume it when it does"
            )
        time.sleep(1.0)


def _pinned(asked: RunConfig, stored: RunConfig) -> RunConfig:
    """The configuration as it stands in the copy, where the commits are pinned, with what may change of it."""
    from training.config.run_config import CHANGEABLE

    return stored.model_copy(update={name: getattr(asked, name) for name in CHANGEABLE if hasattr(asked, name)})


def _with_paths(config: dict[str, Any], state: Path) -> dict[str, Any]:
    """Files that came along in the bucket."""
    moved = {
        name: str(state / config[name].removeprefix("state:"))
        for name in ("start_adapter", "curriculum")
        if isinstance(config.get(name), str) and config[name].startswith("state:")
    }
    return config | moved


class _Copying:
    """Copies the run's folder in the background, and notes which checkpoint a next Job would find."""

    def __init__(self, folder: Path, state: Path, every_seconds: float) -> None:
        self.folder, self.every_seconds = folder, every_seconds
        self._mirroring = Mirroring(folder, state, every_seconds)
        self._copy = StateTree(run_state(state, folder.name))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="copying", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """A last time, when nothing is written any more; tried again where the bucket refuses."""
        self._over.set()
        self._thread.join()
        for wait in (1.0, 5.0, 20.0, 0.0):
            if self._step():
                return
            time.sleep(wait)

    def _go_on(self) -> None:
        while not self._over.wait(self.every_seconds):
            self._step()

    def _step(self) -> bool:
        newest = RunFolder(self.folder).newest_checkpoint()  # of before: what is copied is at least as new
        is_done = self._mirroring.step()
        if is_done:
            manifest = self._copy.newest_path()
            about = {"step": step_of(newest) if newest else 0, "manifest": manifest.name if manifest else None}
            write_whole(self.folder / MIRRORED, json.dumps(about))
        return is_done


class _Stop:
    """Passes SIGTERM on to the trainer, and sends it one before the Job's time is over."""

    def __init__(self, at: float) -> None:
        self.of: subprocess.Popen[bytes] | None = None
        self._at, self._asked, self._sent = at, False, False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    @property
    def is_asked(self) -> bool:
        """True once the Job is to end."""
        return self._asked or time.monotonic() > self._at

    def look(self) -> None:
        """To be called often: a signal may come before there is a trainer."""
        if self.is_asked and not self._sent and self.of is not None:
            self._sent = True
            os.killpg(self.of.pid, signal.SIGTERM)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
