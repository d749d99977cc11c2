"""Runs are deleted with their folders, in steps of which a kill may cut off any: what is left is finished later."""

from __future__ import annotations

import shutil
from pathlib import Path

from inference.common.errors import UserError
from training.runs.deleted_runs import deleted_runs, note_deleted
from training.runs.folder import RunFolder
from training.runs.store import RunStore

TRASH = ".deleted-"
"""A folder that is renamed to this and its id is being deleted."""


def delete_run(store: RunStore, run_id: str) -> None:
    """Delete a run that nobody works at, with its folder and all that is in it. Raises `UserError` for another."""
    record = store.get(run_id)
    if record.is_active:
        raise UserError(f"run {run_id} is {record.status}; cancel it before you delete it")
    trash = store.folder / f"{TRASH}{run_id}"
    try:
        if record.folder.is_dir():
            with RunFolder(record.folder).locked():  # refused while somebody trains in it by hand
                record.folder.rename(trash)
        note_deleted(store.home, run_id)
    except OSError as error:
        raise UserError(f"{record.folder} cannot be deleted ({error.strerror}); see to its rights") from error
    store.forget(run_id)
    _remove(trash)  # what is left is deleted by `finish_deletions`


def finish_deletions(store: RunStore) -> None:
    """Delete what a kill has left of deletions."""
    for path in store.folder.glob(f"{TRASH}*"):
        run_id = path.name.removeprefix(TRASH)
        if run_id not in deleted_runs(store.home):  # killed between the two
            note_deleted(store.home, run_id)
        store.forget(run_id)
        _remove(path)


def _remove(trash: Path) -> None:
    """Of a link, the link alone goes."""
    if trash.is_symlink():
        trash.unlink(missing_ok=True)
    shutil.rmtree(trash, ignore_errors=True)
