"""The files of this checkout that git tracks: a Space is made of them.

>>> checkout = read_checkout(ROOT)
>>> "app.py" in checkout.files
True
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from inference.common.environment import plain_environment
from inference.common.errors import UserError

ROOT = Path(__file__).parents[3]
MAX_FILE_BYTES = 100_000_000
_GIT_SECONDS = 30


@dataclass(frozen=True)
class Checkout:
    """A folder with its tracked files and its commit."""

    folder: Path
    files: tuple[str, ...]
    """Paths below the folder, with slashes."""
    commit: str
    """The first twelve digits of the commit that is checked out."""
    changed: tuple[str, ...]
    """Files that differ from it."""

    def path(self, name: str) -> Path:
        """The path of a file."""
        return self.folder / name


@dataclass(frozen=True)
class Digest:
    """The two digests by which the Hub knows a file's content."""

    blob_id: str
    """The SHA-1 of git's blob."""
    sha256: str
    """The Hub's digest of a large file."""


def read_checkout(folder: Path = ROOT) -> Checkout:
    """Reads a checkout. Raises `UserError` without git or a repository, and for a tracked file that is missing."""
    files = tuple(sorted(name for name in _git(folder, "ls-files", "-z").split("\0") if name))
    for name in files:
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise UserError(
                f"{name} is tracked by git, but there is no such file here; check it out again, or remove it from git."
            )
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{name} has more than {MAX_FILE_BYTES // 10**6} MB; remove it from git.")
    changed = _git(folder, "diff", "--name-only", "-z", "HEAD").split("\0")
    commit = _git(folder, "rev-parse", "--short=12", "HEAD").strip()
    return Checkout(folder, files, commit, tuple(sorted(name for name in changed if name)))


def digest(data: bytes) -> Digest:
    """Both digests of a content."""
    return Digest(hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(), hashlib.sha256(data).hexdigest())


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=_GIT_SECONDS,
            env=plain_environment(os.environ),
        )
    except FileNotFoundError as error:
        raise UserError("git is not installed, and it lists the project's files. Install it.") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines()
        raise UserError(
            f"{folder} is not a git repository with a commit ({lines[-1] if lines else 'git failed'}). Deploy from a "
            "clone."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"git did not answer within {_GIT_SECONDS} seconds; is {folder} on a slow disk?") from error
    return done.stdout
