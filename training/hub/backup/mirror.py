"""Copies run folders, and what is served, to a folder that outlives this machine, such as a bucket's mount.

    mirror_run(Path("runs/20261122-143000-a1b2"), Path("/state"))       # copies what has changed since the last call
    backup = RunBackup(folder, state, every_seconds=25)                 # the same in the background
    backup.start(); backup.finish()

The copy of a run has its newest whole checkpoint and all records, so that the run resumes from it and its record is
made anew (`training.runs.recovery`). The copy of what is served has its versions.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from inference.adapters.served import FILE
from inference.common.background import PeriodicTask
from training.data.own_sets.sets import LEFT_OUT, ROWS, OwnSets
from training.hub.backup.copies import NUM_TRIES, Copied, Copier, CopyFolder
from training.hub.space.sleep_timer import FILE as SLEEP
from training.runs.folder import MARKER, RunFolder

_LEFT_OUT = ("lock", "__pycache__")
PINNED, QUESTIONS = "pinned", "pinned/questions.json"
"""The folder of the pinned questions in a home, and their list (`training.learn.pinned`)."""
_LAST = ("process.json", "status.json", "request.json", "exit.json")
_FINISH_WAITS = (1.0, 5.0, 20.0, 0.0)
log = logging.getLogger(__name__)


def run_copy(state: Path, run_id: str) -> CopyFolder:
    """The copy of a run."""
    return CopyFolder(state / "runs" / run_id)


def served_copy(state: Path) -> CopyFolder:
    """The copy of `served.json` and of the versions."""
    return CopyFolder(state / "serving")


def copied_step(state: Path, run_id: str) -> int:
    """The step of the newest checkpoint in the copy of a run; 0 for none."""
    manifests = run_copy(state, run_id).manifests()
    checkpoints = (Path(name) for name in (manifests[0].files if manifests else ()) if name.endswith(f"/{MARKER}"))
    return max((int(path.parent.name.rpartition("-")[2]) for path in checkpoints if _is_checkpoint(path)), default=0)


def mirror_run(folder: Path, state: Path) -> Copied:
    """Brings the copy of a run's folder up to date. Raises `OSError` where the disk or the mount refuses."""
    return RunMirror(folder, state).step()


class RunMirror:
    """A run's folder and its copy; one that is kept between passes reads no file twice that has not changed."""

    def __init__(self, folder: Path, state: Path) -> None:
        self.folder, self._state = folder, state
        self._copier = Copier(folder, run_copy(state, folder.name))

    def step(self) -> Copied:
        """One pass: the checkpoint first, for records that reach further than it do no harm."""
        if not (self.folder / "config.json").is_file():
            raise FileNotFoundError(errno.ENOENT, "there is no run here to copy", str(self.folder))
        _check_is_there(self._state)
        self._copier.begin()
        for _ in range(NUM_TRIES):
            checkpoint = RunFolder(self.folder).newest_checkpoint()
            if checkpoint is None or self._copier.copy_all(_checkpoint_files(checkpoint)):
                break
        else:
            self._copier.keep_as_before("checkpoints/")
        self._copier.copy(name for name in _files(self.folder) if not name.startswith("checkpoints/"))
        return self._copier.end()


class ServingMirror:
    """The served adapter of a home folder, with its versions, the sleep time of its Space, the datasets that were made
    on its page and the pinned questions, and their copy."""

    def __init__(self, home: Path, state: Path) -> None:
        self.home, self._state = home, state
        self._copier = Copier(home, served_copy(state))

    def step(self) -> Copied:
        """One pass. `served.json` is read before the versions: one that is promoted meanwhile is copied too. So are a
        dataset's rows, and the pinned questions, before their pictures."""
        _check_is_there(self._state)
        self._copier.begin()
        self._copier.copy([FILE, SLEEP])
        self._copier.copy(f"adapters/{name}" for name in _files(self.home / "adapters"))
        rows = [f"sets/{name}/{file}" for name in OwnSets(self.home).names() for file in (ROWS, LEFT_OUT)]
        self._copier.copy(rows)
        pictures = (f"sets/{name}" for name in _files(self.home / "sets"))
        self._copier.copy(name for name in pictures if name not in rows)
        self._copier.copy([QUESTIONS])
        pinned = (f"{PINNED}/{name}" for name in _files(self.home / PINNED))
        self._copier.copy(name for name in pinned if name != QUESTIONS)
        if not (self.home / QUESTIONS).exists():  # none was ever pinned here, or they could not be brought back yet
            self._copier.keep_as_before(f"{PINNED}/")
        return self._copier.end()


def forget_run(run_id: str, state: Path) -> None:
    """Deletes a run's copy, and the inputs of its Jobs. Raises `OSError`."""
    run_copy(state, run_id).delete()
    shutil.rmtree(state / "inputs" / run_id, ignore_errors=True)


class RunBackup:
    """Copies a run's folder in the background, and a last time at the end; the run goes on whatever becomes of that.

    `trouble` is the newest error in words, `None` while all is well.
    """

    def __init__(self, folder: Path, state: Path, every_seconds: float, on_step: Callable[[int], None]) -> None:
        """`on_step` is called with the step of each checkpoint that has come to the copy."""
        self.every_seconds, self._on_step = every_seconds, on_step
        self.trouble: str | None = None
        self._mirror, self._step_before = RunMirror(folder, state), 0
        self._task = PeriodicTask(self._copy, every_seconds, "backup")

    def start(self) -> None:
        """Copies now and again, in a daemon thread."""
        self._task.start()

    def finish(self) -> bool:
        """Copies a last time, when nothing is written any more; tries again where the bucket refuses; true if done."""
        while not self._task.stop(60):
            pass
        for wait in _FINISH_WAITS:
            self._copy()
            if self.trouble is None:
                return True
            time.sleep(wait)
        return False

    def _copy(self) -> None:
        checkpoint = RunFolder(self._mirror.folder).newest_checkpoint()  # before: the copy is at least as new
        try:
            self._mirror.step()
            self.trouble = None
        except OSError as error:
            words = f"the copy of the run {self._mirror.folder.name} cannot be written ({in_words(error)})"
            if self.trouble is None:
                log.warning("%s; it is tried again every %.0f s", words, self.every_seconds)
            self.trouble = words
            return
        step = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
        if step > self._step_before:
            self._step_before = step
            self._on_step(step)


def in_words(error: OSError) -> str:
    """An error of a disk, with the file that it is about."""
    text = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {text}" if error.filename else text


def _check_is_there(state: Path) -> None:
    """A mount that is missing must not become a folder of this machine."""
    if not state.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder; is the bucket mounted?", str(state))


def _is_checkpoint(marker: Path) -> bool:
    return marker.parts[0] == "checkpoints" and marker.parent.name.rpartition("-")[2].isdecimal()


def _checkpoint_files(checkpoint: Path) -> list[str]:
    """The files of a checkpoint, its marker last."""
    names = [f"checkpoints/{checkpoint.name}/{name}" for name in _files(checkpoint)]
    return sorted(names, key=lambda name: name.endswith(f"/{MARKER}"))


def _files(folder: Path) -> list[str]:
    """The plain files under a folder, as paths with slashes; hidden ones, links and those being written left out."""
    names_found = []
    for parent, folders, names in os.walk(folder, onerror=_raise_unless_deleted):
        folders[:] = [name for name in folders if name[0] != "." and name not in _LEFT_OUT]
        above = Path(parent).relative_to(folder)
        for name in names:
            if name[0] != "." and not name.endswith(".part") and name not in _LEFT_OUT and name.isprintable():
                names_found.append((above / name).as_posix())
    return sorted(names_found, key=lambda name: (name in _LAST, name))


def _raise_unless_deleted(error: OSError) -> None:
    """A folder that cannot be read is not an empty one."""
    if not isinstance(error, FileNotFoundError):
        raise error
