"""The program inside a Hugging Face Job: the ordinary trainer, with its folder copied to the bucket.

    python -m training.launch.jobs.worker

`LOOKTHINK_JOB` holds the order, as `training.launch.jobs.spec` writes it, and `LOOKTHINK_STATE` names the folder where
the bucket is mounted. The run's folder is on the Job's own disk, which is lost at the end; a run that was begun before
goes on from its copy. SIGTERM, by which a Job is cancelled or ends at its timeout, stops the trainer as everywhere,
with a checkpoint, which is copied too; the worker sends it some time before the timeout. The Job's log is what the
trainer prints.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from inference.common.errors import UserError
from inference.common.files import Json, write_json, write_whole
from training.config.run_config import RunConfig
from training.doctor.background import look_before
from training.hub.backup.mirror import RunBackup
from training.hub.backup.restore import has_copy, restore_run
from training.hub.publish.queue import PublishQueue
from training.hub.publish.retry import PublishRetry
from training.launch.jobs.log import BEGINS, NOT_COPIED, mark_line
from training.launch.ranks import processes_of, train_together
from training.launch.rendezvous import HERE, Node
from training.launch.spawn import environment, spawn
from training.pipeline.signals import Stop, StopRequested
from training.runs.failures import INTERRUPTED
from training.runs.folder import RunFolder, step_of
from training.runs.outcome import OUTPUT
from training.runs.record import RunRecord
from training.runs.recovery import REQUEST
from training.runs.store import RunStore

ORDER = "LOOKTHINK_JOB"
PRINT_SECONDS = 1.0
MIRROR_SECONDS = 25.0
"""Between two copies of the folder: with `Pace.records` figures at home are at most a minute old."""
COPY_SECONDS = 120.0
PUBLISH_SECONDS = 300.0
"""After the trainer's end, for what is not published yet."""
_READ_BYTES = 1 << 20
_MAX_LINE_CHARS = 1_300
"""The logs of containers keep lines of 16 KB whole."""


@dataclass(frozen=True)
class Order:
    """The task of a Job."""

    record: Json
    """The run's record as JSON, with its configuration; `start_adapter` and `curriculum` may be below the bucket."""
    seconds: float
    """From now to the Job's timeout."""
    reserve_seconds: float
    """Seconds before the timeout at which the trainer is asked to stop."""
    served: str | None = None
    """Below the bucket: the adapter to compare with."""
    mirror_seconds: float = MIRROR_SECONDS
    node: int = 0
    """The number of this Job among those of the start. The first one keeps the records."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Order:
        """Raises `UserError` for an environment without a valid order."""
        try:
            return cls(**json.loads(env[ORDER]))
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(f"{ORDER} holds no order ({error!r}); Jobs are started by the app") from error

    def to_json(self) -> str:
        return json.dumps(vars(self))


def main() -> int:
    """Trains; returns the trainer's exit status."""
    began = time.monotonic()
    order = Order.from_env(os.environ)
    state = Path(os.environ["LOOKTHINK_STATE"])
    home = Path(tempfile.mkdtemp(prefix="lookthink-"))
    stop = _Stop(began + order.seconds - order.reserve_seconds)
    record = begin(order, state, home)
    if order.served is not None:
        os.environ |= {"LOOKTHINK_ADAPTER": str(state / order.served)}
    os.environ["LOOKTHINK_BASE"] = record.run_config.base
    if (count := record.run_config.num_nodes) > 1:
        port = 20_000 + int(record.launch[:3], 16)
        node = Node(order.node, count, f"{os.environ['HF_NETWORK_GROUP_PREFIX']}1:{port}")
        if order.node:
            return help_train(record, node)
        os.environ[HERE] = node.to_json()
    output = _Output(record.folder)
    print(mark_line(record.launch, BEGINS), flush=True)
    backup = RunBackup(
        record.folder,
        state,
        order.mirror_seconds,
        on_step=lambda step: print(f"the checkpoint of step {step} is in the bucket", flush=True),
    )
    backup.start()
    look_before(record.folder / "config.json", environment(record, os.environ), lambda: stop.is_asked)
    trainer = spawn(record)
    stop.of = trainer
    while trainer.poll() is None:
        stop.look()
        time.sleep(PRINT_SECONDS)
        output.print_new()
    _publish_the_rest(home, record, stop)
    output.print_new()
    if not backup.finish():
        print(f"{backup.trouble}; it cannot go on from here", flush=True)
        print(mark_line(record.launch, NOT_COPIED), flush=True)
    return trainer.returncode


def help_train(record: RunRecord, node: Node) -> int:
    """Trains with the first Job of the start, which keeps the records and the checkpoints; returns the exit status."""
    with Stop() as stop:
        try:
            status, reason = train_together(record.folder, processes_of(record.run_config), stop, node)
        except StopRequested:
            status, reason = INTERRUPTED, "stopped while starting"
    print(reason or "done", flush=True)
    return status


def _publish_the_rest(home: Path, record: RunRecord, stop: _Stop) -> None:
    """Publishes what is queued while there is time; the app goes on with the rest, which is in the bucket."""
    retry, queue = PublishRetry(home / "runs"), PublishQueue(record.folder)
    end = time.monotonic() + PUBLISH_SECONDS
    while queue.waiting() and time.monotonic() < end and not stop.is_asked:
        retry.look()
        time.sleep(PRINT_SECONDS)


def begin(order: Order, state: Path, home: Path) -> RunRecord:
    """Makes the run's folder on this disk, from its copy or new; returns its record, ready to be started."""
    run_id = str(order.record["id"])
    folder = home / "runs" / run_id
    folder.parent.mkdir(parents=True)
    _restore(run_id, state, home, int(order.record.get("checkpoint_step") or 0))
    config = RunConfig.model_validate(_with_paths(order.record["config"], state))
    if (folder / "config.json").is_file():
        run = RunFolder(folder)
        write_whole(folder / "config.json", _pinned(config, RunFolder.open(folder)[1]).model_dump_json(indent=2))
    else:
        run = RunFolder.create(folder, config)
    # Promotion is the app's: nothing is served here.
    request = order.record | {"status": "starting", "promote": False, "config": config.model_dump(mode="json")}
    write_json(folder / REQUEST, request)
    store = RunStore(home)
    store.adopt_folders()
    return replace(store.get(run_id), folder=run.path)


def _restore(run_id: str, state: Path, home: Path, step: int) -> None:
    """Brings the run's folder here from its copy; waits for a bucket that lags behind the run's step."""
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
    """The configuration of the copy, where the commits are pinned, with the settings that may change of a run."""
    from training.config.run_config import CHANGEABLE

    return stored.model_copy(update={name: getattr(asked, name) for name in CHANGEABLE if hasattr(asked, name)})


def _with_paths(config: Json, state: Path) -> Json:
    """The configuration with the paths of the files that came along in the bucket."""
    moved = {
        name: str(state / config[name].removeprefix("state:"))
        for name in ("start_adapter", "curriculum")
        if isinstance(config.get(name), str) and config[name].startswith("state:")
    }
    return config | moved


class _Output:
    """Prints what the trainer prints into `output.log`, by whole lines, into the log of the Job."""

    def __init__(self, folder: Path) -> None:
        self._path, self._num_bytes = folder / OUTPUT, 0
        with contextlib.suppress(OSError):
            self._num_bytes = self._path.stat().st_size  # of earlier starts

    def print_new(self) -> None:
        """Prints the new lines; of a progress bar only its last state."""
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            file.seek(self._num_bytes)
            text, end, _ = file.read(_READ_BYTES).rpartition(b"\n")
            self._num_bytes += len(text) + len(end)
            for line in text.decode(errors="replace").split("\n") if end else ():
                print(line.rstrip("\r").rpartition("\r")[2][:_MAX_LINE_CHARS])
            sys.stdout.flush()


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
        """Passes it on; called often, for a signal may come before there is a trainer."""
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
