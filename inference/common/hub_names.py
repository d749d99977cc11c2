"""Names on the Hub: of a repository that is written to, and of the tag and the branch that a run has there.

    >>> tag_of("20261122-143000-a1b2"), branch_of("20261122-143000-a1b2")
    ('20261122-143000-a1b2', 'run-20261122-143000-a1b2')
    >>> repository_problem("publish_to", "me/my adapter")
    "publish_to is 'me/my adapter'; give a repository of the Hub as owner/name: letters, digits, -, _ and ."

Standard library only.
"""

from __future__ import annotations

import re

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}")
_MAX_CHARS = 96
"""Of `owner/name`, by the Hub's own rule."""
_COMMIT = re.compile(r"[0-9a-fA-F]{7,40}")
_RESERVED = ("main", "HEAD")


def repository_problem(setting: str, value: str) -> str | None:
    """What is wrong with the name of a repository, in words that name the setting; `None` if nothing is."""
    is_name = _REPOSITORY.fullmatch(value) and len(value) <= _MAX_CHARS
    if is_name and "--" not in value and ".." not in value and not value.endswith((".git", ".ipynb")):
        return None
    return f"{setting} is {value[:120]!r}; give a repository of the Hub as owner/name: letters, digits, -, _ and ."


def tag_of(run: str) -> str:
    """The tag for the result of a run: its id, as far as git allows; never what could be a branch or a commit.

    >>> tag_of("my first run"), tag_of("main"), tag_of("deadbeef")
    ('my-first-run', 'run-main', 'run-deadbeef')
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+|\.lock$", "-", run).strip("-")[:80] or "unnamed"
    return f"run-{plain}" if plain in _RESERVED or _COMMIT.fullmatch(plain) else plain


def branch_of(run: str) -> str:
    """The branch that a run writes to where the main one belongs to another hand."""
    return f"run-{tag_of(run).removeprefix('run-')}"
