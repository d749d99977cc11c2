"""Copies of a folder where nothing can be appended to, locked or renamed, such as a bucket's mount.

    STATE/runs/20261122-143000-a1b2/
        00000012-a1b2c3/metrics.jsonl       what pass 12 copied: a file, or its new end; never changed, only deleted
        manifest-00000012-a1b2c3.json       the files of the whole copy with their SHA-256; written last

A manifest whose files are all there is a whole copy; what a kill leaves half written is in no manifest. The newest
`NUM_MANIFESTS` stay, each with its files. `HfApi.sync_bucket` would not do: it writes over the files of the copy
before, one by one, so that a kill leaves neither. Manifests of earlier versions name pieces under `content/`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, model_validator

NUM_MANIFESTS = 3
"""Manifests that stay; a reader who sees an older listing of the bucket still finds a whole one."""
LEFT_OVER_SECONDS = 86_400.0
"""Files that no manifest names are deleted at this age: those of a pass that was killed."""
GROWING = (".jsonl", ".log")
"""Files that are only appended to, or written anew: such a file may grow while it is copied."""
_MERGE_BITS = 4
"""Pieces of a growing file are merged by 16: a byte is written again each time its piece has grown 16-fold."""
NUM_TRIES = 3
"""Tries to copy a file that changes while it is read; after that the copy before stays until the next pass."""
_MANIFEST = re.compile(r"manifest-(\d{8})-[0-9a-f]{6}\.json")
_MAX_MANIFEST_BYTES = 100_000_000
_MAX_LINE_BYTES = 16_000_000
_CHUNK = 1 << 20
_NO_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
_SEGMENT = re.compile(r"[^\x00-\x1f\x7f/\\]{1,200}")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Strict):
    """A piece of a file: the whole file, unless that has grown between passes."""

    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    path: str = ""
    """Below the folder of the copy; empty in copies of earlier versions: `content/<digest>`."""

    @property
    def where(self) -> str:
        """The path below the folder of the copy."""
        return self.path or f"content/{self.digest}"


class StoredFile(_Strict):
    """One file: its pieces in order, and its time of change in nanoseconds, by its file system."""

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
    """Seconds since 1970, by the clock of the machine that copied."""
    files: dict[str, StoredFile] = {}

    @model_validator(mode="after")
    def _paths_stay_inside(self) -> Manifest:
        for name in [*self.files, *(part for path in self.paths for part in path.partition("/")[::2])]:
            if not is_path(name):
                raise ValueError(f"{name[:200]!r} is no path of a file inside the folder")
        for name in self.files:
            above = name
            while above := above.rpartition("/")[0]:
                if above in self.files:
                    raise ValueError(f"{above[:200]!r} is a file, and no folder")
        return self

    @property
    def paths(self) -> set[str]:
        """The paths of all pieces."""
        return {part.where for file in self.files.values() for part in file.parts}


class CopyFolder:
    """The folder of one copy."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def manifests(self) -> list[Manifest]:
        """Those that were written to the end, the newest first."""
        return [manifest for path in self._manifest_paths() if (manifest := _read_manifest(path)) is not None]

    def newest_path(self) -> Path | None:
        """The file of the newest manifest, whole or not."""
        return next(iter(self._manifest_paths()), None)

    def sizes(self) -> dict[str, int]:
        """The size of each plain file, by its path below the folder."""
        sizes = {}
        for parent, _, names in os.walk(self.path):
            for name in names:
                path = Path(parent) / name
                with contextlib.suppress(OSError):
                    if stat.S_ISREG((about := path.lstat()).st_mode):
                        sizes[path.relative_to(self.path).as_posix()] = about.st_size
        return sizes

    def read(self, part: Part) -> Iterator[bytes]:
        """The content of a piece. Raises `ValueError` at its end where it is not what was copied, `OSError` where it
        cannot be read; the bytes so far must then not be used."""
        digest, num_missing = hashlib.sha256(), part.size
        with open_plain(self.path / part.where) as file:
            while num_missing >= 0 and (chunk := file.read(_CHUNK)):
                digest.update(chunk)
                num_missing -= len(chunk)
                yield chunk
        if num_missing or digest.hexdigest() != part.digest:
            raise ValueError(f"{part.where} was not copied whole")

    def write(self, path: str, source: BinaryIO, start: int, size: int) -> Part | None:
        """Copies `size` bytes of an open file from `start` on; `None` where it ends before. Raises `OSError`."""
        digest, num_missing = hashlib.sha256(), size

        def chunks() -> Iterator[bytes]:
            nonlocal num_missing
            source.seek(start)
            while chunk := source.read(min(_CHUNK, num_missing)):
                digest.update(chunk)
                num_missing -= len(chunk)
                yield chunk

        write_stream(self.path / path, chunks())
        return None if num_missing else Part(digest=digest.hexdigest(), size=size, path=path)

    def write_manifest(self, name: str, files: dict[str, StoredFile]) -> Path:
        """Writes the manifest of the pass `name`, after all of its files; deletes what no manifest needs any more."""
        body = Manifest(number=int(name[:8]), at=round(time.time(), 3), files=files).model_dump(mode="json")
        path = self.path / f"manifest-{name}.json"
        write_stream(path, [json.dumps({"manifest": body, "digest": digest_of(body)}).encode()])
        paths = self._manifest_paths()
        needed = set[str]().union(*(m.paths for p in paths[:NUM_MANIFESTS] if (m := _read_manifest(p)) is not None))
        for old in paths[NUM_MANIFESTS:]:
            manifest = _read_manifest(old)
            old.unlink(missing_ok=True)
            self._unlink(manifest.paths - needed if manifest else ())
        return path

    def delete_left_overs(self, sizes: dict[str, int], manifests: list[Manifest]) -> None:
        """Deletes old files that no manifest names."""
        needed, oldest = set[str]().union(*(m.paths for m in manifests)), time.time() - LEFT_OVER_SECONDS
        for path in sizes.keys() - needed:
            with contextlib.suppress(OSError):
                if not _MANIFEST.fullmatch(path) and (self.path / path).stat().st_mtime < oldest:
                    self._unlink([path])

    def delete(self) -> None:
        """Deletes all of it, the manifests first: half a copy is never taken for one."""
        for path in self._manifest_paths():
            path.unlink(missing_ok=True)
        self._unlink(self.sizes())
        with contextlib.suppress(OSError):  # one that is not empty yet goes later
            self.path.rmdir()

    def _manifest_paths(self) -> list[Path]:
        """The newest first."""
        try:
            names = os.listdir(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [self.path / name for name in sorted(filter(_MANIFEST.fullmatch, names), reverse=True)]

    def _unlink(self, paths: Iterable[str]) -> None:
        """Deletes files, and folders that they leave empty; a bucket has no folders of its own."""
        for path in paths:
            (self.path / path).unlink(missing_ok=True)
            for folder in (self.path / path).parents:
                if folder == self.path:
                    break
                with contextlib.suppress(OSError):  # it is not empty
                    folder.rmdir()


@dataclass(frozen=True)
class Copied:
    """The work of a pass."""

    num_changed: int = 0
    """Files that were new, changed or deleted."""
    num_bytes: int = 0


class Copier:
    """Copies a folder again and again; a file is copied where its size or its time of change is another.

    Of a file that was only appended to, its new end is copied.
    """

    def __init__(self, source: Path, target: CopyFolder) -> None:
        self.source, self.target = source, target
        self._manifest_path: Path | None = None
        self._before: dict[str, StoredFile] = {}
        self._files: dict[str, StoredFile] = {}
        self._num_bytes = 0
        self._pass = ""

    def begin(self) -> None:
        """Begins a pass. Raises `OSError`."""
        newest = self.target.newest_path()
        if newest is None or newest != self._manifest_path:  # the first pass, or another process has copied
            manifests, sizes = self.target.manifests(), self.target.sizes()
            self.target.delete_left_overs(sizes, manifests)
            files = manifests[0].files if manifests else {}
            self._before = {
                name: file for name, file in files.items() if all(sizes.get(p.where) == p.size for p in file.parts)
            }
            self._manifest_path = newest
        match = _MANIFEST.fullmatch(newest.name) if newest else None
        self._pass = f"{int(match[1]) + 1 if match else 1:08d}-{secrets.token_hex(3)}"
        self._files, self._num_bytes = {}, 0

    def copy(self, names: Iterable[str]) -> None:
        """Copies these files; those that are deleted meanwhile are left out. Raises `OSError`."""
        for name in names:
            file = self._copy(name) if is_path(name) else None
            if file is not None:
                self._files[name] = file

    def copy_all(self, names: list[str]) -> bool:
        """Copies these files, or none of them where one is deleted meanwhile; true if it did. Raises `OSError`."""
        files = {name: self._copy(name) for name in names}
        self._files |= {name: file for name, file in files.items() if file is not None and None not in files.values()}
        return None not in files.values()

    def keep_as_before(self, prefix: str) -> None:
        """Keeps in the copy what it has under a prefix."""
        self._files |= {name: file for name, file in self._before.items() if name.startswith(prefix)}

    def end(self) -> Copied:
        """Ends a pass; writes its manifest if anything has changed. Raises `OSError`."""
        before, now = self._before, self._files
        num_changed = sum(now.get(name) != before.get(name) for name in now.keys() | before.keys())
        if num_changed:
            self._manifest_path = self.target.write_manifest(self._pass, now)
        self._before = now
        return Copied(num_changed, self._num_bytes)

    def _copy(self, name: str) -> StoredFile | None:
        """`None` where there is no such plain file any more."""
        for _ in range(NUM_TRIES):
            try:
                file = open_plain(self.source / name)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
            with file:
                about, before = os.fstat(file.fileno()), self._before.get(name)
                mtime_ns = max(0, about.st_mtime_ns)
                size = _size_of_whole_lines(file, about.st_size) if name.endswith(".jsonl") else about.st_size
                if before and (before.size, before.mtime_ns) == (size, mtime_ns):
                    return before
                is_growing = name.endswith(GROWING)
                parts: tuple[Part, ...] = ()
                if before and is_growing and before.size <= size and _begins_with(file, before.parts):
                    parts = _parts_to_keep(before.parts, size)
                start = sum(part.size for part in parts)
                if start == size and parts:
                    return StoredFile(mtime_ns=mtime_ns, parts=parts)
                part = self.target.write(f"{self._pass}/{name}", file, start, size - start)
                is_same = os.fstat(file.fileno()).st_mtime_ns == about.st_mtime_ns
                if part is not None and (is_same or is_growing):
                    self._num_bytes += part.size
                    return StoredFile(mtime_ns=mtime_ns, parts=(*parts, part))
        return self._before.get(name)  # it changes all the time: as it was, until the next pass


def is_path(name: str) -> bool:
    """True for the path of a file inside a folder that is short enough for every disk."""
    segments = name.split("/")
    try:
        is_short = len(segments) <= 20 and len(name.encode()) <= 1_000 and all(len(s.encode()) <= 240 for s in segments)
    except UnicodeEncodeError:  # half a character
        return False
    return is_short and all(segment not in (".", "..") and _SEGMENT.fullmatch(segment) for segment in segments)


def open_plain(path: Path) -> BinaryIO:
    """Opens a plain file to be read; `FileNotFoundError` for a link, a pipe or anything else."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if path.is_symlink():
            raise FileNotFoundError(path) from error
        raise
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise FileNotFoundError(path)
    return os.fdopen(number, "rb")


def write_stream(path: Path, chunks: Iterable[bytes]) -> None:
    """Writes a file from the first byte to the last, and closes it: all that a bucket's mount can do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in _NO_FSYNC:
                raise


def digest_of(body: object) -> str:
    """The SHA-256 of a manifest's JSON value."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _read_manifest(path: Path) -> Manifest | None:
    """`None` for one that is half written, or is none of ours."""
    try:
        with open_plain(path) as file:
            text = file.read(_MAX_MANIFEST_BYTES)
        value = json.loads(text)
        body = value["manifest"]
        return Manifest.model_validate(body) if digest_of(body) == value["digest"] else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _begins_with(file: BinaryIO, parts: tuple[Part, ...]) -> bool:
    """True if the file begins with the content of these pieces."""
    file.seek(0)
    for part in parts:
        digest, num_missing = hashlib.sha256(), part.size
        while chunk := file.read(min(_CHUNK, num_missing)):
            digest.update(chunk)
            num_missing -= len(chunk)
        if num_missing or digest.hexdigest() != part.digest:
            return False
    return True


def _parts_to_keep(parts: tuple[Part, ...], size: int) -> tuple[Part, ...]:
    """The pieces of a file that stay now that it has grown to `size` bytes; the rest of it becomes one new piece.

    When 15 pieces before the new one are of its order of magnitude or smaller, it takes them in: pieces stay few.
    """
    while tail := size - sum(part.size for part in parts):
        magnitude, num_small = tail.bit_length() // _MERGE_BITS, 0
        while num_small < len(parts) and parts[-1 - num_small].size.bit_length() // _MERGE_BITS <= magnitude:
            num_small += 1
        if num_small < 2**_MERGE_BITS - 1:
            break
        parts = parts[:-num_small]
    return parts


def _size_of_whole_lines(file: BinaryIO, size: int) -> int:
    """The bytes of the whole lines among the first `size` bytes: the last line may be half written."""
    end = size
    while end and size - end < _MAX_LINE_BYTES:
        start = max(0, end - 65_536)
        file.seek(start)
        at = file.read(end - start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return size if end else 0
