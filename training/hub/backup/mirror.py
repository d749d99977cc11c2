"""Copies of run folders and of what is served, in a folder that outlives this machine, such as a bucket's mount.

    mirror_run(Path("runs/20261122-143000-a1b2"), Path("/state"))       # now; again: only what has changed since
    with Mirroring(folder, state, every_seconds=60) as mirroring:       # in the background; a last time at the end
        ...

A run's copy has its newest whole checkpoint and all records, so that the run resumes from it and its record is made
anew (`training.runs.recovery`); what is served has its versions. Records that only grow are copied by their tail. A copy
is whole or is not taken for one (`training.hub.backup.snapshots`); `training.hub.backup.restore` brings it back.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
from pathlib import Path

from inference.adapters.served import FILE
from training.hub.backup.copying import TRIES, Copy, Mirrored
from training.hub.backup.snapshots import StateTree
from training.hub.space.sleep_timer import FILE as SLEEP
from training.runs.folder import MARKER, RunFolder
from training.runs.snapshot import newest_groups

PICTURES = "images/"
_LEFT_OUT = ("lock", "__pycache__")
_LAST = ("process.json", "status.json", "request.json", "exit.json")
log = logging.getLogger(__name__)


def run_state(state: Path, run_id: str) -> Path:
    """Where a run's copy lies."""
    return state / "runs" / run_id


def serving_state(state: Path) -> Path:
    """Where the copy of `served.json` and of the versions lies."""
    return state / "serving"


def mirror_run(folder: Path, state: Path) -> Mirrored:
    """Bring the copy of a run's folder up to date. Raises `OSError` where the disk or the mount refuses."""
    return RunMirror(folder, state).step()


class RunMirror:
    """One run's folder and its copy; one that is kept between passes reads no file twice that has not changed."""

    def __init__(self, folder: Path, state: Path, leaves_out: tuple[str, ...] = ()) -> None:
        """`leaves_out`: beginnings of names that are not copied; of `PICTURES` those of the newest step are."""
        self.folder, self._state, self._leaves_out = folder, state, ("checkpoints/", *leaves_out)
        self._copy = Copy(folder, StateTree(run_state(state, folder.name)))

    def step(self) -> Mirrored:
        """One pass: the checkpoint first, for records that reach further than it do no harm."""
        if not (self.folder / "config.json").is_file():
            raise FileNotFoundError(errno.ENOENT, "there is no run here to copy", str(self.folder))
        _check_is_there(self._state)
        with self._copy.passing() as copy:
            for _ in range(TRIES):
                checkpoint = RunFolder(self.folder).newest_checkpoint()
                if checkpoint is None or copy.take_all(_checkpoint_files(self.folder, checkpoint)):
                    break
            else:
                copy.keep_as_before("checkpoints/")
            copy.take(name for name in _files(self.folder) if not name.startswith(self._leaves_out))
            if PICTURES in self._leaves_out:
                copy.take(_shown(self.folder))
        return copy.done


class ServingMirror:
    """What a home folder serves, with its versions, and when its Space is to sleep again; and its copy."""

    def __init__(self, home: Path, state: Path) -> None:
        self.home, self._state = home, state
        self._copy = Copy(home, StateTree(serving_state(state)))

    def step(self) -> Mirrored:
        """One pass. What is served is read before its versions: one that is promoted meanwhile is there too."""
        _check_is_there(self._state)
        with self._copy.passing() as copy:
            copy.take([FILE, SLEEP])
            copy.take(f"adapters/{name}" for name in _files(self.home / "adapters"))
        return copy.done


def forget_run(run_id: str, state: Path) -> None:
    """Delete a run's copy, and what its Jobs were given. Raises `OSError`."""
    StateTree(run_state(state, run_id)).delete()
    shutil.rmtree(state / "inputs" / run_id, ignore_errors=True)


class Mirroring:
    """A run's folder that is copied in the background, and a last time at the end; what goes wrong is only said.

    `trouble` is the newest error in words, `None` while all is well. The run goes on whatever becomes of its copy.
    """

    def __init__(self, folder: Path, state: Path, every_seconds: float = 60.0) -> None:
        self.every_seconds = every_seconds
        self.trouble: str | None = None
        self._mirror = RunMirror(folder, state)
        self._over, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._go_on, name="mirror", daemon=True)

    def __enter__(self) -> Mirroring:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self.step()

    def step(self) -> bool:
        """Copy what has changed, now; false if that failed."""
        with self._lock:
            try:
                self._mirror.step()
                self.trouble = None
            except OSError as error:
                words = f"the run's copy in {self._mirror.folder.name} cannot be written ({in_words(error)})"
                if self.trouble is None:
                    log.warning("%s; it is tried again every %.0f s", words, self.every_seconds)
                self.trouble = words
        return self.trouble is None

    def _go_on(self) -> None:
        while not self._over.wait(self.every_seconds):
            self.step()


def in_words(error: OSError) -> str:
    """What a disk says, with the file it said it of."""
    said = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {said}" if error.filename else said


def _check_is_there(state: Path) -> None:
    """A mount that is missing must not become a folder of this machine."""
    if not state.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder; is the bucket mounted?", str(state))


def _checkpoint_files(folder: Path, checkpoint: Path) -> list[str]:
    """Of a checkpoint, its marker last."""
    names = [f"checkpoints/{checkpoint.name}/{name}" for name in _files(checkpoint)]
    return sorted(names, key=lambda name: name.endswith(f"/{MARKER}"))


def _shown(folder: Path) -> list[str]:
    """The pictures of the completions that the page shows: a few."""
    return [f"{PICTURES}{row['image'].name}" for row in newest_groups(folder) if row["image"] is not None]


def _files(folder: Path) -> list[str]:
    """The plain files under a folder, as paths with slashes; hidden ones, links and those being written left out."""
    found = []
    for parent, folders, names in os.walk(folder, onerror=_raise_unless_gone):
        folders[:] = [name for name in folders if name[0] != "." and name not in _LEFT_OUT]
        above = Path(parent).relative_to(folder)
        for name in names:
            if name[0] != "." and not name.endswith(".part") and name not in _LEFT_OUT and name.isprintable():
                found.append((above / name).as_posix())
    return sorted(found, key=lambda name: (name in _LAST, name))


def _raise_unless_gone(error: OSError) -> None:
    """A folder that cannot be read is not an empty one."""
    if not isinstance(error, FileNotFoundError):
        raise error
