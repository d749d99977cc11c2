"""Upkeep of the list of runs: deletions, what takes room, folders that are missing or back, runs resumed by hand.

A run is deleted with its folder, in several steps; `tidy` finishes a deletion that a kill has cut off.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from inference.common.errors import UserError
from inference.common.files import read_json
from training.runs.folder import RunFolder
from training.runs.record import RESUMABLE
from training.runs.recovery import facts_of_starts, folder_problem, is_trained_by_hand, record_of, run_folders
from training.runs.store import RunStore

TRASH = ".deleted-"
"""The prefix of a folder that is being deleted; its id follows."""
DELETED = "deleted-runs.txt"
"""In the home folder, an id on each line: runs whose copies elsewhere are deleted too and never restored. The copy of a
folder that is only missing stays."""
BY_HAND = "it was resumed by hand and is running, with `python -m training train --resume`"
_HALF_MADE_SECONDS = 3600
_OPENED = ("runs", "adapters", "data")
"""Folders of the home folder whose content is listed one by one."""
_LEFT_OVER = re.compile(r"\.corrupt-|\.broken-|^uploads$")
"""Files that were set aside, and pictures of visitors."""


def delete_run(store: RunStore, run_id: str) -> None:
    """Deletes a run with its folder. Raises `UserError` for an active run."""
    record = store.get(run_id)
    if record.is_active:
        raise UserError(f"run {run_id} is {record.status}; cancel it before you delete it")
    trash = store.folder / f"{TRASH}{run_id}"
    try:
        if record.folder.is_dir():
            with RunFolder(record.folder).locked():  # refused while somebody trains in it by hand
                record.folder.rename(trash)
        elif not trash.exists():
            trash.mkdir()
    except OSError as error:
        raise UserError(_cannot_delete(record.folder, error)) from error
    with contextlib.suppress(OSError, UserError):  # the next `tidy` goes on
        _finish(store, trash)


def _finish(store: RunStore, trash: Path) -> None:
    """Empties the folder of a deleted run, which makes room on a full disk, then notes the deletion.

    The empty folder goes last: as long as it is there, `tidy` goes on where a kill or a full disk has ended this.
    """
    run_id = trash.name.removeprefix(TRASH)
    if not trash.is_symlink():
        for path in trash.iterdir():
            remove(path)
    if run_id not in deleted_runs(store.home):
        _note_deleted(store.home, run_id)
    store.forget(run_id)
    remove(trash)


def _cannot_delete(path: Path, error: OSError) -> str:
    remedy = "mount the disk for writing" if error.errno == errno.EROFS else "change its permissions"
    return f"{path} cannot be deleted ({error.strerror}); {remedy}"


def deleted_runs(home: Path) -> set[str]:
    """The ids of all runs that were deleted on purpose."""
    try:
        return set((home / DELETED).read_text(encoding="utf-8", errors="replace").split())
    except FileNotFoundError:
        return set()


@dataclass(frozen=True)
class Stored:
    """A file or a folder of the home folder, for whoever looks for room on its disk."""

    path: Path
    num_bytes: int
    is_run: bool
    problem: str = ""
    """The reason why a run's folder is no whole one; empty for others."""
    can_delete: bool = False

    @property
    def name(self) -> str:
        """Its path below the home folder, as text: bytes that are no text are written as `\\xff`."""
        below = self.path.parts[-2:] if self.path.parent.name in _OPENED else self.path.parts[-1:]
        return os.fsencode("/".join(below)).decode("utf-8", errors="backslashreplace")


def stored(store: RunStore) -> list[Stored]:
    """All that lies in the home folder, the largest first; runs, versions and prepared rows one by one."""
    active = {record.folder for record in store.list() if record.is_active}
    paths = [path for name in _OPENED for path in _children(store.home / name)]
    paths += [path for path in _children(store.home) if path.name not in _OPENED]
    return sorted((_stored(path, store, active) for path in paths), key=lambda each: -each.num_bytes)


def free_words(home: Path) -> str:
    """The room on the disk of the home folder, in words; so too where nothing can be written."""
    try:
        usage = shutil.disk_usage(next(path for path in (home, *home.absolute().parents) if path.exists()))
    except OSError as error:
        return f"The disk of {home} cannot be looked at ({error.strerror})."
    words = f"{usage.free / 1e9:.2f} of {usage.total / 1e9:.2f} GB are free on the disk of {home}"
    return f"{words}, to which nothing can be written." if home.exists() and not _is_writable(home) else f"{words}."


def _is_writable(home: Path) -> bool:
    """True unless the disk is mounted for reading only, or this user may not write."""
    return os.access(home, os.W_OK)


def delete_stored(store: RunStore, name: str) -> int:
    """Deletes what `stored` lists under a name; returns its bytes. Raises `UserError` for what must stay."""
    found = next((each for each in stored(store) if each.name in (name, f"runs/{name}")), None)
    if found is None:
        raise UserError(f"there is nothing called {name!r} in {store.home}; `python -m training disk` lists what is")
    if not found.can_delete:
        raise UserError(f"{found.name} is in use, or no run; it is not deleted from here")
    if found.is_run and any(record.folder == found.path for record in store.list()):
        delete_run(store, found.path.name)
    else:
        try:
            found.path.lstat()
            remove(found.path)
        except OSError as error:
            raise UserError(_cannot_delete(found.path, error)) from error
    if found.path.exists():
        raise UserError(f"{found.path} cannot be deleted; change its permissions, or mount the disk for writing")
    return found.num_bytes


def _stored(path: Path, store: RunStore, active: set[Path]) -> Stored:
    is_run = path.parent == store.folder
    problem = folder_problem(path) if is_run and path.name[0] != "." and path.is_dir() else ""
    can_delete = path not in active and (is_run or path.parent.name == "data" or bool(_LEFT_OVER.search(path.name)))
    return Stored(path, _size(path), is_run, problem, can_delete)


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _size(path: Path) -> int:
    """Bytes on the disk; of what cannot be read none."""
    total = 0
    with contextlib.suppress(OSError):
        total = path.lstat().st_blocks * 512
    if path.is_symlink():
        return total
    for parent, folders, names in os.walk(path):
        for name in (*folders, *names):
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
    return total


def tidy(store: RunStore) -> None:
    """Finishes deletions that a kill cut off, and removes new folders that were never completed."""
    for path in store.folder.glob(f"{TRASH}*"):
        with contextlib.suppress(OSError):  # a folder that cannot be deleted must not keep the others
            _finish(store, path)
    for path in store.folder.glob(".new-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _HALF_MADE_SECONDS:
                remove(path)


def record_lost(store: RunStore) -> None:
    """Marks records whose folder is missing as lost, and restores those whose folder is back."""
    for record in store.list():
        is_there = record.folder.is_dir()
        if not is_there and not record.is_active and record.status != "lost":
            store.transition(record, "lost", reason=f"its folder {record.folder} is gone")
        elif is_there and record.status == "lost":
            back = record_of(record.folder)
            status = back.status if back and back.status in ("succeeded", "failed", "cancelled") else "interrupted"
            store.transition(record, status, reason="its folder was gone and is there again")


def record_by_hand(store: RunStore) -> None:
    """Updates runs that ended early and were resumed by hand: running, or succeeded."""
    for record in store.list():
        if record.status not in RESUMABLE:
            continue
        with contextlib.suppress(OSError):  # a folder that cannot be read must not hide the others
            if (read_json(record.folder / "status.json") or {}).get("status") == "succeeded":
                hours = max(record.hours, facts_of_starts(record.folder)["hours"])
                store.transition(record, "succeeded", reason="it was resumed by hand, and finished", hours=hours)
            elif record.reason != BY_HAND and is_trained_by_hand(record.folder):
                store.update(record, reason=BY_HAND)


def running_by_hand(store: RunStore) -> Path | None:
    """A folder in `<home>/runs` in which a trainer that was started by hand is running."""
    return next((path for path in run_folders(store.folder) if is_trained_by_hand(path)), None)


def _note_deleted(home: Path, run_id: str) -> None:
    with (home / DELETED).open("a", encoding="utf-8") as file:
        file.write(f"{run_id}\n")


def remove(path: Path) -> None:
    """Deletes a file or a folder as far as that can be; of a link, the link alone."""
    if path.is_symlink() or not path.is_dir():
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)
