"""The size that a binary file of rows has once it is read, told before it is read, and counted while it is.

Arrow's buffers may be compressed, and a dictionary's value may stand in any number of rows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from inference.common.errors import UserError, first_line
from training.data.refusals import Refusal
from training.data.source import Cells

SMALL_BYTES, MAX_RATIO = 10**9, 100
"""A file is refused that becomes larger than both, the second for each of its bytes."""
MAX_INFLATED_BYTES = 2**28
"""A compressed Arrow file is in memory as a whole."""
INDEX_BYTES = 16
"""For each row at most that of an index into a dictionary; longer pages hold values."""
_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2
_I32 = 0x15
"""A field of a 32-bit number behind the one before it, in Thrift's compact protocol."""


class Budget:
    """The bytes that the rows of a file may still have, for one pass over them."""

    def __init__(self, name: str, file_bytes: int) -> None:
        self._name, self._file_bytes = name, file_bytes
        self._most = self._left = most_bytes(file_bytes)

    def counted(self, cells: Cells) -> Cells:
        """The row itself. Raises `UserError` once all rows together are too large."""
        self._left -= _size(cells) if not isinstance(cells, Refusal) else 0
        if self._left < 0:
            raise too_large(self._name, self._file_bytes, "more than " + _mb(self._most))
        return cells


def most_bytes(file_bytes: int) -> int:
    """The size that the rows of a file may have."""
    return max(SMALL_BYTES, MAX_RATIO * file_bytes)


def too_large(name: str, file_bytes: int, becomes: str) -> UserError:
    """The error for a file whose rows are larger than they may be."""
    return UserError(
        f"{name} has {file_bytes / 1e6:,.1f} MB and becomes {becomes} when it is read; at most "
        f"{_mb(most_bytes(file_bytes))} are. Keep pictures as PNG or JPEG in it, each once, or as files."
    )


def parquet_bytes(path: Path, about: pa.parquet.FileMetaData) -> int:
    """The size of a Parquet file's rows by what its head and its dictionaries say of themselves."""
    total = 0
    with path.open("rb") as file:
        for group in map(about.row_group, range(about.num_row_groups)):
            for column in map(group.column, range(about.num_columns)):
                size, num = column.total_uncompressed_size, column.num_values
                if size < 0:
                    return -1
                total += size
                if column.has_dictionary_page and num * size > SMALL_BYTES // about.num_row_groups:
                    values, num_values = _dictionary(file, column.dictionary_page_offset)
                    if size - values < INDEX_BYTES * num:
                        total += max(0, num * (values // max(1, num_values)) - values)
    return total


def _dictionary(file: BinaryIO, start: int) -> tuple[int, int]:
    """The size of a Parquet dictionary's page, in bytes, and the number of its values; 0 for a head of another kind."""
    file.seek(start)
    head = iter(file.read(64))
    try:
        fields = [_number(head) for _ in range(3) if next(head) == _I32]
        kind = next(head)
        if kind == _I32:  # a checksum
            _number(head)
            kind = next(head)
        num = _number(head) if kind & 0x0F == 0x0C and next(head) == _I32 else 0
    except StopIteration:
        return 0, 0
    return (fields[1], num) if len(fields) == 3 else (0, 0)


def _number(head: Iterator[int]) -> int:
    """A number in zigzag and variable length."""
    value = shift = 0
    while (byte := next(head)) & 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
    value |= byte << shift
    return (value >> 1) ^ -(value & 1)


def check_arrow(path: Path, name: str) -> None:
    """Raises `UserError` for an Arrow file whose compressed buffers become too large for memory, or are damaged."""
    total = 0
    try:
        with pa.memory_map(str(path)) as stream:
            for message in pa.ipc.MessageReader.open_stream(stream):
                total += _inflated(message.metadata.to_pybytes(), message.body)
                if total > MAX_INFLATED_BYTES:
                    raise UserError(
                        f"{name} is compressed, and becomes more than {_mb(MAX_INFLATED_BYTES)} in memory. Write it "
                        "without compression, or as Parquet."
                    )
    except (pa.ArrowException, OSError, struct.error, ValueError) as error:
        raise UserError(f"{name} is not a readable Arrow file: {first_line(error)}") from error


def _inflated(head: bytes, body: pa.Buffer | None) -> int:
    """The size of the compressed buffers of an Arrow message; 0 where none is. The format is Message.fbs of Arrow."""
    message = struct.unpack_from("<I", head)[0]
    kind_at, batch_at = _field(head, message, 1), _field(head, message, 2)
    kind = head[kind_at] if kind_at else 0
    if kind not in (_RECORD_BATCH, _DICTIONARY_BATCH) or not batch_at or body is None:
        return 0
    batch = _followed(head, batch_at)
    if kind == _DICTIONARY_BATCH:
        batch = _followed(head, _field(head, batch, 1))
    buffers = _field(head, batch, 2)
    if not _field(head, batch, 3) or not buffers:
        return 0
    start = _followed(head, buffers)
    total = 0
    for number in range(struct.unpack_from("<I", head, start)[0]):
        offset, length = struct.unpack_from("<qq", head, start + 4 + 16 * number)
        if length >= 8:
            if not 0 <= offset <= body.size - 8:
                raise ValueError("a buffer lies outside of it")
            size = struct.unpack_from("<q", body, offset)[0]
            if size < -1:
                raise ValueError("a buffer of a negative size")
            total += size if size >= 0 else length
    return total


def _field(head: bytes, table: int, slot: int) -> int:
    """The place of a field in a table of FlatBuffers; 0 if it is not there."""
    fields = table - struct.unpack_from("<i", head, table)[0]
    if 4 + 2 * slot >= struct.unpack_from("<H", head, fields)[0]:
        return 0
    offset: int = struct.unpack_from("<H", head, fields + 4 + 2 * slot)[0]
    return table + offset if offset else 0


def _followed(head: bytes, at: int) -> int:
    offset: int = struct.unpack_from("<I", head, at)[0]
    return at + offset


def _size(cell: object) -> int:
    """The bytes, or characters, of all texts and pictures in a cell or a row."""
    if isinstance(cell, str | bytes):
        return len(cell)
    if isinstance(cell, Mapping):
        return sum(map(_size, cell.values()))
    return sum(map(_size, cell)) if isinstance(cell, list) else 0


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
