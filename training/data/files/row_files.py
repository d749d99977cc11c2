"""Rows of one file by position, with bounded memory: JSON lines and arrays, CSV, Parquet, Arrow, tar; also packed.

    file = open_file(Path("train.jsonl.gz"))
    len(file), file.columns(), list(file.rows([0, 7], ["problem"]))

What is damaged costs its row where a row can be told from the next, else it is a `UserError`. Nothing is decoded.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import shutil
import tempfile
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from inference.common.errors import UserError, first_line
from training.data.files.csv_rows import CsvRows
from training.data.files.encodings import in_utf8
from training.data.files.expansion import MAX_RATIO, Budget, check_arrow, most_bytes, parquet_bytes, too_large
from training.data.files.file_names import PACKED, suffix_of
from training.data.files.json_rows import open_json
from training.data.files.tar_rows import TableRows, TarRows, copied_table
from training.data.source import Cells, RowFile, cells_of

if TYPE_CHECKING:
    from datasets import Dataset

MAX_UNPACKED_BYTES = 32 * 2**30
"""A compressed file that becomes longer is refused."""
BATCH_ROWS = 16
"""Rows of a Parquet or Arrow file in memory at once."""
MAX_CELLS_BYTES = 16 * 2**20
"""Where cells of a Parquet file may be larger, one row is in memory at once."""
XZ_BYTES = 256 * 2**20
"""Memory in which a file of xz may be unpacked."""
READ_BYTES = 2**20
"""Bytes of a Parquet column that are read at once, so that a row group may be larger than memory."""
_OPEN_PACKED: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lambda path: _Xz(path),
    ".zst": lambda path: pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"),
}
_SAVED = "dataset_dict.json"
_STATE = "state.json"
MAX_STATE_BYTES = 2**20


def open_file(path: Path) -> tuple[Mapping[str, RowFile], str]:
    """The rows of each split that a file names, as JSON can; under an empty name those of another. And a note, or none.

    Raises `UserError` if it cannot be read.
    """
    suffix, name = suffix_of(path), path.name
    try:
        keep = _unpacked(path) if path.suffix.lower() in PACKED else None
        readable = path if keep is None else Path(keep.name)
        if suffix == ".parquet":
            return {"": ParquetRows(readable, name, keep)}, ""
        if suffix == ".arrow":
            return {"": ArrowRows(_arrow_file(readable, name), keep)}, ""
        if suffix == ".tar":
            archive = TarRows(readable, name, keep)
            if not archive.table:
                return {"": archive}, archive.note
            table, folder = copied_table(archive)
            found, note = open_file(table)
            in_tar = {split: TableRows(rows, archive, folder) for split, rows in found.items()}
            return in_tar, "; ".join(filter(None, (archive.note, note)))
        is_table = suffix in (".csv", ".tsv")
        recoded, note = in_utf8(readable, name, is_table)
        if recoded is not None:
            readable, keep = Path(recoded.name), recoded
        if is_table:
            return {"": CsvRows(readable, "\t" if suffix == ".tsv" else None, name, keep)}, note
        found, more = open_json(readable, name, keep)
        return found, "; ".join(filter(None, (note, more)))
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror or error}. Check its permissions.") from error


def unpack(path: Path, target: Any, max_bytes: float) -> None:
    """Writes the content of a compressed file. Raises `UserError` for one that is damaged or becomes larger."""
    num_bytes = 0
    try:
        with _OPEN_PACKED[path.suffix.lower()](path) as packed:
            while part := packed.read(2**20):
                num_bytes += len(part)
                if num_bytes > max_bytes:
                    raise UserError(
                        f"{path.name[:80]} becomes more than {max_bytes / 1e6:,.0f} MB when it is unpacked. Unpack it "
                        "yourself, or split it into several."
                    )
                target.write(part)
                if not num_bytes % 2**28 and shutil.disk_usage(target.name).free < 2**30:
                    raise UserError(f"{path.name[:80]} fills the disk while it is unpacked. Free some space.")
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of the content
        raise UserError(f"{path.name[:80]} is damaged: {first_line(error)}. Download or write it again.") from error


def _unpacked(path: Path) -> Any:
    """The content of a compressed file as a temporary one, which goes when nobody holds it any more."""
    target = tempfile.NamedTemporaryFile(prefix="lookthink-")
    unpack(path, target, MAX_UNPACKED_BYTES)
    target.flush()
    return target


class _Xz:
    """The content of a file of xz; `lzma.open` bounds no memory."""

    def __init__(self, path: Path) -> None:
        self._file, self._stream = path.open("rb"), lzma.LZMADecompressor(memlimit=XZ_BYTES)

    def __enter__(self) -> _Xz:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, num_bytes: int) -> bytes:
        """At most so many bytes; none at the end."""
        while True:
            if self._stream.eof:
                rest = self._stream.unused_data.lstrip(b"\0") or self._file.read(num_bytes)
                if not rest:
                    return b""
                self._stream = lzma.LZMADecompressor(memlimit=XZ_BYTES)  # files that were joined
            else:
                rest = self._file.read(num_bytes) if self._stream.needs_input else b""
                if not rest and self._stream.needs_input:
                    raise EOFError("it ends too early")
            if part := self._stream.decompress(rest, num_bytes):
                return part


def _arrow_file(path: Path, name: str) -> Dataset:
    """The rows of one memory-mapped file of Arrow."""
    import datasets

    check_arrow(path, name)
    try:
        return datasets.Dataset.from_file(str(path))
    except Exception as error:  # a file is untrusted, and the library raises errors of any kind
        raise UserError(f"{name} is not a readable Arrow file: {first_line(error)}") from error


class ParquetRows:
    """One Parquet file, read a few rows at a time."""

    def __init__(self, path: Path, name: str, keep: object = None) -> None:
        """Reads what the file says of itself. Raises `UserError` if it is damaged, or becomes too large."""
        self._name, self._keep = name, keep
        try:
            self._file = pq.ParquetFile(path, buffer_size=READ_BYTES, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{name} is not a readable Parquet file: {first_line(error)}") from error
        about, size = self._file.metadata, path.stat().st_size
        groups = [about.row_group(number) for number in range(about.num_row_groups)]
        if about.num_rows != sum(group.num_rows for group in groups) or about.num_rows > MAX_RATIO * size:
            raise UserError(f"{name} says that it has {about.num_rows:,} rows in {size:,} bytes. Write it again.")
        sizes = [[group.column(at).total_uncompressed_size for at in range(about.num_columns)] for group in groups]
        total = parquet_bytes(path, about)
        if not 0 <= total <= most_bytes(size):
            raise too_large(name, size, f"{total / 1e6:,.0f} MB")
        self._size = size
        self._largest = [max(of_group, default=0) for of_group in sizes]

    def __len__(self) -> int:
        return self._file.metadata.num_rows

    def columns(self) -> list[str]:
        """The names in its schema, without the index that pandas adds."""
        return [name for name in self._file.schema_arrow.names if not name.startswith("__index_level_")]

    def rows(self, positions: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        """The rows at increasing `positions`; other row groups are not read."""
        first = start = 0
        budget = Budget(self._name, self._size)
        for group in range(self._file.metadata.num_row_groups):
            size = self._file.metadata.row_group(group).num_rows
            end = bisect_left(positions, first + size, start)
            here = {at - first for at in positions[start:end]}
            start = end
            if here:
                try:
                    yield from ((first + at, budget.counted(row)) for at, row in self._group(group, here, columns))
                except (pa.ArrowException, OSError) as error:
                    detail = f"{self._name}, row group {group}: {first_line(error)}"
                    raise UserError(f"The dataset is damaged: {detail}. Download or write it again.") from error
            first += size

    def _group(self, group: int, here: set[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        at, last = 0, max(here)
        names = [name for name in columns if name in self._file.schema_arrow.names]
        num = BATCH_ROWS if self._largest[group] <= MAX_CELLS_BYTES else 1
        for batch in self._file.iter_batches(num, row_groups=[group], columns=names, use_threads=False):
            yield from ((at + i, cells_of(batch, i)) for i in range(batch.num_rows) if at + i in here)
            at += batch.num_rows
            if at > last:
                return


class ArrowRows:
    """A split that `Dataset.save_to_disk` has written; its pictures stay undecoded."""

    def __init__(self, dataset: Dataset, keep: object = None) -> None:
        self._dataset, self._keep = dataset, keep

    def __len__(self) -> int:
        return len(self._dataset)

    def columns(self) -> list[str]:
        """The names of its columns."""
        return list(self._dataset.column_names)

    def rows(self, positions: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        """The rows at `positions`, from the memory-mapped files."""
        names = [name for name in columns if name in self._dataset.column_names]
        chosen = self._dataset.select_columns(names).select(positions).with_format("arrow")
        is_small = self._dataset.data.nbytes <= MAX_CELLS_BYTES
        found = (cells_of(table, 0) for table in chosen.iter(1))
        if is_small:
            found = (cells_of(table, i) for table in chosen.iter(BATCH_ROWS) for i in range(table.num_rows))
        in_files = sum(Path(file["filename"]).stat().st_size for file in self._dataset.cache_files)
        budget = Budget("The dataset", in_files or self._dataset.data.nbytes)
        yield from zip(positions, map(budget.counted, found))


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
                file = _inside(folder, named.get("filename") if isinstance(named, dict) else None, path)
                check_arrow(file, file.name)
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
