"""The repositories of a Hub in memory: each a line of commits, a commit a mapping of paths to bytes."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.hub.faults import Fault

Files = dict[str, bytes]


@dataclass
class Repo:
    """A repository: its commits, and the names that point at them."""

    kind: str
    """`dataset`, `model` or `space`."""
    id: str
    gated: bool = False
    """Anybody sees that it is there; only readers get its files."""
    private: bool = False
    """Only readers see it."""
    readers: set[str] = field(default_factory=set)
    """Names of users who may read a gated or private repository."""
    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    """Branches to commits."""
    tags: dict[str, str] = field(default_factory=dict)
    """Tags to commits."""
    messages: dict[str, str] = field(default_factory=dict)
    """Commits to the first lines of their messages."""
    parents: dict[str, str] = field(default_factory=dict)
    """Commits to the commits that they were made on; the first has none."""
    about: dict[str, Any] = field(default_factory=dict)
    """What else is told of it where it is asked for by name."""

    def commit(self, files: Mapping[str, bytes | None], branch: str = "main", message: str = "") -> str:
        """Add, replace or (with `None`) delete files on a branch; returns the new commit."""
        tree = dict(self.commits.get(self.refs.get(branch, ""), {}))
        for path, data in files.items():
            if data is None:
                tree.pop(path, None)
            else:
                tree[path] = data
        content = repr((self.id, len(self.commits), sorted((p, blob_id(d)) for p, d in tree.items())))
        sha = hashlib.sha1(content.encode()).hexdigest()
        self.commits[sha] = tree
        if branch in self.refs:
            self.parents[sha] = self.refs[branch]
        self.messages[sha] = message
        self.refs[branch] = sha
        return sha

    def line(self, sha: str) -> list[str]:
        """A commit and those before it, the newest first."""
        found = [sha]
        while found[-1] in self.parents:
            found.append(self.parents[found[-1]])
        return found

    def resolve(self, revision: str) -> str | None:
        """The commit of a branch, a tag, a commit or its first seven or more digits."""
        if revision in self.refs or revision in self.tags:
            return self.refs.get(revision) or self.tags[revision]
        if not re.fullmatch("[0-9a-f]{7,40}", revision):
            return None
        return next((sha for sha in self.commits if sha.startswith(revision)), None)


@dataclass
class Hub:
    """All repositories, the tokens it knows, and what it was asked."""

    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    """Tokens to the names of their users."""
    roles: dict[str, dict[str, str]] = field(default_factory=dict)
    """Users to the organisations that they are in, and their roles there."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of every request so far."""
    failure: int | None = None
    """A status with which everything is answered from now on."""
    faults: list[Fault] = field(default_factory=list)
    """What goes wrong, and where."""
    uploads: dict[str, bytes] = field(default_factory=dict)
    """Large files that were uploaded, by their SHA-256."""
    more: dict[str, Any] = field(default_factory=dict)
    """What the routes of Spaces, Jobs and buckets keep, each under its own name."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    """Held while something changes: requests come in parallel."""

    def repo(self, kind: str, id: str, **options: Any) -> Repo:
        """The repository of that name, made if there is none."""
        return self.repos.setdefault((kind, id), Repo(kind, id, **options))

    def may_write(self, user: str | None, id: str) -> bool:
        """Whether the name before the slash is the user, or an organisation in which they may write."""
        owner = id.split("/")[0]
        return user is not None and (owner == user or self.roles.get(user, {}).get(owner) in ("admin", "write"))


def is_large(path: str, data: bytes) -> bool:
    """Whether a file is kept apart (LFS), as the attributes of a new repository say."""
    return path.endswith((".safetensors", ".bin", ".pt", ".npy", ".parquet", ".zip")) or len(data) > 10_000_000


def sha256(data: bytes) -> str:
    """The digest by which the Hub knows a large file."""
    return hashlib.sha256(data).hexdigest()


def blob_id(data: bytes) -> str:
    """The id that git gives a file of this content; the Hub's ETag."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
