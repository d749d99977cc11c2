"""Rows of a text file with separated values, by position; every cell is text.

    rows = CsvRows(Path("train.csv"), None, "train.csv")
    rows.columns(), list(rows.rows([0], ["problem"]))

Quotes are taken strictly, since one that is not closed swallows the rows behind it; within a cell that does not begin
with one they are text, and in a table with tabs if none encloses a cell. A row with other cells than the header is a
refusal that names its line.
"""

from __future__ import annotations

import csv
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

from inference.common.errors import UserError
from training.data.files.json_rows import MAX_LINE_BYTES
from training.data.refusals import Refusal
from training.data.source import Cells

MAX_HEADER_CHARS = 2**20
"""A longer first line is no header."""
DELIMITERS = ",;\t|"
SAMPLE_LINES = 20
"""Lines from which the sign between cells is told."""
ONE_COLUMN = "\x1f"
"""Between the cells of a table with one column, in which commas are text."""
_WRONG = re.compile("[\udc80-\udcff]")
"""A byte that is no UTF-8, as `surrogateescape` reads it."""


class CsvRows:
    """Comma-separated (or tab-, semicolon- or bar-separated) values with a header."""

    def __init__(self, path: Path, delimiter: str | None, name: str, keep: object = None) -> None:
        """Counts the rows. Raises `UserError` for a header or quotes that cannot be right."""
        csv.field_size_limit(MAX_LINE_BYTES)
        self.path, self._keep, self._name = path, keep, name
        self._delimiter, self._spaced, self._has_backslashes = delimiter or ",", False, False
        self._quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
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
        self._delimiter = self._told(delimiter)
        self._spaced = f"{self._delimiter} " in header
        self._columns = [_WRONG.sub("\ufffd", cell.strip()) for cell in next((cells for _, cells in self._all(0)), [])]
        twice = [column for column, num in Counter(self._columns).items() if column and num > 1]
        if twice:
            raise UserError(f"The header of {name} names the column {twice[0][:80]!r} twice. Rename one of them.")
        try:
            self._count = sum(1 for _ in self._all(1))
        except UserError:
            if delimiter != "\t" or not self._quotes_are_text():
                raise

    def _told(self, usual: str | None) -> str:
        """The sign between cells: outside of quotes in the header, and as often in the first rows.

        One that no text holds, if the header is one cell.
        """
        lines: list[str] = []
        for line in islice(self._lines(), SAMPLE_LINES):
            lines.append(line)
            if sum(map(len, lines)) > MAX_HEADER_CHARS:
                break
        best, best_found = ONE_COLUMN, (False, -1.0, 0)
        for delimiter in DELIMITERS:
            rows = [cells for cells in csv.reader(lines, delimiter=delimiter) if cells] or [[]]
            whole, num = rows[1:-1] or rows, len(rows[0])  # the last one may be cut off
            found = delimiter == usual, round(sum(len(cells) == num for cells in whole) / len(whole), 1), num
            if num > 1 and found > best_found:
                best, best_found = delimiter, found
        return best

    def _quotes_are_text(self) -> bool:
        """Counts the rows of a table with tabs whose cells no quotes enclose; true if each has the header's cells."""
        self._quoting, self._count = csv.QUOTE_NONE, 0
        for _, cells in self._all(1):
            self._count += 1
            if len(cells) != len(self._columns) or any(len(c) > 1 and c[0] == c[-1] == '"' for c in cells):
                return False
        return True

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
        reader = csv.reader(
            self._lines(),
            delimiter=self._delimiter,
            strict=True,
            skipinitialspace=self._spaced,
            quoting=self._quoting,
        )
        line, number = self._skipped + 1, 0
        try:
            for cells in reader:
                if cells:
                    if number >= first:
                        yield line, cells
                    number += 1
                line = self._skipped + reader.line_num + 1
        except csv.Error as error:
            if self._has_backslashes:
                raise UserError(
                    f"{self._name} writes quotes within cells with a backslash, as in the row that begins at line "
                    f"{line}. Write them twice, as CSV does: "
                    f'sed -i.bak \'s/\\\\"/""/g\' {shlex.quote(self._name)}'
                ) from error
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
                self._has_backslashes |= '\\"' in line
                if len(line) > MAX_LINE_BYTES:
                    raise UserError(
                        f"Line {number} of {self._name} has more than {MAX_LINE_BYTES:,} characters. "
                        "Write pictures as files, and name them in it."
                    )
                yield line
