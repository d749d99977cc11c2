"""Rows of one file by position, with bounded memory: JSON lines and arrays, CSV, Parquet, Arrow, tar; also packed.

    file = open_file(Path("train.jsonl.gz"))
    len(file), file.columns(), list(file.rows([0, 7], ["problem"]))

What is damaged costs its row where a row can be told from the next, else it is a `UserError`. Nothing is decoded.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import mmap
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from inference.common.errors import UserError, first_line
from training.data.refusals import Refusal
from training.data.source import Cells, cells_of

if TYPE_CHECKING:
    from datasets import Dataset

MAX_LINE_BYTES = 64 * 2**20
"""Longer rows of JSON, and longer cells of CSV, are refused."""
MAX_UNPACKED_BYTES = 32 * 2**30
"""A compressed file that becomes longer is refused."""
BATCH_ROWS = 16
"""Rows of a Parquet or Arrow file in memory at once."""
COLUMN_ROWS = 100
"""Rows of a file without a schema that are read for its columns."""
READ_BYTES = 2**20
"""Bytes of a Parquet column that are read at once, so that a row group may be larger than memory."""
_OPEN_PACKED: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": lambda path: pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"),
}
PACKED = tuple(_OPEN_PACKED)
"""Suffixes of compressed files."""
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".tar")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
LIST_NAMES = ("data", "rows", "train", "examples", "items", "instances", "samples", "questions", "annotations")
"""Names by which an object holds all rows of a JSON file."""
_JSON_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[{}\[\]]', re.DOTALL)
"""A text, also one that is not closed, so that what was read once is never read again; or a bracket."""
_SAVED = "dataset_dict.json"
_STATE = "state.json"
MAX_STATE_BYTES = 2**20


class RowFile(Protocol):
    """The rows of one file."""

    def __len__(self) -> int: ...

    def columns(self) -> list[str]:
        """The names of its columns."""
        ...

    def rows(self, positions: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        """The rows at increasing `positions`, with these columns at least."""
        ...


def suffix_of(path: PurePath) -> str:
    """The suffix that tells the format, in lower case, without that of a compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    return "".join(suffixes[:1] if suffixes[-1:] and suffixes[-1] in PACKED else suffixes[-1:])


def is_data_file(path: PurePath) -> bool:
    """True for a file whose suffix is one of a format that is read."""
    return suffix_of(path) in SUFFIXES


def open_file(path: Path) -> RowFile:
    """The rows of a file. Raises `UserError` if it cannot be read."""
    suffix = suffix_of(path)
    try:
        if suffix == ".parquet":
            return ParquetRows(path)
        if suffix == ".arrow":
            return ArrowRows(_arrow_file(path))
        plain, name = (_unpacked(path), path.name) if path.suffix.lower() in PACKED else (None, path.name)
        readable = path if plain is None else Path(plain.name)
        if suffix == ".tar":
            return TarRows(readable, name, plain)
        with readable.open("rb") as file:
            if file.read(2) in _UTF_16:
                raise UserError(f"{name} is written in UTF-16. Save it as UTF-8.")
        if suffix in (".csv", ".tsv"):
            return CsvRows(readable, "\t" if suffix == ".tsv" else None, name, plain)
        if suffix == ".json" and not _is_one_row_a_line(readable):
            return JsonArray(readable, name, plain)
        return JsonLines(readable, plain)
    except OSError as error:
        raise UserError(f"{path.name} cannot be read: {error.strerror or error}. Check its permissions.") from error


def _unpacked(path: Path) -> Any:
    """The content of a compressed file as a temporary one, which goes when nobody holds it any more."""
    target = tempfile.NamedTemporaryFile(prefix="lookthink-")
    try:
        with _OPEN_PACKED[path.suffix.lower()](path) as packed:
            while part := packed.read(2**20):
                target.write(part)
                if target.tell() > MAX_UNPACKED_BYTES:
                    raise UserError(f"{path.name} unpacks to more than {MAX_UNPACKED_BYTES / 2**30:.0f} GB; unpack it")
                if not target.tell() % 2**28 and shutil.disk_usage(target.name).free < 2**30:
                    raise UserError(f"{path.name} fills the disk while it is unpacked; free some space, or unpack it")
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of the content
        raise UserError(f"{path.name} is damaged: {first_line(error)}. Download or write it again.") from error
    target.flush()
    return target


def _arrow_file(path: Path) -> Dataset:
    """The rows of one memory-mapped file of Arrow."""
    import datasets

    try:
        return datasets.Dataset.from_file(str(path))
    except Exception as error:  # a file is untrusted, and the library raises errors of any kind
        raise UserError(f"{path.name} is not a readable Arrow file: {first_line(error)}") from error


def _is_one_row_a_line(path: Path) -> bool:
    """True if the first line is a whole row, as in JSONL that is called `.json`."""
    with path.open("rb") as file:
        first = _parse(_read_line(file))
    if not isinstance(first, dict) or all(isinstance(value, dict) for value in first.values()):
        return False
    return not any(isinstance(first.get(name), list) for name in LIST_NAMES)


class _JsonRows:
    """Rows that are JSON objects at known places of a file."""

    def __init__(self, path: Path, keep: object = None) -> None:
        self.path, self._keep = path, keep
        self._starts, self._ends = array("Q"), array("Q")

    def __len__(self) -> int:
        return len(self._starts)

    def columns(self) -> list[str]:
        """The keys of the first hundred readable rows, in their order."""
        return _columns_of(self)

    def rows(self, positions: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        """The rows at `positions`; what is no JSON object is a refusal."""
        with self.path.open("rb") as file:
            for at in positions:
                file.seek(self._starts[at])
                yield at, _parse(file.read(min(self._ends[at] - self._starts[at], MAX_LINE_BYTES + 1)))


class JsonLines(_JsonRows):
    """A row a line; only the positions of its lines are in memory."""

    def __init__(self, path: Path, keep: object = None) -> None:
        super().__init__(path, keep)
        with path.open("rb") as file:
            start = 0
            while line := _read_line(file):
                if line.strip(b"\xef\xbb\xbf \t\r\n"):
                    self._starts.append(start)
                    self._ends.append(file.tell())
                start = file.tell()


class JsonArray(_JsonRows):
    """Objects in an array, in one that is a value of an object, or by name: `[…]`, `{"data": […]}`, `{"1": {…}}`."""

    def __init__(self, path: Path, name: str, keep: object = None) -> None:
        super().__init__(path, keep)
        if path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                self._index(content)
                if not self._starts:
                    self._index(content, by_name=True)
        if not self._starts:
            raise UserError(f"{name} is neither an array of objects nor one object a line; write one of them.")

    def _index(self, content: mmap.mmap, by_name: bool = False) -> None:
        """Notes the places of the rows: of the first list that has any, or of the values of the outer object."""
        depth, of_rows, start = 0, int(by_name), 0
        for token in _JSON_TOKEN.finditer(content):
            character = token[0][:1]
            if character in b"{[":
                depth += 1
                if character == b"[" and not of_rows and depth <= 2:
                    of_rows = depth
                elif of_rows and depth == of_rows + 1:
                    start = token.start()
            elif character in b"}]":
                if of_rows and depth == of_rows + 1:
                    self._starts.append(start)
                    self._ends.append(token.end())
                depth -= 1
                if depth < of_rows:
                    if self._starts:
                        return
                    of_rows = 0  # it was another list


class CsvRows:
    """Comma-separated (or tab- or semicolon-separated) values with a header; every cell is text."""

    def __init__(self, path: Path, delimiter: str | None, name: str, keep: object = None) -> None:
        self.path, self._keep, self._name = path, keep, name
        with self._open() as file:
            header = file.readline(2**16)
        self._delimiter = delimiter or max(",;\t", key=header.count)
        self._columns = next(csv.reader([header], delimiter=self._delimiter), [])
        self._count = sum(1 for _ in self._all())

    def __len__(self) -> int:
        return self._count

    def columns(self) -> list[str]:
        """The names in its header."""
        return list(self._columns)

    def rows(self, positions: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        """The rows at `positions`; one with other cells than the header is a refusal."""
        wanted = set(positions)
        for at, cells in enumerate(self._all()):
            if at not in wanted:
                continue
            if len(cells) == len(self._columns):
                yield at, dict(zip(self._columns, cells))
            else:
                yield at, Refusal("row unreadable", f"{len(cells)} cells, and the header names {len(self._columns)}")

    def _open(self) -> TextIO:
        return self.path.open(encoding="utf-8-sig", errors="replace", newline="")

    def _all(self) -> Iterator[list[str]]:
        csv.field_size_limit(MAX_LINE_BYTES)
        with self._open() as file:
            reader = csv.reader(file, delimiter=self._delimiter)
            try:
                next(reader, None)
                yield from (cells for cells in reader if cells)
            except csv.Error as error:
                raise UserError(
                    f"{self._name} is damaged at line {reader.line_num}: {error}. Write it again."
                ) from error


class ParquetRows:
    """One Parquet file, read a few rows at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pq.ParquetFile(path, buffer_size=READ_BYTES, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path.name} is not a readable Parquet file: {first_line(error)}") from error

    def __len__(self) -> int:
        return self._file.metadata.num_rows

    def columns(self) -> list[str]:
        """The names in its schema, without the index that pandas adds."""
        return [name for name in self._file.schema_arrow.names if not name.startswith("__index_level_")]

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
        at, last = 0, max(here)
        names = [name for name in columns if name in self._file.schema_arrow.names]
        for batch in self._file.iter_batches(BATCH_ROWS, row_groups=[group], columns=names, use_threads=False):
            yield from ((at + i, cells_of(batch, i)) for i in range(batch.num_rows) if at + i in here)
            at += batch.num_rows
            if at > last:
                return


class ArrowRows:
    """A split that `Dataset.save_to_disk` has written; its pictures stay undecoded."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def columns(self) -> list[str]:
        """The names of its columns."""
        return list(self._dataset.column_names)

    def rows(self, positions: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        """The rows at `positions`, from the memory-mapped files."""
        names = [name for name in columns if name in self._dataset.column_names]
        chosen = self._dataset.select_columns(names).select(positions).with_format("arrow")
        found = (cells_of(table, i) for table in chosen.iter(BATCH_ROWS) for i in range(table.num_rows))
        yield from zip(positions, found)


def saved_splits(path: Path) -> dict[str, list[RowFile]] | None:
    """The splits of a folder that `save_to_disk` has written; `None` for another folder."""
    if not any((path / name).is_file() for name in (_SAVED, _STATE)):
        return None
    _check_saved(path)
    import datasets

    try:
        saved = datasets.load_from_disk(str(path))
    except Exception as error:  # a folder is untrusted, and the library raises errors of any kind
        raise UserError(f"The dataset {path.name} cannot be read: {first_line(error)}. Save it again.") from error
    splits = saved if isinstance(saved, datasets.DatasetDict) else {"train": saved}
    return {str(name): [ArrowRows(of_split)] for name, of_split in splits.items()}


def _check_saved(path: Path) -> None:
    """Raises `UserError` if the folder names anything but plain files of its own: the library opens what it names."""
    folders = [path]
    if (path / _SAVED).is_file():
        folders = [_inside(path, name, path) for name in _names(path / _SAVED, "splits")]
    for folder in folders:
        for key in ("_data_files", "_indices_files"):
            for named in _names(folder / _STATE, key):
                _inside(folder, named.get("filename") if isinstance(named, dict) else None, path)
        for name in (_STATE, "dataset_info.json"):
            _inside(folder, name, path)


def _names(file: Path, key: str) -> list[Any]:
    """The list at a key of one of these small files; empty if there is none."""
    if file.exists() and file.stat().st_size > MAX_STATE_BYTES:
        raise UserError(f"{file.name} cannot be read: it has more than {MAX_STATE_BYTES:,} bytes.")
    try:
        found = json.loads(file.read_text("utf-8")).get(key)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{file.name} cannot be read: {first_line(error)}. Save the dataset again.") from error
    return found if isinstance(found, list) else []


def _inside(folder: Path, name: object, root: Path) -> Path:
    """The path of a plain name in a folder; raises `UserError` for another name, and for a link out of `root`."""
    is_plain = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\:\0")
    if not is_plain or not (folder / str(name)).resolve().is_relative_to(root.resolve()):
        raise UserError(
            f"The dataset {root.name} names {str(name)[:80]!r}, which is no file of its own folder. Save it again."
        )
    return folder / str(name)


class TarRows:
    """A WebDataset archive: files of one stem are a row, and their suffixes its columns. Nothing is unpacked."""

    def __init__(self, path: Path, name: str, keep: object = None) -> None:
        self.path, self._keep = path, keep
        self._samples: list[dict[str, tuple[int, int]]] = []
        key = None
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    if not member.isfile() or os.path.basename(member.name).startswith("."):
                        continue
                    folder, _, base = member.name.rpartition("/")
                    stem, _, suffix = base.partition(".")
                    if (folder, stem) != key:
                        key = folder, stem
                        self._samples.append({})
                    self._samples[-1][suffix.lower()] = member.offset_data, member.size
        except tarfile.TarError as error:
            raise UserError(f"{name} is not a readable tar archive: {first_line(error)}") from error

    def __len__(self) -> int:
        return len(self._samples)

    def columns(self) -> list[str]:
        """The suffixes, and the keys of JSON objects, of the first hundred rows."""
        return _columns_of(self)

    def rows(self, positions: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        """The rows at `positions`; the keys of a JSON object in a row are columns too."""
        with self.path.open("rb") as file:
            for at in positions:
                yield at, self._row(file, self._samples[at])

    def _row(self, file: BinaryIO, sample: dict[str, tuple[int, int]]) -> Cells:
        cells: dict[str, object] = {}
        for suffix, (start, size) in sample.items():
            if size > MAX_LINE_BYTES:
                return Refusal("row unreadable", f"its .{suffix} has more than {MAX_LINE_BYTES:,} bytes")
            file.seek(start)
            content = file.read(size)
            if suffix == "json":
                row = _parse(content)
                if isinstance(row, Refusal):
                    return row
                cells |= row
            else:
                is_text = suffix.rpartition(".")[2] in ("txt", "cls", "text")
                cells[suffix] = content.decode("utf-8", "replace") if is_text else content
        return cells


def _columns_of(file: RowFile) -> list[str]:
    names: dict[str, None] = {}
    for _, row in file.rows(range(min(COLUMN_ROWS, len(file))), ()):
        names |= dict.fromkeys(row) if not isinstance(row, Refusal) else {}
    return list(names)


def _read_line(file: BinaryIO) -> bytes:
    """The next line; of one that is too long, the first `MAX_LINE_BYTES` + 1 bytes, and the rest is skipped."""
    line = file.readline(MAX_LINE_BYTES + 1)
    if len(line) > MAX_LINE_BYTES:
        while (more := file.readline(MAX_LINE_BYTES)) and not more.endswith(b"\n"):
            pass
    return line


def _parse(line: bytes) -> Cells:
    if len(line) > MAX_LINE_BYTES:
        return Refusal("row unreadable", f"it has more than {MAX_LINE_BYTES:,} bytes")
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return Refusal("row unreadable", f"not JSON: {first_line(error)}")
    return row if isinstance(row, dict) else Refusal("row unreadable", f"a {type(row).__name__}, not an object")
