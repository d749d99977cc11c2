"""A run's folder of plain files, written so that a kill at any moment leaves a folder that resumes.

    config.json          the configuration, with the commits of inputs from the Hub
    changes.jsonl        changes of the configuration at a resume, with their times
    sources.json         digests of the inputs: base, rows, adapter to start from, curriculum
    versions.json        versions of Python, the libraries and the code, and the hardware, at each start
    status.json          the status, and the reason for it
    metrics.jsonl        one line each `logging_steps`
    rollouts.jsonl       one line a group: prompt, picture by hash, completions, rewards with reasons, advantages
    images/<hash>.jpg    each picture once
    checkpoints/         checkpoint-<step>, complete where it holds `complete.json`, which is written last
    candidates/          the adapter of every checkpoint, if the best is chosen at the end
    validation.json      the candidates' scores on validation rows, and the one that was chosen
    hours.json           the hours of each start
    estimate.json        what the newest start was expected to take
    adapter/             the result, with evaluation.json
    publish/             revisions to upload to the Hub, and uploaded ones (`training.hub.publish.queue`)
    train.log, rewards.png, tensorboard/
    request.json, process.json, exit.json, output.log     of a run in the background: `training.launch.local`

Importing this does not load torch.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

from inference.common import files
from inference.common.errors import UserError
from inference.common.files import Json, Timeout, append_line, exclusive, read_lines, write_json, write_whole
from training.config.run_config import CHANGEABLE, RunConfig, differences
from training.runs.provenance import changed_versions, versions_here

MARKER = "complete.json"
log = logging.getLogger(__name__)
_T = TypeVar("_T", Json, list[Json])
Status = Literal["running", "succeeded", "failed", "interrupted"]


class RunFolder:
    """Paths, records and checkpoints of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.adapter = path / "adapter"
        self.metrics = path / "metrics.jsonl"
        self.rollouts = path / "rollouts.jsonl"
        self.images = path / "images"
        self.log = path / "train.log"

    @classmethod
    def create(cls, path: Path, config: RunConfig) -> RunFolder:
        """Makes a new run's folder; raises `UserError` for one that is not empty."""
        if path.exists() and not path.is_dir():
            raise UserError(f"the run folder {path} is a file; name another one")
        if path.exists() and any(path.iterdir()):
            remedy = "resume it with --resume" if (path / "config.json").exists() else "name another one"
            raise UserError(f"the run folder {path} is not empty; {remedy}, or delete it first")
        folder = cls(path)
        try:
            for each in (folder.checkpoints, folder.images):
                each.mkdir(parents=True, exist_ok=True)
            write_whole(path / "config.json", config.model_dump_json(indent=2))
        except OSError as error:
            raise UserError(f"the run folder {path} cannot be made ({error.strerror}); name another one") from error
        return folder

    @classmethod
    def open(cls, path: Path, config: RunConfig | None = None) -> tuple[RunFolder, RunConfig]:
        """An existing run's folder and its configuration, with the changes of `config` (settings in `CHANGEABLE`).

        Raises `UserError` for a `config` that differs in anything else.
        """
        stored_path = path / "config.json"
        if not stored_path.exists():
            raise UserError(f"{path} is not a run folder (it has no config.json); name one, or start a new run")
        try:
            stored = RunConfig.model_validate_json(stored_path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{stored_path} cannot be read: {error}; start a new run") from None
        folder = cls(path)
        if config is None:
            return folder, stored
        if refused := [name for name in differences(stored, config) if name not in CHANGEABLE]:
            changed = [differences(stored, config)[name] for name in refused]
            raise UserError(
                f"the run in {path} was started with another configuration ({'; '.join(changed)}). Of a run under way "
                f"only {', '.join(CHANGEABLE)} can be changed; resume it without these settings, or {folder.way_out()}"
            )
        allowed = {name: getattr(config, name) for name in CHANGEABLE if hasattr(config, name)}
        return folder, stored.model_copy(update=allowed)

    def way_out(self) -> str:
        """The remedy, in words, where a run cannot be resumed: start another one from its weights."""
        checkpoint = self.newest_checkpoint()
        if checkpoint is None:
            return "start a new run in another --folder"
        return f"start a new run from its weights: train --start-adapter {checkpoint.absolute()} --folder NEW"

    def change(self, config: RunConfig) -> None:
        """Makes `config` the run's own, and records each change with its step and time."""
        stored = self.open(self.path)[1]
        checkpoint = self.newest_checkpoint()
        changes = [name for name in differences(stored, config) if name in CHANGEABLE]
        for name in changes:
            values = {"from": stored.model_dump(mode="json")[name], "to": config.model_dump(mode="json")[name]}
            step = step_of(checkpoint) if checkpoint else 0
            append_line(self.path / "changes.jsonl", {"time": time.time(), "step": step, "setting": name} | values)
        if changes:
            write_whole(self.path / "config.json", config.model_dump_json(indent=2))

    def newest_checkpoint(self) -> Path | None:
        """The last complete checkpoint; `None` if there is none yet."""
        return max(self._complete_checkpoints(), key=step_of, default=None)

    def mark_complete(self, checkpoint: Path, keep: int | None) -> None:
        """Marks a checkpoint as complete, then deletes those beyond the newest `keep`; none with `None`."""
        sizes = {p.name: p.stat().st_size for p in sorted(checkpoint.iterdir()) if p.is_file()}
        files.sync_folder(checkpoint)
        write_json(checkpoint / MARKER, {"step": step_of(checkpoint), "files": sizes})
        for old in sorted(self._complete_checkpoints(), key=step_of)[:-keep] if keep else ():
            (old / MARKER).unlink()  # first, so that a kill half-way leaves it incomplete
            shutil.rmtree(old)

    def rewind(self, step: int) -> None:
        """Drops the records of the steps after `step`, and incomplete checkpoints."""
        for path in (self.metrics, self.rollouts):
            rows = [row for row in read_lines(path) if row.get("step", 0) <= step]
            write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        self.drop_unfinished()

    def drop_unfinished(self) -> None:
        """Deletes checkpoints that are not complete."""
        for path in self.checkpoints.glob("checkpoint-*"):
            if not is_complete(path):
                shutil.rmtree(path)

    def history(self) -> list[Json]:
        """The metrics, one dictionary each `logging_steps`; a half-written last line is left out."""
        return list(read_lines(self.metrics))

    def set_status(self, status: Status, reason: str = "", step: int | None = None) -> None:
        """Writes `status.json`: the status, and the reason for it in a sentence."""
        values = {"status": status, "reason": reason, "step": step, "pid": os.getpid(), "time": time.time()}
        write_json(self.path / "status.json", values)

    def status(self) -> Json:
        """The values that `set_status` wrote last; empty before."""
        return _read(self.path / "status.json", {})

    def add_versions(self, hardware: Json) -> None:
        """Records the versions of this start and its step, and warns if they differ from the last start's."""
        path = self.path / "versions.json"
        starts = _read(path, [])
        checkpoint = self.newest_checkpoint()
        step = step_of(checkpoint) if checkpoint else 0
        now = {"time": time.time(), "step": step, **hardware, **versions_here()}
        if starts and (changed := changed_versions(starts[-1], now)):
            log.warning("this start has other versions than the last one, and results may shift: %s", changed)
        write_json(path, [*starts, now])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the folder against a second trainer; the lock ends with the process."""
        try:
            with exclusive(self._lock, wait_seconds=1.0):  # `is_locked` of another process holds it for a moment
                yield
        except Timeout:
            raise UserError(
                f"another process is training in {self.path}; wait for it to end, stop it, or name another folder"
            ) from None

    def is_locked(self) -> bool:
        """True while a process holds the lock of `locked`."""
        if not self._lock.exists():
            return False
        try:
            with exclusive(self._lock):
                return False
        except Timeout:
            return True

    @property
    def _lock(self) -> Path:
        return self.path / "lock"

    def _complete_checkpoints(self) -> list[Path]:
        return [path for path in self.checkpoints.glob("checkpoint-*") if is_complete(path)]


def is_complete(checkpoint: Path) -> bool:
    """True if the checkpoint is marked as complete and every file has the size in its mark."""
    try:
        files = json.loads((checkpoint / MARKER).read_text(encoding="utf-8"))["files"]
        return all((checkpoint / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def is_at_the_end(checkpoint: Path) -> bool:
    """True if the trainer's record in this checkpoint has no step left."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return int(state["global_step"]) >= int(state["max_steps"])


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's name; -1 if it has none."""
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def _read(path: Path, default: _T) -> _T:
    """The JSON in a file, `default` where there is none; raises `UserError` where it is broken."""
    try:
        value: _T = json.loads(path.read_text(encoding="utf-8")) if path.exists() else default
        return value
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); put it back, or delete it: a run goes on without") from None
