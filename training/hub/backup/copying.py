"""A folder and its copy, over several passes: only what has changed is read and copied.

    copy = Copy(Path("runs/20261122-143000-a1b2"), StateTree(Path("/state/runs/20261122-143000-a1b2")))
    with copy.passing():
        copy.take(["config.json", "metrics.jsonl"])
    copy.done.copied_bytes

A file is known by its size and the time of its last change. Files that only grow are copied by their tail.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from training.hub.backup.plain_file import open_plain
from training.hub.backup.snapshots import Changed, Kept, Part, StateTree, holds, is_path

GROWING = (".jsonl", ".log")
"""Files that are only appended to, or written anew."""
TRIES = 3
"""At a file that changes while it is read; after that the next pass comes to it."""
_LAST_LINE = 16_000_000


@dataclass(frozen=True)
class Mirrored:
    """What a pass did."""

    changed: int = 0
    """Files that were new, other or gone."""
    copied_bytes: int = 0


class Copy:
    """A folder and its copy, over several passes."""

    def __init__(self, source: Path, tree: StateTree) -> None:
        self.source, self.tree = source, tree
        self.done = Mirrored()
        self._seen: dict[str, int] = {}
        """Inodes: a file that has kept its own has only grown."""
        self._there: dict[str, int] = {}
        self._newest: Path | None = None
        self._before: dict[str, Kept] = {}
        self._now: dict[str, Kept] = {}

    @contextlib.contextmanager
    def passing(self) -> Iterator[Copy]:
        """One pass; the manifest is written at its end if anything has changed. Raises `OSError`."""
        self._begin()
        yield self
        differing = [n for n in self._now.keys() | self._before.keys() if self._now.get(n) != self._before.get(n)]
        if differing:
            self._newest = self.tree.write(self._now, self._there)
        self._before = self._now
        self.done = Mirrored(len(differing), self._copied)

    def _begin(self) -> None:
        newest = self.tree.newest_path()
        if newest is None or newest != self._newest:  # the first pass, or somebody else was here
            self._newest = newest
            manifests, sizes = self.tree.manifests(), self.tree.sizes()
            # What no manifest names may be half written: `put` looks into it before it is used.
            named = set().union(*(manifest.digests for manifest in manifests))
            self._there = {digest: size for digest, size in sizes.items() if digest in named}
            self._before = manifests[0].files if manifests else {}
        self._now, self._copied = {}, 0

    def take(self, names: Iterable[str]) -> None:
        """Copy these files; those that have gone meanwhile are left out."""
        for name in names:
            kept = self._take(name) if is_path(name) else None
            if kept is not None:
                self._now[name] = kept

    def take_all(self, names: list[str]) -> bool:
        """Copy these files, or none of them where one has gone meanwhile."""
        found = {}
        for name in names:
            kept = self._take(name)
            if kept is None:
                return False
            found[name] = kept
        self._now |= found
        return True

    def keep_as_before(self, prefix: str) -> None:
        """What the copy had under a prefix stays in it."""
        self._now |= {name: kept for name, kept in self._before.items() if name.startswith(prefix)}

    def _take(self, name: str) -> Kept | None:
        """`None` where there is no such plain file any more."""
        for _ in range(TRIES):
            try:
                file = open_plain(self.source / name)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
            with file, contextlib.suppress(Changed):
                return self._keep(name, file)
        return self._before.get(name)  # it changes all the time: as it was, until the next pass

    def _keep(self, name: str, file: BinaryIO) -> Kept:
        about = os.fstat(file.fileno())
        changed_ns = max(0, about.st_mtime_ns)
        before, inode = self._before.get(name), self._seen.get(name)
        size = _whole_lines(file, about.st_size) if name.endswith(".jsonl") else about.st_size
        is_same_file = inode in (None, about.st_ino)
        if before and before.size == size and before.mtime_ns == changed_ns and is_same_file:
            if self._has(before.parts):
                self._seen[name] = about.st_ino
                return before
        parts: list[Part] = []
        if before and name.endswith(GROWING) and before.size <= size and self._has(before.parts):
            if inode == about.st_ino or _begins_with(file, before.parts):
                parts = list(before.parts)
        kept = Kept(mtime_ns=changed_ns, parts=tuple(self._add(file, parts, size)))
        if not name.endswith(GROWING) and os.fstat(file.fileno()).st_mtime_ns != about.st_mtime_ns:
            raise Changed(name)
        self._seen[name] = about.st_ino
        return kept

    def _add(self, file: BinaryIO, parts: list[Part], size: int) -> list[Part]:
        """The tail as a piece that takes in the pieces before it that are no larger: so they stay few, and a file of n
        bytes costs n log n."""
        start = sum(part.size for part in parts)
        if start == size:
            return parts
        while parts and parts[-1].size <= size - start:
            start -= parts.pop().size
        known = len(self._there)
        parts.append(self.tree.put(file, start, size - start, self._there))
        self._copied += (size - start) * (len(self._there) > known)
        return parts

    def _has(self, parts: tuple[Part, ...]) -> bool:
        return all(self._there.get(part.digest) == part.size for part in parts)


def _whole_lines(file: BinaryIO, size: int) -> int:
    """How many of the first `size` bytes are whole lines: the last one may be half written."""
    end = size
    while end and size - end < _LAST_LINE:
        start = max(0, end - 65_536)
        file.seek(start)
        at = file.read(end - start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return size if end else 0


def _begins_with(file: BinaryIO, parts: tuple[Part, ...]) -> bool:
    start = 0
    for part in parts:
        if not holds(part, file, start):
            return False
        start += part.size
    return True
