"""Which runs were deleted on purpose: their copies elsewhere are deleted too, and never brought back.

A folder that is only gone is another matter: then its copy is what is left of it.
"""

from __future__ import annotations

from pathlib import Path

FILE = "deleted-runs.txt"
"""In the home folder; one name a line, only appended to."""


def note_deleted(home: Path, run_id: str) -> None:
    """Remember that a run was deleted. Raises `OSError`."""
    with (home / FILE).open("a", encoding="utf-8") as file:
        file.write(f"{run_id}\n")


def deleted_runs(home: Path) -> set[str]:
    """The names of all that were."""
    try:
        return set((home / FILE).read_text(encoding="utf-8", errors="replace").split())
    except FileNotFoundError:
        return set()
