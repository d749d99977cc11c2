"""Whose copies these are: a Space that was duplicated, variables and all, must not go on with the first one's runs.

    check_owner(Path("/state"), "me/lookthink", "The bucket")     # before anything is brought back
    mark_owner(Path("/state"), "me/lookthink")                    # when there is something to keep

Both would start what was under way, and each would end the other's Jobs.
"""

from __future__ import annotations

import json
from pathlib import Path

from inference.common.errors import UserError
from training.hub.backup.plain_file import open_plain

FILE = "kept-for.json"
"""Beside the copies: the Space that keeps them, as owner/name."""
_MAX_BYTES = 10_000


def check_owner(folder: Path, space: str, where: str) -> None:
    """Raises `UserError` where the copies are another Space's; `where` names the place for a reader."""
    owner = _owner_of(folder)
    if owner not in (None, space):
        raise UserError(
            f"{where} keeps the runs of the Space {owner}, and this is {space}: its runs stay its own, and those of "
            f"this one are kept on this machine only. Give it a bucket (or repository) of its own; if it has taken "
            f"the place of {owner}, delete {FILE} there and restart."
        )


def mark_owner(folder: Path, space: str) -> bool:
    """Note whose they are where nobody's name stands and there is something to keep; true if that was done."""
    if _owner_of(folder) is not None or not any((folder / name).is_dir() for name in ("runs", "serving")):
        return False
    (folder / FILE).write_text(json.dumps({"space": space}), encoding="utf-8")
    return True


def _owner_of(folder: Path) -> str | None:
    """`None` for a file that is missing, half written, or holds no name."""
    try:
        with open_plain(folder / FILE) as file:
            found = json.loads(file.read(_MAX_BYTES))["space"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) and found.isprintable() and 0 < len(found) <= 200 else None
