"""A run's folder of plain files, written so that a kill at any moment leaves a folder that resumes.

    config.json          the configuration, with the commits of inputs from the Hub
    changes.jsonl        changes of the configuration at a resume, with their times
    sources.json         digests of the inputs: base, rows, adapter to start from, curriculum
    dropped.json         the data's rows that were left out, by reason, with the first of them
    versions.json        versions of Python, the libraries and the code, and the hardware, at each start
    status.json          the status, and the reason for it
    metrics.jsonl        one line each `logging_steps`
    rollouts.jsonl       one line a group: prompt, picture by hash, completions, rewards with reasons, advantages
    images/<hash>.jpg    each picture once
    checkpoints/         checkpoint-<step>, complete where it holds `complete.json`, which is written last and has the
                         size and the SHA-256 of each file
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

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeGuard

from pydantic import ValidationError

from inference.common import files
from inference.common.errors import UserError
from inference.common.files import (
    Json,
    Timeout,
    append_line,
    exclusive,
    json_object,
    read_json,
    read_lines,
    write_json,
    write_whole,
)
from training.config.run_config import CHANGEABLE, RunConfig, differences
from training.runs.metrics import figures_of, step_in
from training.runs.provenance import changed_versions, versions_here

MARKER = "complete.json"
DROPPED = "dropped.json"
log = logging.getLogger(__name__)
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
        is_new = not path.exists()
        try:
            for each in (folder.checkpoints, folder.images):
                each.mkdir(parents=True, exist_ok=True)
            write_whole(path / "config.json", config.model_dump_json(indent=2))
        except OSError as error:
            if is_new:
                shutil.rmtree(path, ignore_errors=True)
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
            stored = RunConfig.model_validate_json(stored_path.read_bytes())
        except (OSError, ValueError) as error:
            asked = _asked_config(path)
            if asked is None:
                raise UserError(f"{stored_path} cannot be read: {_reason(error)}; start a new run") from None
            stored = asked
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
        if read_json(self.path / "config.json") != config.model_dump(mode="json"):  # changed, or it was damaged
            write_whole(self.path / "config.json", config.model_dump_json(indent=2))

    def newest_checkpoint(self) -> Path | None:
        """The last complete checkpoint; `None` if there is none yet."""
        return max(self.complete_checkpoints(), key=step_of, default=None)

    def mark_complete(self, checkpoint: Path, keep: int | None) -> None:
        """Marks a checkpoint as complete, then deletes those beyond the newest `keep`; none with `None`."""
        written = [path for path in sorted(checkpoint.iterdir()) if path.is_file()]
        sizes = {path.name: path.stat().st_size for path in written}
        digests = {path.name: _digest(path) for path in written}
        files.sync_folder(checkpoint)
        write_json(checkpoint / MARKER, {"step": step_of(checkpoint), "files": sizes, "sha256": digests})
        for old in sorted(self.complete_checkpoints(), key=step_of)[:-keep] if keep else ():
            (old / MARKER).unlink()  # first, so that a kill half-way leaves it incomplete
            shutil.rmtree(old)

    def leave_out_damaged(self) -> str:
        """Takes the mark from newest checkpoints that are not as they were written; says so, empty if all is well.

        The run then goes on from the one before.
        """
        said = []
        while (newest := self.newest_checkpoint()) is not None and (names := damaged_files(newest)):
            said.append(f"{newest.name} is damaged ({', '.join(names)})")
            (newest / MARKER).unlink(missing_ok=True)  # on a disk that several machines share
        if said:
            before = newest.name if newest else "its beginning"
            said.append(f"the run goes on from {before}; check the disk of {self.path}")
        return "; ".join(said)

    def rewind(self, step: int) -> None:
        """Drops the records of the steps after `step`, those that cannot be read, and incomplete checkpoints."""
        for path in (self.metrics, self.rollouts):
            lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
            write_whole(path, b"".join(line for line in lines if _is_until(line, step)))
        self.drop_unfinished()

    def drop_unfinished(self) -> None:
        """Deletes checkpoints that are not complete."""
        for path in self.checkpoints.glob("checkpoint-*"):
            if is_complete(path):
                continue
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            else:
                shutil.rmtree(path)

    def history(self) -> list[Json]:
        """The metrics, one dictionary each `logging_steps`; a line that is cut short or has no step is left out."""
        return [row for line in read_lines(self.metrics) if (row := figures_of(line)) is not None]

    def set_status(self, status: Status, reason: str = "", step: int | None = None) -> None:
        """Writes `status.json`: the status, and the reason for it in a sentence."""
        values = {"status": status, "reason": reason, "step": step, "pid": os.getpid(), "time": time.time()}
        write_json(self.path / "status.json", values)

    def status(self) -> Json:
        """The values that `set_status` wrote last; empty before, and for a file that cannot be read."""
        return read_json(self.path / "status.json") or {}

    def add_versions(self, hardware: Json) -> None:
        """Records the versions of this start and its step, and warns if they differ from the last start's."""
        path = self.path / "versions.json"
        starts = self.starts()
        checkpoint = self.newest_checkpoint()
        step = step_of(checkpoint) if checkpoint else 0
        now = {"time": time.time(), "step": step, **hardware, **versions_here()}
        if starts and (changed := changed_versions(starts[-1], now)):
            log.warning("this start has other versions than the last one, and results may shift: %s", changed)
        write_json(path, [*starts, now])

    def starts(self) -> list[Json]:
        """The starts that `add_versions` recorded; those that cannot be read are left out."""
        try:
            starts = json.loads((self.path / "versions.json").read_bytes())
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError) as error:
            log.warning("%s cannot be read (%s): earlier starts are not known", self.path / "versions.json", error)
            return []
        return [start for start in starts if isinstance(start, dict)] if isinstance(starts, list) else []

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

    def complete_checkpoints(self) -> list[Path]:
        """The checkpoints that are complete, in no order."""
        return [path for path in self.checkpoints.glob("checkpoint-*") if is_complete(path)]


def is_complete(checkpoint: Path) -> bool:
    """True if the checkpoint is marked as complete and every file has the size in its mark.

    That is quick; `damaged_files` also compares what the files hold.
    """
    try:
        sizes = (read_json(checkpoint / MARKER) or {})["files"]
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def damaged_files(checkpoint: Path) -> list[str]:
    """The files of a complete checkpoint whose bytes are not those that were written.

    A checkpoint of an earlier version has no digests; of it only the sizes are known.
    """
    digests = (read_json(checkpoint / MARKER) or {}).get("sha256", {})
    if not isinstance(digests, dict):
        return [MARKER]
    return [name for name, digest in digests.items() if _digest(checkpoint / name) != digest]


def is_at_the_end(checkpoint: Path) -> bool:
    """True if the trainer's record in this checkpoint has no step left."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return int(state["global_step"]) >= int(state["max_steps"])


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's name; -1 if it has none."""
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isascii() and number.isdigit() else -1


def _reason(error: Exception) -> str:
    """An error of a configuration in words; one of a later version has settings that this one does not know."""
    unknown = [each for each in error.errors() if each["type"] == "extra_forbidden"] if _is_invalid(error) else []
    names = ", ".join(".".join(map(str, each["loc"])) for each in unknown)
    return f"it is of a later version, with settings unknown here ({names}): update LookThink" if names else str(error)


def _is_invalid(error: Exception) -> TypeGuard[ValidationError]:
    return isinstance(error, ValidationError)


def _asked_config(path: Path) -> RunConfig | None:
    """The configuration that a run in the background was asked for; `None` where there is none."""
    try:
        return RunConfig.model_validate((read_json(path / "request.json") or {}).get("config"))
    except ValueError:
        return None


def _is_until(line: bytes, step: int) -> bool:
    """True for a whole line of a step up to `step`."""
    row = json_object(line) if line.endswith(b"\n") else None
    return row is not None and (of := step_in(row)) is not None and of <= step


def _digest(path: Path) -> str:
    """The SHA-256 of a file; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):  # the latter: an impossible name in a damaged mark
        return ""
