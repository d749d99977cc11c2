"""Rows of a JSON file by position: one object a line, or any of the ways in which one document holds them.

    files, note = open_json(Path("train.json"), "train.json")
    files.keys()                                  # {""}, or the splits that the document names: {"train", "test"}

A document is an array of objects, an array that is a value of an object (`{"data": […]}`), objects by their ids
(`{"1": {…}}`), or columns as pandas writes them (`{"problem": {"0": …}}`). Only places in the file are in memory.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
import shlex
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from inference.common.errors import UserError, first_line
from training.data.files.file_names import SPLIT_WORDS
from training.data.refusals import Refusal
from training.data.shapes.answer_columns import SOLUTION_NAMES
from training.data.shapes.problems import PROBLEM_NAMES
from training.data.shapes.turns import TURN_NAMES
from training.data.source import Cells

MAX_LINE_BYTES = 64 * 2**20
"""Longer rows of JSON, and longer cells of CSV or Parquet, are refused."""
COLUMN_ROWS = 100
"""Rows of a file without a schema that are read for its columns."""
LIST_NAMES = ("data", "rows", "train", "examples", "items", "instances", "samples", "questions", "annotations")
"""Names by which an object holds all rows of a JSON file."""
SAMPLE_OBJECTS = 3
"""Objects of an array whose columns tell whether they are rows."""
MAX_COLUMNS = 1_000
"""Columns of a document that holds columns."""
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[{}\[\]]', re.DOTALL)
"""A text, also one that is not closed, so that what was read once is never read again; or a bracket."""
_PLAIN = re.compile(rb"[^\s,:]+")
"""A number, a truth value or null, between tokens."""
_OF_PYTHON = re.compile(rb"(\[\s*)?\{\s*'")
SPACE = b"\xef\xbb\xbf \t\r\n"
_KEY_BYTES = 1_000


@dataclass(frozen=True)
class _Child:
    """A value in an array or an object of a file."""

    key: str
    """Its name; empty in an array."""
    start: int
    end: int
    is_closed: bool
    kind: bytes
    """Its first character."""


class JsonRows:
    """Rows that are JSON values at known places of a file; what is no object is a refusal."""

    def __init__(
        self, path: Path, places: Iterator[tuple[int, int]], keep: object = None, by_id: int | None = None
    ) -> None:
        """Of an object with rows by their ids, `by_id` is the place where it begins."""
        self.path, self._keep, self._by_id = path, keep, by_id
        self._starts, self._ends = array("Q"), array("Q")
        for start, end in places:
            self._starts.append(start)
            self._ends.append(end)

    def __len__(self) -> int:
        return len(self._starts)

    def columns(self) -> list[str]:
        """The keys of the first hundred readable rows, in their order."""
        return columns_of_rows(row for _, row in self.rows(range(min(COLUMN_ROWS, len(self))), ()))

    def rows(self, positions: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        """The rows at `positions`; what is no JSON object is a refusal."""
        with self.path.open("rb") as file:
            for at in positions:
                row = parse(_piece(file, self._starts[at], self._ends[at]))
                if self._by_id is not None and not isinstance(row, Refusal) and "id" not in row:
                    key = _piece(file, self._ends[at - 1] if at else self._by_id + 1, self._starts[at])
                    row = {**row, "id": _key(key.strip(SPACE + b",:")[:_KEY_BYTES])}
                yield at, row


class JsonColumns:
    """Rows whose cells stand in a list or an object for each column."""

    def __init__(self, path: Path, columns: Mapping[str, JsonRows]) -> None:
        self.path, self._columns = path, columns

    def __len__(self) -> int:
        return min(map(len, self._columns.values()))

    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._columns)

    def rows(self, positions: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        """The rows at `positions`, with these columns alone."""
        wanted = [(name, self._columns[name]) for name in columns if name in self._columns]
        with self.path.open("rb") as file:
            for at in positions:
                pieces = ((name, _piece(file, found._starts[at], found._ends[at])) for name, found in wanted)
                yield at, parse(b"{" + b",".join(json.dumps(n).encode() + b":" + piece for n, piece in pieces) + b"}")


def open_json(path: Path, name: str, keep: object = None) -> tuple[dict[str, JsonRows | JsonColumns], str]:
    """The rows of each split that the file names; under an empty name those of a file without splits. And a note.

    Raises `UserError` for a document that holds no rows.
    """
    is_document = False
    with path.open("rb") as file:
        start, first = 0, read_line(file)
        while first and not first.strip(SPACE):
            start, first = file.tell(), read_line(file)
        if not first:
            return {"": JsonRows(path, iter(()), keep)}, ""
        start += len(first) - len(first.lstrip(SPACE))
        _check_quotes(first, name)
        is_document = not _is_row_of_many(first, file)
    if is_document:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            is_json = ".json" in Path(name.lower()).suffixes
            found, note = _of_document(path, content, start, len(first.strip(SPACE)), is_json, keep)
            if found:
                return found, f"{name}: {note}" if note else ""
            if content[start : start + 1] == b"[" or is_json:
                raise UserError(
                    f"{name} is neither an array of objects nor one object a line; write one of them "
                    "(pandas: to_json(orient='records', lines=True))."
                )
    return {"": JsonRows(path, _lines(path), keep)}, ""


def _check_quotes(first: bytes, name: str) -> None:
    """Raises `UserError` for dictionaries as Python prints them."""
    if match := _OF_PYTHON.match(first.lstrip(SPACE)):
        each, text = ("[{}]", "sys.stdin.read()") if match[1] else ("[{} for line in sys.stdin]", "line")
        converted = each.format(f"print(json.dumps(ast.literal_eval({text})))")
        raise UserError(
            f"{name} holds dictionaries as Python prints them, with single quotes, and no JSON. Write it with "
            f"json.dumps, or convert it: python -c 'import ast, json, sys; {converted}' < {shlex.quote(name)} > rows "
            f"&& mv rows {shlex.quote(name)}"
        )


def columns_of_rows(rows: Iterator[Cells]) -> list[str]:
    """The names in rows, in their order."""
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(row) if not isinstance(row, Refusal) else {}
    return list(names)


def read_line(file: BinaryIO) -> bytes:
    """The next line; of one that is too long, the first `MAX_LINE_BYTES` + 1 bytes, and the rest is skipped."""
    line = file.readline(MAX_LINE_BYTES + 1)
    if len(line) > MAX_LINE_BYTES:
        while (more := file.readline(MAX_LINE_BYTES)) and not more.endswith(b"\n"):
            pass
    return line


def parse(line: bytes) -> Cells:
    """A JSON object, or the refusal of what is none."""
    if len(line) > MAX_LINE_BYTES:
        return Refusal("row unreadable", f"it has more than {MAX_LINE_BYTES:,} bytes")
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return Refusal("row unreadable", f"not JSON: {first_line(error)}")
    return row if isinstance(row, dict) else Refusal("row unreadable", f"a {type(row).__name__}, not an object")


def _is_row_of_many(first: bytes, file: BinaryIO) -> bool:
    """True if the first line is a whole value and another line follows, so that a row is a line."""
    try:
        json.loads(first.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    while line := read_line(file):
        if line.strip(SPACE):
            return True
    return False


def _of_document(
    path: Path, content: mmap.mmap, start: int, num_first: int, is_json: bool, keep: object
) -> tuple[dict[str, JsonRows | JsonColumns], str]:
    """The rows of a file whose first line is not one of several rows; none if it is no document that holds any."""
    if content[start : start + 1] == b"[":
        return _listed(path, [_Child("", start, len(content), True, b"[")], content, keep)
    values = _children(content, start, 0)
    outer, after = next(values, None), next(values, None)
    if outer is None or outer.kind != b"{" or not outer.is_closed:
        return {}, ""
    if after is not None:  # objects over several lines that follow one another
        spans_lines = outer.end - start > num_first and after.kind == b"{"
        places = ((child.start, child.end) for child in _children(content, start, 0))
        return ({"": JsonRows(path, places, keep)} if spans_lines else {}), ""
    inside = list(_few(_children(content, start)))
    row: dict[str, JsonRows | JsonColumns] = {"": JsonRows(path, iter([(start, outer.end)]), keep)}
    if {"columns", "data"} <= {child.key for child in inside if child.kind == b"["}:
        return {}, ""  # lists of cells without names, as pandas' orient="split" writes them
    if inside and (is_json or {child.kind for child in inside} == {b"["}):
        if (found := _columns(path, content, inside, keep)) is not None:
            return {"": found}, ""
    is_one_line, is_row = outer.end - start <= num_first, _is_row(_texts(inside))
    lists = [child for child in inside if child.kind == b"["]
    if (is_one_line or is_row) and len(lists) < len(inside):  # then it may be a row that has lists
        usual = {child for child in lists if child.key.lower() in (*LIST_NAMES, *SPLIT_WORDS)}
        lists = [child for child in usual if _are_rows(content, child)] if is_row or not is_json else [
            child for child in lists if child in usual or _are_rows(content, child)
        ]  # fmt: skip
    listed, note = _listed(path, lists, content, keep)
    if listed:
        return listed, note
    if inside and is_json and not is_row and all(child.kind == b"{" for child in inside):
        places = ((child.start, child.end) for child in _children(content, start))
        return {"": JsonRows(path, places, keep, start)}, ""
    return (row if inside and (is_one_line or is_row) else {}), ""


def _listed(
    path: Path, lists: Sequence[_Child], content: mmap.mmap, keep: object
) -> tuple[dict[str, JsonRows | JsonColumns], str]:
    """The rows of the arrays that are splits, or else of those whose objects have a problem and an answer.

    Where no names of columns tell, those of the arrays do; several are told apart by their names. The note says which
    are not read.
    """
    lists = [child for child in lists if any(_objects(content, child))]
    found = [child for child in lists if child.key.lower() in SPLIT_WORDS]
    if len(found) < 2:
        found = [child for child in lists if _are_rows(content, child)]
        found = found or [child for child in lists if child.key.lower() in LIST_NAMES] or lists
    several = len(found) > 1
    places = {
        child.key if several else "": ((one.start, one.end) for one in _children(content, child.start))
        for child in found
    }
    left = ", ".join(repr(child.key[:40]) for child in lists if child not in found)
    note = f"rows are those of {', '.join(repr(one.key[:40]) for one in found)}, and not of {left}" if left else ""
    return {name: JsonRows(path, of_list, keep) for name, of_list in places.items()}, note


def _texts(cells: Iterable[_Child]) -> Iterator[str]:
    """The names of cells, without those of problems that are lists or objects: they are columns."""
    for cell in cells:
        if cell.kind not in (b"[", b"{") or cell.key.lower() not in PROBLEM_NAMES or cell.key.lower() in TURN_NAMES:
            yield cell.key


def _are_rows(content: mmap.mmap, child: _Child) -> bool:
    """True if the first objects of an array have a problem and an answer, by the names of their columns."""
    first = islice((one for one in _few(_children(content, child.start)) if one.kind == b"{"), SAMPLE_OBJECTS)
    return any(_is_row(_texts(_few(_children(content, one.start)))) for one in first)


def _is_row(names: Iterable[str]) -> bool:
    """True for the columns of a problem and its answer, or of turns."""
    here = {re.sub(r"[\s-]+", "_", name.strip().lower()) for name in names}
    return bool(here & {*PROBLEM_NAMES} and here & {*SOLUTION_NAMES} or here & {*TURN_NAMES} - {*PROBLEM_NAMES})


def _objects(content: mmap.mmap, child: _Child) -> Iterator[bool]:
    return (True for one in _children(content, child.start) if one.kind == b"{" and one.is_closed)


def _columns(path: Path, content: mmap.mmap, inside: Sequence[_Child], keep: object) -> JsonColumns | None:
    """The rows of `{"problem": {"0": …}}` and `{"problem": […]}`; `None` for an object that holds no columns."""
    kinds = {child.kind for child in inside}
    if len(inside) > MAX_COLUMNS or len(kinds) != 1 or kinds & {b"{"} and inside[0].key.isdigit():
        return None
    if kinds == {b"{"}:
        first = list(_few(_children(content, inside[0].start)))
        is_column = bool(first) and all(child.key.isdigit() for child in first)
        if not is_column and first and _is_row(child.key for child in inside):  # rows have names, as of `set_index`
            is_column = len({_names_digest(content, child) for child in inside}) == 1
    else:
        cells = [next(_children(content, child.start), None) for child in inside]
        is_column = kinds == {b"["} and len(inside) > 1 and any(cell and cell.kind != b"{" for cell in cells)
    if not is_column:
        return None
    if kinds == {b"{"} and len({_names_digest(content, child) for child in inside}) > 1:
        raise UserError(
            f"The columns of {path.name} name their rows in other orders, or other rows. Write rows instead "
            "(pandas: to_json(orient='records', lines=True))."
        )
    columns = {
        child.key: JsonRows(path, ((one.start, one.end) for one in _children(content, child.start)), keep)
        for child in inside
    }
    return JsonColumns(path, columns) if len(set(map(len, columns.values()))) == 1 else None


def _names_digest(content: mmap.mmap, column: _Child) -> bytes:
    """A digest of the names of a column's rows in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for child in _children(content, column.start):
        digest.update(f"{len(child.key)} {child.key}".encode("utf-8", "surrogatepass"))
    return digest.digest()


def _few(children: Iterator[_Child]) -> Iterator[_Child]:
    """The first of them: enough to tell what they are."""
    for number, child in enumerate(children):
        yield child
        if number >= MAX_COLUMNS:
            return


def _children(content: mmap.mmap, start: int, inside: int = 1) -> Iterator[_Child]:
    """The values in the array or the object at `start`, or those that follow one another from there (`inside` 0).

    One that the end of the file cuts off is the last, not closed.
    """
    depth, key, begin, last = 0, "", start, start + inside
    is_object = content[start : start + 1] == b"{" and inside == 1
    for token in _TOKEN.finditer(content, start):
        character = content[token.start() : token.start() + 1]
        if depth == inside:
            for plain in _PLAIN.finditer(content, last, token.start()):
                yield _Child(key, plain.start(), plain.end(), True, plain[0][:1])
                key = ""
            last = token.end()
            if character == b'"':
                if is_object and not key:
                    key = _key(content[token.start() : min(token.end(), token.start() + _KEY_BYTES)])
                    continue
                yield _Child(key, token.start(), token.end(), True, character)
        if character in b"{[":
            if depth == inside:
                begin = token.start()
            depth += 1
        elif character in b"}]":
            depth -= 1
            if depth == inside:
                yield _Child(key, begin, token.end(), True, content[begin : begin + 1])
                last = token.end()
            elif depth < inside:
                return
        if depth == inside and token.start() > start:
            key = ""
    if inside or depth:
        yield _Child(key, begin if depth > inside else last, len(content), False, b"")


def _key(text: bytes) -> str:
    try:
        return str(json.loads(text)) or " "
    except ValueError:
        return text.decode("utf-8", "replace")


def _lines(path: Path) -> Iterator[tuple[int, int]]:
    with path.open("rb") as file:
        start = 0
        while line := read_line(file):
            if line.strip(SPACE):
                yield start, file.tell()
            start = file.tell()


def _piece(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(min(end - start, MAX_LINE_BYTES + 1))
