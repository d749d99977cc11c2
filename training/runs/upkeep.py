"""Upkeep of the list of runs: deletions, folders that are missing or back, and runs that were resumed by hand.

A run is deleted with its folder, in several steps; `tidy` finishes a deletion that a kill has cut off.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from inference.common.errors import UserError
from inference.common.files import read_json
from training.runs.folder import RunFolder
from training.runs.record import RESUMABLE
from training.runs.recovery import is_trained_by_hand, record_of, run_folders
from training.runs.store import RunStore

TRASH = ".deleted-"
"""The prefix of a folder that is being deleted; its id follows."""
DELETED = "deleted-runs.txt"
"""In the home folder, an id on each line: runs whose copies elsewhere are deleted too and never restored. The copy of a
folder that is only missing stays."""
BY_HAND = "it was resumed by hand and is running, with `python -m training train --resume`"
_HALF_MADE_SECONDS = 3600


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
        _note_deleted(store.home, run_id)
    except OSError as error:
        raise UserError(f"{record.folder} cannot be deleted ({error.strerror}); change its permissions") from error
    store.forget(run_id)
    _remove(trash)  # `tidy` deletes the rest


def deleted_runs(home: Path) -> set[str]:
    """The ids of all runs that were deleted on purpose."""
    try:
        return set((home / DELETED).read_text(encoding="utf-8", errors="replace").split())
    except FileNotFoundError:
        return set()


def tidy(store: RunStore) -> None:
    """Finishes deletions that a kill cut off, and removes new folders that were never completed."""
    for path in store.folder.glob(f"{TRASH}*"):
        run_id = path.name.removeprefix(TRASH)
        if run_id not in deleted_runs(store.home):  # killed between the two
            _note_deleted(store.home, run_id)
        store.forget(run_id)
        _remove(path)
    for path in store.folder.glob(".new-*"):
        if time.time() - path.stat().st_mtime > _HALF_MADE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


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
        if (read_json(record.folder / "status.json") or {}).get("status") == "succeeded":
            store.transition(record, "succeeded", reason="it was resumed by hand, and finished")
        elif record.reason != BY_HAND and is_trained_by_hand(record.folder):
            store.update(record, reason=BY_HAND)


def running_by_hand(store: RunStore) -> Path | None:
    """A folder in `<home>/runs` in which a trainer that was started by hand is running."""
    return next((path for path in run_folders(store.folder) if is_trained_by_hand(path)), None)


def _note_deleted(home: Path, run_id: str) -> None:
    with (home / DELETED).open("a", encoding="utf-8") as file:
        file.write(f"{run_id}\n")


def _remove(trash: Path) -> None:
    """Deletes a folder; of a link, the link alone."""
    if trash.is_symlink():
        trash.unlink(missing_ok=True)
    shutil.rmtree(trash, ignore_errors=True)
