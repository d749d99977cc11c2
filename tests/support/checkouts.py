"""Small git repositories, as somebody has who deploys."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path


def git_checkout(folder: Path, files: Mapping[str, bytes]) -> Path:
    """A git repository at `folder` with one commit of these files."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    git(folder, "init", "-q")
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    """Commit all there is."""
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-qm", "all")


def git(folder: Path, *arguments: str) -> None:
    """Run git there."""
    subprocess.run(["git", "-C", str(folder), *arguments], check=True)
