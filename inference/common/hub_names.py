"""Names on the Hub: repositories as owner/name, and the tag and the branch of a run.

    >>> is_hub_name("me/adapter"), is_hub_name("me/adapter.git"), is_hub_name("me/a--b")
    (True, False, False)
    >>> split_revision("me/adapter@v1"), split_revision("me/adapter"), split_revision("adapter")
    (('me/adapter', 'v1'), ('me/adapter', None), None)
    >>> tag_of("20261122-143000-a1b2"), branch_of("20261122-143000-a1b2")
    ('20261122-143000-a1b2', 'run-20261122-143000-a1b2')

Standard library only.
"""

from __future__ import annotations

import re

MAX_CHARS = 96
"""Of `owner/name`, by the Hub's own rule."""
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_PART}/{_PART}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
"""The full id of a commit."""
_ANY_COMMIT = re.compile(r"[0-9a-fA-F]{7,40}")
"""A commit, or its first characters, which git takes for it."""
_RESERVED = ("main", "HEAD")


def is_hub_name(name: str) -> bool:
    """True if the Hub takes this as `owner/name`, by its characters, its length, and the endings that git reserves."""
    has_form = _NAME.fullmatch(name) is not None and len(name) <= MAX_CHARS
    return has_form and "--" not in name and ".." not in name and not name.endswith((".git", ".ipynb"))


def split_revision(text: str) -> tuple[str, str | None] | None:
    """The parts of `owner/name` or `owner/name@revision`; `None` for any other text."""
    name, at, revision = text.partition("@")
    is_revision = _REVISION.fullmatch(revision) is not None and ".." not in revision
    return (name, revision or None) if is_hub_name(name) and (is_revision or not at) else None


def repository_problem(setting: str, value: str) -> str | None:
    """A sentence that names the setting and its wrong value; `None` for a valid name of a repository."""
    if is_hub_name(value):
        return None
    return f"{setting} is {value[:120]!r}; give a repository of the Hub as owner/name: letters, digits, -, _ and ."


def tag_of(run: str) -> str:
    """The tag for the result of a run: its id, as far as git allows, but never a possible branch or commit.

    >>> tag_of("my first run"), tag_of("main"), tag_of("deadbeef")
    ('my-first-run', 'run-main', 'run-deadbeef')
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+|\.lock$", "-", run).strip("-")[:80] or "unnamed"
    return f"run-{plain}" if plain in _RESERVED or _ANY_COMMIT.fullmatch(plain) else plain


def branch_of(run: str) -> str:
    """The branch that a run writes to where somebody else wrote to the main branch last."""
    return f"run-{tag_of(run).removeprefix('run-')}"
