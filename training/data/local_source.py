"""Rows from files on this machine: a folder of pictures with `metadata.jsonl`, JSONL files, or Parquet files.

A folder may hold `metadata.jsonl` itself, have a folder for each split that does, or hold files named after their
split: `train.jsonl`, `test.parquet`, `data/train-00000-of-00002.parquet`. Everything is streamed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from inference.common.errors import UserError, first_line
from inference.common.settings import load_settings
from training.data.clean_row import Refusal
from training.data.source import Cells, RawRow, cells_of, digest, no_such_split

MAX_LINE_BYTES = 64 * 2**20
"""Longer lines of JSON are refused."""
MAX_FILES = 500_000
"""Files that are looked at to tell whether a folder has changed."""
BATCH_ROWS = 16
"""Rows of a Parquet file in memory at once."""
_SUFFIXES = (".jsonl", ".ndjson", ".parquet")
_SHARD = re.compile(r"(?P<split>\w+?)(?:-\d{5}-of-\d{5}|[-_]\d+)?")


class JsonLines:
    """One JSONL file; only the positions of its lines are in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts = array("Q")
        with path.open("rb") as file:
            start = 0
            while line := _read_line(file):
                if line.strip():
                    self._starts.append(start)
                start = file.tell()

    def __len__(self) -> int:
        return len(self._starts)

    def columns(self) -> list[str]:
        """The keys of the first hundred readable rows, in their order."""
        names: dict[str, None] = {}
        for _, row in self.rows(range(min(100, len(self))), ()):
            names |= dict.fromkeys(row) if not isinstance(row, Refusal) else {}
        return list(names)

    def rows(self, positions: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        """The rows at `positions`; a line that is not a JSON object is a refusal."""
        with self.path.open("rb") as file:
            for at in positions:
                file.seek(self._starts[at])
                yield at, _parse(_read_line(file))


class ParquetRows:
    """One Parquet file, read a few rows at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path.name} is not a readable Parquet file: {first_line(error)}") from error

    def __len__(self) -> int:
        return self._file.metadata.num_rows

    def columns(self) -> list[str]:
        """The names in its schema."""
        return list(self._file.schema_arrow.names)

    def rows(self, positions: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        """The rows at `positions`; other row groups are not read."""
        first = 0
        for group in range(self._file.metadata.num_row_groups):
            size = self._file.metadata.row_group(group).num_rows
            here = {at - first for at in positions if first <= at < first + size}
            if here:
                try:
                    yield from ((first + at, row) for at, row in self._group(group, here, columns))
                except (pa.ArrowException, OSError) as error:
                    detail = f"{self.path.name}, row group {group}: {first_line(error)}"
                    raise UserError(f"The dataset is damaged: {detail}. Download or write it again.") from error
            first += size

    def _group(self, group: int, here: set[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        at = 0
        names = [name for name in columns if name in self._file.schema_arrow.names]
        for batch in self._file.iter_batches(BATCH_ROWS, row_groups=[group], columns=names, use_threads=False):
            yield from ((at + i, cells_of(batch, i)) for i in range(batch.num_rows) if at + i in here)
            at += batch.num_rows


class LocalSource:
    """Files on this machine."""

    revision: str | None = None

    def __init__(self, path: Path, splits: Sequence[str]) -> None:
        if not path.exists():
            raise UserError(
                f"There is no dataset {path}: no such file or folder, and it is not a Hub id (owner/name). "
                "Check the name, or use `starter`."
            )
        paths = _find(path)
        for split in splits:
            if split not in paths:
                raise no_such_split(path.name, split, list(paths))
        self.names = list(paths)
        self._files = {split: [_open(file) for file in paths[split]] for split in splits}
        self.sizes = {split: sum(map(len, files)) for split, files in self._files.items()}
        self.identity = _identity(path if path.is_dir() else path.parent)

    def columns(self, split: str) -> list[str]:
        """The columns of its first file, then further ones of later files."""
        return list(dict.fromkeys(name for file in self._files[split] for name in file.columns()))

    def rows(self, split: str, positions: Sequence[int], columns: Sequence[str]) -> Iterator[RawRow]:
        """The rows at increasing positions; a picture's path is relative to its file's folder and stays in it."""
        first = 0
        for file in self._files[split]:
            here = [at - first for at in positions if first <= at < first + len(file)]
            for at, cells in file.rows(here, columns):
                yield RawRow(first + at, cells, file.path.parent)
            first += len(file)


def _find(path: Path) -> dict[str, list[Path]]:
    """The data files of each split."""
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            raise UserError(f"{path.name} is neither JSONL nor Parquet; write one JSON object a line, or Parquet.")
        return {"train": [path]}
    if (path / "metadata.jsonl").is_file():
        return {"train": [path / "metadata.jsonl"]}
    folders = sorted(child.name for child in path.iterdir() if (child / "metadata.jsonl").is_file())
    if folders:
        return {name: [path / name / "metadata.jsonl"] for name in folders}
    by_split: dict[str, list[Path]] = {}
    for file in sorted([*path.glob("*"), *path.glob("data/*")]):
        if file.suffix in _SUFFIXES and file.is_file() and (match := _SHARD.fullmatch(file.stem)):
            by_split.setdefault(match["split"], []).append(file)
    if not by_split:
        raise UserError(
            f"There is no data in the folder {path.name}: no metadata.jsonl, and no JSONL or Parquet file. "
            'Write metadata.jsonl with lines such as {"file_name": "1.png", "problem": "…", "solution": "…"}.'
        )
    return by_split


def _open(path: Path) -> JsonLines | ParquetRows:
    try:
        return ParquetRows(path) if path.suffix == ".parquet" else JsonLines(path)
    except OSError as error:
        raise UserError(f"{path.name} cannot be read: {error.strerror}. Check its permissions.") from error


def _read_line(file: BinaryIO) -> bytes:
    """The next line; of one that is too long, the first `MAX_LINE_BYTES` + 1 bytes, and the rest is skipped."""
    line = file.readline(MAX_LINE_BYTES + 1)
    if len(line) > MAX_LINE_BYTES:
        while (more := file.readline(MAX_LINE_BYTES)) and not more.endswith(b"\n"):
            pass
    return line


def _parse(line: bytes) -> Cells:
    if len(line) > MAX_LINE_BYTES:
        return Refusal("row unreadable", f"the line has more than {MAX_LINE_BYTES:,} bytes")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Refusal("row unreadable", f"not JSON: {first_line(error)}")
    return row if isinstance(row, dict) else Refusal("row unreadable", f"a {type(row).__name__}, not an object")


def _identity(folder: Path) -> str:
    """A digest of the names, sizes and times of the files under a folder; for too many files, a random one.

    The home folder and run folders, which change all the time, are left out.
    """
    seen: list[bytes] = []
    home = load_settings().home.resolve()
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_own(Path(place, name), home))
        for name in sorted(files):
            try:
                status = os.stat(os.path.join(place, name))
            except OSError:  # a broken link; the row that names it is dropped
                continue
            seen.append(os.fsencode(f"{place}/{name} {status.st_size} {status.st_mtime_ns}"))
        if len(seen) > MAX_FILES:
            return secrets.token_hex(16)
    return digest(seen)


def _is_own(folder: Path, home: Path) -> bool:
    return folder.resolve() == home or (folder / "config.json").is_file() and (folder / "checkpoints").is_dir()
