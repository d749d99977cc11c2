"""The prepared copies of datasets under `LOOKTHINK_HOME/data`: their list, their bounds, and their end.

    for copy in copies(home): print(copy.name, copy.dataset, copy.num_bytes)

A copy is used again by every run on the same rows; it can be made anew at any time from its dataset.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from inference.common.errors import UserError
from inference.common.files import read_json

ABOUT = "about.json"
"""The dataset's name and its number of rows, beside the rows; written at each use."""
MAX_COPIES = 20
"""Copies that are kept, the last used first."""
MAX_SHARE = 0.25
"""Share of the disk that copies may have together, but for the newest."""
STALE_SECONDS = 24 * 3600
"""Age of a half-written file of a process that was killed."""


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
    return sorted(found, key=lambda copy: -copy.used_at)


def delete_copy(home: Path, name: str) -> Copy:
    """Deletes a copy. Raises `UserError` if there is none of this name."""
    found = next((copy for copy in copies(home) if copy.name == name), None)
    if found is None:
        raise UserError(f"there is no prepared copy {name[:80]!r} under {home / 'data'}; list them without --delete")
    shutil.rmtree(found.folder)
    return found


def make_room(folder: Path) -> None:
    """Deletes the copies beside `folder` that are beyond the bounds, and what killed processes left."""
    now, home = time.time(), folder.parent.parent
    for partial in folder.parent.glob("*/partial-*"):
        if now - partial.stat().st_mtime > STALE_SECONDS:
            partial.unlink(missing_ok=True)
    room = shutil.disk_usage(folder).total * MAX_SHARE
    others = [copy for copy in copies(home) if copy.folder != folder]
    for number, copy in enumerate(others, 2):
        room -= copy.num_bytes
        if number > MAX_COPIES or room < 0:
            shutil.rmtree(copy.folder, ignore_errors=True)


def _copy(folder: Path) -> Copy:
    about = read_json(folder / ABOUT) or {}
    sizes = [path.stat().st_size for path in folder.iterdir() if path.is_file()]
    used = (folder / ABOUT) if about else folder
    return Copy(folder, str(about.get("dataset", "")), int(about.get("rows") or 0), sum(sizes), used.stat().st_mtime)
