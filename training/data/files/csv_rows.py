"""Rows of a text file with separated values, by position; every cell is text.

    rows = CsvRows(Path("train.csv"), None, "train.csv")
    rows.columns(), list(rows.rows([0], ["problem"]))

Quotes are taken strictly, since one that is not closed swallows the rows behind it; within a cell that does not begin
with one they are text. A row with other cells than the header is a refusal that names its line.
"""

from __future__ import annotations

import csv
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from inference.common.errors import UserError
from training.data.files.json_rows import MAX_LINE_BYTES
from training.data.refusals import Refusal
from training.data.source import Cells

MAX_HEADER_CHARS = 2**20
"""A longer first line is no header."""
DELIMITERS = ",;\t|"
_BOMS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_PART_BYTES = 2**20
_WRONG = re.compile("[\udc80-\udcff]")
"""A byte that is no UTF-8, as `surrogateescape` reads it."""
_WRONG_RUN = re.compile("[\udc80-\udcff]+")
_BEYOND_ASCII = re.compile("[^\x00-\x7f\udc80-\udcff]+")


class CsvRows:
    """Comma-separated (or tab-, semicolon- or bar-separated) values with a header."""

    def __init__(self, path: Path, delimiter: str | None, name: str, keep: object = None) -> None:
        """Counts the rows. Raises `UserError` for a header or quotes that cannot be right."""
        self.path, self._keep, self._name = path, keep, name
        self._delimiter, self._spaced = delimiter or ",", False
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            header = file.readline(MAX_HEADER_CHARS + 1)
            self._skipped = 0
            while header and (not header.strip() or header.lower().startswith("sep=")):  # as Excel writes it
                self._skipped += 1
                header = file.readline(MAX_HEADER_CHARS + 1)
        if len(header) > MAX_HEADER_CHARS:
            raise UserError(f"{name} has a first line of more than {MAX_HEADER_CHARS:,} characters; write a header.")
        if "\0" in header:
            raise UserError(f"{name} holds null characters, as UTF-16 does. Save it as UTF-8.")
        self._delimiter = delimiter or max(DELIMITERS, key=header.count)
        self._spaced = f"{self._delimiter} " in header
        self._columns = [_WRONG.sub("\ufffd", cell.strip()) for cell in next((cells for _, cells in self._all(0)), [])]
        twice = [column for column, num in Counter(self._columns).items() if column and num > 1]
        if twice:
            raise UserError(f"The header of {name} names the column {twice[0][:80]!r} twice. Rename one of them.")
        self._count = sum(1 for _ in self._all(1))

    def __len__(self) -> int:
        return self._count

    def columns(self) -> list[str]:
        """The names in its header."""
        return [name for name in self._columns if name]

    def rows(self, positions: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        """The rows at `positions`; one with other cells than the header is a refusal."""
        wanted, last = set(positions), max(positions, default=-1)
        for at, (line, cells) in enumerate(self._all(1)):
            if at > last:
                return
            if at not in wanted:
                continue
            yield at, self._row(line, cells)

    def _row(self, line: int, cells: list[str]) -> Cells:
        """A row by the names of its columns; empty cells behind the last are none."""
        num = len(self._columns)
        if len(cells) < num or any(cells[num:]):
            detail = f"line {line} of {self._name} has {len(cells)} cells, and the header names {num}"
            return Refusal("row unreadable", detail)
        if any(map(_WRONG.search, cells)):
            return Refusal("row unreadable", f"line {line} of {self._name} holds bytes that are no UTF-8")
        return {name: cell for name, cell in zip(self._columns, cells) if name}

    def _all(self, first: int) -> Iterator[tuple[int, list[str]]]:
        """The rows from the `first`, of which the header is number 0, each with the line where it begins."""
        csv.field_size_limit(MAX_LINE_BYTES)
        reader = csv.reader(self._lines(), delimiter=self._delimiter, strict=True, skipinitialspace=self._spaced)
        line, number = self._skipped + 1, 0
        try:
            for cells in reader:
                if cells:
                    if number >= first:
                        yield line, cells
                    number += 1
                line = self._skipped + reader.line_num + 1
        except csv.Error as error:
            raise UserError(
                f"{self._name} is damaged in the row that begins at line {line}: a quote is not closed, or text "
                f"follows a closed one ({error}). Close it, or write it twice where it is text."
            ) from error

    def _lines(self) -> Iterator[str]:
        with self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            for _ in range(self._skipped):
                file.readline(MAX_HEADER_CHARS)
            number = self._skipped
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise UserError(
                        f"Line {number} of {self._name} has more than {MAX_LINE_BYTES:,} characters. "
                        "Write pictures as files, and name them in it."
                    )
                yield line


def in_utf8(path: Path, name: str, is_table: bool) -> tuple[Any, str]:
    """The file as a temporary one in UTF-8, and a note, if it is written in UTF-16 or, as a table may be, in cp1252.

    `None` for a file that may be read as it is. Raises `UserError` for a table in an encoding that cannot be told.
    """
    with path.open("rb") as file:
        start = file.read(4)
    encoding = next((name for bom, name in _BOMS.items() if start.startswith(bom)), None)
    if encoding is None and is_table:
        encoding = _one_byte(path, name)
    if encoding is None:
        return None, ""
    target = tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="", prefix="lookthink-")
    try:
        with path.open(encoding=encoding, newline="") as source:
            while part := source.read(_PART_BYTES):
                target.write(part)
    except UnicodeError as error:
        raise UserError(f"{name} begins as {encoding.upper()} does and is damaged. Save it as UTF-8.") from error
    target.flush()
    return target, f"{name} is read as {'Windows-1252' if encoding == 'cp1252' else encoding.upper()}, not as UTF-8"


def _one_byte(path: Path, name: str) -> str | None:
    """`cp1252`, or `latin-1`, if a table looks like it: letters beyond ASCII come one or two at a time, as in `größer`.

    `None` for UTF-8, in which some bytes may be wrong: their rows are refused.
    """
    right = alone = together = unknown = 0
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        while part := file.read(_PART_BYTES):
            if part.isascii():
                continue
            right += sum(1 for _ in _BEYOND_ASCII.finditer(part))
            for run in _WRONG_RUN.finditer(part):
                alone += len(run[0]) < 3
                together += len(run[0]) > 2
                unknown += any(sign in run[0] for sign in "\udc81\udc8d\udc8f\udc90\udc9d")
    if alone + together <= right:
        return None
    if together > alone / 4:
        raise UserError(f"{name} is written neither in UTF-8 nor in Windows-1252. Save it as UTF-8.")
    return "latin-1" if unknown else "cp1252"
