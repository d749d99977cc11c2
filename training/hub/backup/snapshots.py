"""A folder's files as they are kept where nothing can be appended to, locked or renamed, such as a bucket's mount.

    STATE/runs/20261122-143000-a1b2/
        content/3f9c0d…                   pieces of files, named by their SHA-256; never changed, only deleted
        manifest-00000012-a1b2c3.json     which pieces make which file; written last, with a digest of itself

A manifest whose pieces are all there is a whole copy. It is never written over: the next one stands beside it under a
higher number, and the newest `KEPT` stay, each with its pieces. What a kill leaves half written is in no manifest.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, field_validator

from training.hub.backup.plain_file import open_plain

KEPT = 3
"""Manifests that stay; a reader who sees an older listing of the bucket still finds a whole one."""
LEFT_OVER_SECONDS = 86_400.0
"""Pieces that no manifest names are deleted at this age: those of a pass that was killed."""
_MANIFEST = re.compile(r"manifest-(\d{8})-[0-9a-f]{6}\.json")
_MAX_MANIFEST_BYTES = 100_000_000
_MAX_PATH_BYTES = 1_000
_CHUNK = 1 << 20
_NO_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
_SEGMENT = re.compile(r"[^\x00-\x1f\x7f/\\]{1,200}")


class Changed(Exception):
    """A file was changed while it was read."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Strict):
    """A piece of a file."""

    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Kept(_Strict):
    """One file: its pieces in order, and when it was changed last, in nanoseconds, as its file system said."""

    mtime_ns: int = Field(ge=0, lt=2**63)
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(part.size for part in self.parts)


class Manifest(_Strict):
    """A whole copy of a folder."""

    number: int = Field(0, ge=0, lt=10**8)
    at: Annotated[float, Field(ge=0)] = 0.0
    files: dict[str, Kept] = {}

    @field_validator("files")
    @classmethod
    def _paths_stay_inside(cls, files: dict[str, Kept]) -> dict[str, Kept]:
        for name in files:
            if not is_path(name):
                raise ValueError(f"{name[:200]!r} is no path of a file inside the folder")
            above = name
            while above := above.rpartition("/")[0]:
                if above in files:
                    raise ValueError(f"{above[:200]!r} is a file, and no folder")
        return files

    @property
    def digests(self) -> set[str]:
        """Of all its pieces."""
        return {part.digest for kept in self.files.values() for part in kept.parts}


class StateTree:
    """One folder's copy."""

    def __init__(self, path: Path) -> None:
        self.path, self.content = path, path / "content"

    def manifests(self) -> list[Manifest]:
        """Those that were written to the end, the newest first."""
        found = (_read_manifest(path) for path in self._manifest_paths())
        return [manifest for manifest in found if manifest is not None]

    def sizes(self) -> dict[str, int]:
        """Of the pieces that are there, by digest."""
        found = {}
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self.content):
                with contextlib.suppress(OSError):
                    if entry.is_file(follow_symlinks=False):
                        found[entry.name] = entry.stat().st_size
        return found

    def put(self, source: BinaryIO, start: int, size: int, there: dict[str, int]) -> Part:
        """Keep `size` bytes of an open file from `start` on. `there` says what is there, and is brought up to date.

        Raises `Changed` if the file changes meanwhile.
        """
        digest = hashlib.sha256()
        for piece in _pieces(source, start, size):
            digest.update(piece)
        part = Part(digest=digest.hexdigest(), size=size)
        if there.get(part.digest) != size:
            self._write(part, _pieces(source, start, size))
            there[part.digest] = size
        return part

    def read(self, part: Part) -> Iterator[bytes]:
        """A piece's content. Raises `ValueError` at its end where it is not what it was, `OSError` if it is not there.

        What was given until then must not be used.
        """
        digest, left = hashlib.sha256(), part.size
        with open_plain(self.content / part.digest) as file:
            while piece := file.read(_CHUNK):
                digest.update(piece)
                left -= len(piece)
                if left < 0:
                    break
                yield piece
        if left or digest.hexdigest() != part.digest:
            raise ValueError(f"{part.digest} was not copied whole")

    def is_sound(self, part: Part) -> bool:
        """Whether a piece is there as it was."""
        try:
            return all(True for _ in self.read(part))
        except (OSError, ValueError):
            return False

    def newest_path(self) -> Path | None:
        """The newest manifest's file, whole or not; another one says that somebody has written here."""
        return next(iter(self._manifest_paths()), None)

    def write(self, files: dict[str, Kept], there: dict[str, int]) -> Path:
        """A new manifest's file, after all of its pieces; what is not needed any more is deleted, in `there` too."""
        paths = self._manifest_paths()
        last = int(_MANIFEST.fullmatch(paths[0].name)[1]) if paths else 0  # type: ignore[index]
        manifest = Manifest(number=last + 1, at=round(time.time(), 3), files=files)
        body = manifest.model_dump(mode="json")
        text = json.dumps({"manifest": body, "digest": _digest_of(body)})
        name = f"manifest-{manifest.number:08d}-{secrets.token_hex(3)}.json"
        _write_stream(self.path / name, [text.encode()])
        for digest in self._collect():
            there.pop(digest, None)
        return self.path / name

    def delete(self) -> None:
        """All of it, the manifests first: half a copy is never taken for one."""
        for path in self._manifest_paths():
            path.unlink(missing_ok=True)
        for digest in self.sizes():
            (self.content / digest).unlink(missing_ok=True)
        for folder in (self.content, self.path):
            with contextlib.suppress(OSError):  # a bucket has no folders of its own; one not empty yet goes later
                folder.rmdir()

    def _manifest_paths(self) -> list[Path]:
        """The newest first."""
        try:
            names = os.listdir(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [self.path / name for name in sorted(filter(_MANIFEST.fullmatch, names), reverse=True)]

    def _write(self, part: Part, pieces: Iterator[bytes]) -> None:
        path = self.content / part.digest
        if path.exists() and self.is_sound(part):  # left by a pass that was killed before its manifest
            return
        digest = hashlib.sha256()

        def counted() -> Iterator[bytes]:
            for piece in pieces:
                digest.update(piece)
                yield piece

        _write_stream(path, counted())
        if digest.hexdigest() != part.digest:
            path.unlink(missing_ok=True)
            raise Changed(path.name)

    def _collect(self) -> list[str]:
        """Delete manifests beyond the newest, the pieces that only they had, and old ones that none has."""
        paths = self._manifest_paths()
        kept = [m for m in map(_read_manifest, paths[:KEPT]) if m is not None]
        needed = set().union(*(manifest.digests for manifest in kept))
        dropped: set[str] = set()
        for path in paths[KEPT:]:
            old = _read_manifest(path)
            dropped |= old.digests if old else set()
            path.unlink(missing_ok=True)
        oldest, gone = time.time() - LEFT_OVER_SECONDS, []
        for digest in self.sizes().keys() - needed:
            path = self.content / digest
            with contextlib.suppress(OSError):
                if digest in dropped or path.stat().st_mtime < oldest:
                    path.unlink()
                    gone.append(digest)
        return gone


def is_path(name: str) -> bool:
    """Whether this is the path of a file inside a folder, as a manifest may name it."""
    segments = name.split("/")
    is_short = len(segments) <= 20 and len(name.encode(errors="replace")) <= _MAX_PATH_BYTES
    return is_short and all(s not in (".", "..") and _SEGMENT.fullmatch(s) and _is_short(s) for s in segments)


def _is_short(segment: str) -> bool:
    """As a name that every disk takes."""
    try:
        return len(segment.encode()) <= 240
    except UnicodeEncodeError:  # half a character
        return False


def holds(part: Part, source: BinaryIO, start: int) -> bool:
    """Whether an open file has this piece from `start` on."""
    digest = hashlib.sha256()
    try:
        for piece in _pieces(source, start, part.size):
            digest.update(piece)
    except Changed:
        return False
    return digest.hexdigest() == part.digest


def _pieces(source: BinaryIO, start: int, size: int) -> Iterator[bytes]:
    """Raises `Changed` where the file ends before."""
    source.seek(start)
    left = size
    while left:
        piece = source.read(min(_CHUNK, left))
        if not piece:
            raise Changed(getattr(source, "name", "the file"))
        left -= len(piece)
        yield piece


def _write_stream(path: Path, pieces: Any) -> None:
    """From the first byte to the last, and closed: all that a bucket's mount can do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in _NO_FSYNC:
                raise


def _read_manifest(path: Path) -> Manifest | None:
    """`None` for one that is half written, or is none of ours."""
    try:
        with open_plain(path) as file:
            text = file.read(_MAX_MANIFEST_BYTES + 1)
        if len(text) > _MAX_MANIFEST_BYTES:
            return None
        found = json.loads(text)
        body = found["manifest"]
        return Manifest.model_validate(body) if _digest_of(body) == found["digest"] else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _digest_of(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
