"""Rows from files here: a folder of pictures with `metadata.jsonl`, JSONL files, or Parquet files.

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

from inference.common.errors import UserError
from inference.common.settings import load_settings
from training.data.clean_row import Refusal
from training.data.source import Cells, RawRow, cells_of, digest, no_such_split

MAX_LINE_BYTES = 64 * 2**20
"""A longer line of JSON is not read."""
MAX_FILES = 500_000
"""A folder with more files is taken for a mistake."""
BATCH_ROWS = 16
"""Rows of a Parquet file held at once."""
_SUFFIXES = (".jsonl", ".ndjson", ".parquet")
_SHARD = re.compile(r"(?P<split>\w+?)(?:-\d{5}-of-\d{5}|[-_]\d+)?")


class JsonLines:
    """One JSONL file; only where its lines begin is held in memory."""

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
        """The keys of the first hundred readable rows, in the order they come."""
        found: dict[str, None] = {}
        for _, row in self.rows(range(min(100, len(self))), ()):
            found |= dict.fromkeys(row) if not isinstance(row, Refusal) else {}
        return list(found)

    def rows(self, positions: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        """The rows at `positions`; a line that is no JSON object is a refusal."""
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
            raise UserError(f"{path.name} is no Parquet file that can be read: {_first_line(error)}") from error

    def __len__(self) -> int:
        return self._file.metadata.num_rows

    def columns(self) -> list[str]:
        """The names in its schema."""
        return list(self._file.schema_arrow.names)

    def rows(self, positions: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        """The rows at `positions`, reading only row groups that hold one of them."""
        first = 0
        for group in range(self._file.metadata.num_row_groups):
            size = self._file.metadata.row_group(group).num_rows
            here = {at - first for at in positions if first <= at < first + size}
            if here:
                try:
                    yield from ((first + at, row) for at, row in self._group(group, here, columns))
                except (pa.ArrowException, OSError) as error:
                    detail = f"{self.path.name}, row group {group}: {_first_line(error)}"
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
                f"There is no dataset {path}: no such file or folder, and it is no Hub id (owner/name). "
                "Check the name, or use `starter`."
            )
        found = _find(path)
        for split in splits:
            if split not in found:
                raise no_such_split(path.name, split, list(found))
        self.names = list(found)
        self._files = {split: [_open(file) for file in found[split]] for split in splits}
        self.sizes = {split: sum(map(len, files)) for split, files in self._files.items()}
        self.identity = _identity(path if path.is_dir() else path.parent)

    def columns(self, split: str) -> list[str]:
        """Those of its first file, then what later ones have besides."""
        return list(dict.fromkeys(name for file in self._files[split] for name in file.columns()))

    def rows(self, split: str, positions: Sequence[int], columns: Sequence[str]) -> Iterator[RawRow]:
        """The rows at increasing positions; a picture's path starts from its file's own folder and stays in it."""
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
    found: dict[str, list[Path]] = {}
    for file in sorted([*path.glob("*"), *path.glob("data/*")]):
        if file.suffix in _SUFFIXES and file.is_file() and (match := _SHARD.fullmatch(file.stem)):
            found.setdefault(match["split"], []).append(file)
    if not found:
        raise UserError(
            f"There is no data in the folder {path.name}: no metadata.jsonl, and no JSONL or Parquet file. "
            'Write metadata.jsonl with lines such as {"file_name": "1.png", "problem": "…", "solution": "…"}.'
        )
    return found


def _open(path: Path) -> JsonLines | ParquetRows:
    try:
        return ParquetRows(path) if path.suffix == ".parquet" else JsonLines(path)
    except OSError as error:
        raise UserError(f"{path.name} cannot be read: {error.strerror}. Check its permissions.") from error


def _read_line(file: BinaryIO) -> bytes:
    """The next line, of one that is too long the first `MAX_LINE_BYTES` + 1 bytes; the file is then at its end."""
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
        return Refusal("row unreadable", f"no JSON: {_first_line(error)}")
    return row if isinstance(row, dict) else Refusal("row unreadable", f"a {type(row).__name__}, not an object")


def _identity(folder: Path) -> str:
    """A digest of the names, sizes and times of the files under a folder; of too many, one that never comes again.

    The home folder and run folders below it, which change all the time, are left out.
    """
    seen: list[bytes] = []
    home = load_settings().home.resolve()
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_own(Path(place, name), home))
        for name in sorted(files):
            try:
                status = os.stat(os.path.join(place, name))
            except OSError:  # a link that leads nowhere; the row that names it is dropped
                continue
            seen.append(os.fsencode(f"{place}/{name} {status.st_size} {status.st_mtime_ns}"))
        if len(seen) > MAX_FILES:
            return secrets.token_hex(16)
    return digest(seen)


def _is_own(folder: Path, home: Path) -> bool:
    return folder.resolve() == home or (folder / "config.json").is_file() and (folder / "checkpoints").is_dir()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
