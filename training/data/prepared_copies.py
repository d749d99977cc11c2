"""The prepared copies of datasets under `LOOKTHINK_HOME/data`: their list, their bounds, and their end.

    for copy in copies(home): print(copy.name, copy.dataset, copy.num_bytes)

A copy is used again by every run on the same rows; it can be made anew at any time from its dataset. A process holds
the copy that it makes or opens: others wait for it, and nobody deletes it meanwhile. Rows that are open stay readable
when their copy is deleted.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from inference.common.errors import UserError
from inference.common.files import Timeout, exclusive, read_json

ABOUT = "about.json"
"""The dataset's name and its number of rows, beside the rows; written at each use."""
MAX_COPIES = 20
"""Copies that are kept, the last used first."""
MAX_SHARE = 0.25
"""Share of the disk that copies may have together, but for the newest."""
LOCK = ".lock"
PARTIAL = "partial-"
"""The beginning of the name of a file that is being written."""


@dataclass(frozen=True)
class Copy:
    """A prepared copy."""

    folder: Path
    dataset: str
    """The dataset's name; empty for a copy that is being made, or is of another version."""
    num_rows: int
    num_bytes: int
    used_at: float
    """Seconds since 1970."""

    @property
    def name(self) -> str:
        return self.folder.name


def copies(home: Path) -> list[Copy]:
    """All copies, the last used first."""
    folder = home / "data"
    found = [_copy(path) for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted((copy for copy in found if copy is not None), key=lambda copy: -copy.used_at)


def delete_copy(home: Path, name: str) -> Copy:
    """Deletes a copy. Raises `UserError` if there is none of this name."""
    found = next((copy for copy in copies(home) if copy.name == name), None)
    if found is None:
        raise UserError(f"there is no prepared copy {name[:80]!r} under {home / 'data'}; list them without --delete")
    if not _delete(found.folder):
        raise UserError(f"the prepared copy {name} is being made or opened by another process; end that first")
    return found


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds the copy in `folder`, which is made if need be; waits while another process or thread does."""
    with ExitStack() as stack:
        while True:
            with suppress(FileNotFoundError):  # deleted while this waited
                stack.enter_context(exclusive(folder / LOCK, wait_seconds=-1))
                break
        yield


def identity_of(home: Path, signature: str) -> str | None:
    """The identity of a source with this signature, as a copy tells that was made or used with it."""
    found = (read_json(copy.folder / ABOUT) or {} for copy in copies(home))
    return next((str(about["identity"]) for about in found if about.get("signature") == signature), None)


def make_room(folder: Path) -> None:
    """Deletes the copies beside `folder` that are beyond the bounds, and what killed processes left half written.

    The caller holds `folder`. Copies that others hold stay.
    """
    _sweep(folder)
    room = shutil.disk_usage(folder).total * MAX_SHARE
    others = [copy for copy in copies(folder.parent.parent) if copy.folder != folder]
    for number, copy in enumerate(others, 2):
        room -= copy.num_bytes
        if number > MAX_COPIES or room < 0:
            _delete(copy.folder)
        else:
            with suppress(Timeout, OSError), exclusive(copy.folder / LOCK):
                _sweep(copy.folder)


def _sweep(folder: Path) -> None:
    for partial in folder.glob(PARTIAL + "*"):
        partial.unlink(missing_ok=True)


def _delete(folder: Path) -> bool:
    """Deletes a copy; false if somebody holds it."""
    try:
        with ExitStack() as stack:
            try:
                stack.enter_context(exclusive(folder / LOCK))
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # then there is no room for a lock
                    raise
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        return False
    return True


def _copy(folder: Path) -> Copy | None:
    """The copy in a folder; `None` if it is deleted meanwhile."""
    try:
        about = read_json(folder / ABOUT) or {}
        size = sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file())
        used = ((folder / ABOUT) if about else folder).stat().st_mtime
    except OSError:
        return None
    return Copy(folder, str(about.get("dataset", "")), int(about.get("rows") or 0), size, used)
