"""Names on the Hub: of repositories, of adapters at a revision, and of the tag and the branch of a run.

    >>> tag_of("20261122-143000-a1b2"), branch_of("20261122-143000-a1b2")
    ('20261122-143000-a1b2', 'run-20261122-143000-a1b2')
    >>> repository_problem("publish_to", "me/my adapter")
    "publish_to is 'me/my adapter'; give a repository of the Hub as owner/name: letters, digits, -, _ and ."

Standard library only.
"""

from __future__ import annotations

import re

HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
"""`owner/name` of something that may be on the Hub."""
ADAPTER_ID = re.compile(rf"{HUB_ID.pattern}(@[A-Za-z0-9_][\w./-]*)?", re.ASCII)
"""`owner/name`, or `owner/name@revision`."""
MAX_HUB_CHARS = 96
"""Of `owner/name`, by the Hub's own rule."""
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_NEW_ID = re.compile(rf"{_PART}/{_PART}")
_COMMIT = re.compile(r"[0-9a-fA-F]{7,40}")
_RESERVED = ("main", "HEAD")


def is_hub_name(name: str) -> bool:
    """True if the Hub accepts it for something new: its form, its length, and the names that git reserves.

    >>> is_hub_name("me/adapter"), is_hub_name("me/adapter.git"), is_hub_name("me/a--b")
    (True, False, False)
    """
    is_whole = _NEW_ID.fullmatch(name) is not None and len(name) <= MAX_HUB_CHARS
    return is_whole and "--" not in name and ".." not in name and not name.endswith((".git", ".ipynb"))


def repository_problem(setting: str, value: str) -> str | None:
    """The problem with a repository's name, in words that name the setting; `None` if there is none."""
    if is_hub_name(value):
        return None
    return f"{setting} is {value[:120]!r}; give a repository of the Hub as owner/name: letters, digits, -, _ and ."


def tag_of(run: str) -> str:
    """The tag for the result of a run: its id, as far as git allows; never the form of a branch or a commit.

    >>> tag_of("my first run"), tag_of("main"), tag_of("deadbeef")
    ('my-first-run', 'run-main', 'run-deadbeef')
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+|\.lock$", "-", run).strip("-")[:80] or "unnamed"
    return f"run-{plain}" if plain in _RESERVED or _COMMIT.fullmatch(plain) else plain


def branch_of(run: str) -> str:
    """The branch that a run writes to if somebody else has written to the main one."""
    return f"run-{tag_of(run).removeprefix('run-')}"
