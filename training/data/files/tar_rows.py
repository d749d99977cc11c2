"""Rows of a tar archive, by position: of a WebDataset the files of one name, else those of the table beside pictures.

Pictures are never unpacked.
"""

from __future__ import annotations

import re
import shlex
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import BinaryIO

from inference.common.errors import UserError, first_line
from training.data.files.file_names import is_data_file, suffix_of
from training.data.files.json_rows import COLUMN_ROWS, MAX_LINE_BYTES, SPACE, columns_of_rows, parse
from training.data.picture_cells.names import PictureNames, bare
from training.data.picture_cells.text import FILE_NAME, looks_like_pictures
from training.data.refusals import Refusal
from training.data.shapes.cells import MAX_LIGHT_DEPTH, first_named
from training.data.shapes.image_columns import IMAGE_NAMES, listed_pictures
from training.data.shapes.turns import turns_of
from training.data.source import Cells, RowFile

MAX_HEADER_BYTES = 2**20
"""Of a tar's member that is no file, such as a long name."""


class _Member(tarfile.TarInfo):
    """A member whose headers are bounded: the library reads those of long names into memory whole."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:  # the library's entry point for subclasses
        if self.type not in tarfile.REGULAR_TYPES and self.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes; at most {MAX_HEADER_BYTES:,} are read")
        return super()._proc_member(archive)  # type: ignore[misc]


class TarRows:
    """A WebDataset archive: files of one stem are a row, and their suffixes its columns. Nothing is unpacked."""

    def __init__(self, path: Path, name: str, keep: object = None) -> None:
        """Reads where its files are. Raises `UserError` if it is damaged, or if its samples cannot be told apart."""
        self.path, self._keep, self.note = path, keep, ""
        found: list[tuple[str, str, int, int]] = []
        try:
            with tarfile.open(path, "r:", tarinfo=_Member) as archive:
                for member in archive:
                    folder, _, base = member.name.rpartition("/")
                    if member.isfile() and not base.startswith("."):
                        stem, _, suffix = base.partition(".")
                        found.append((f"{folder}/{stem}", suffix.lower(), member.offset_data, member.size))
        except (tarfile.TarError, OverflowError, ValueError) as error:  # the last two: sizes beyond all files
            raise UserError(f"{name} is not a readable tar archive: {first_line(error)}") from error
        self.table, self.pictures = _table_of(found, name), dict[str, tuple[int, int]]()
        if self.table:
            self.pictures = {_path(key, end): (start, size) for key, end, start, size in found}
            self.note = f"{name}: rows are those of {self.table}"
            return
        with_dots = _with_dots(found, name)
        if with_dots:
            first = next(iter(with_dots)).removeprefix("/")
            self.note = f"{name}: samples are told apart by their names up to the last dot, as {first}"
        latest: dict[str, dict[str, tuple[int, int]]] = {}
        self._samples: list[dict[str, tuple[int, int]]] = []
        for key, suffix, start, size in found:
            middle, _, ending = suffix.rpartition(".")
            if f"{key}.{middle}" in with_dots:
                key, suffix = f"{key}.{middle}", ending
            if suffix in latest.get(key, {suffix: 0}):  # a new name, or another sample of the same one
                latest[key] = {}
                self._samples.append(latest[key])
            latest[key][suffix] = start, size

    def __len__(self) -> int:
        return len(self._samples)

    def columns(self) -> list[str]:
        """The suffixes, and the keys of JSON objects, of the first hundred rows."""
        return columns_of_rows(row for _, row in self.rows(range(min(COLUMN_ROWS, len(self))), ()))

    def rows(self, positions: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        """The rows at `positions`; the keys of a JSON object in a row are columns too."""
        with self.path.open("rb") as file:
            for at in positions:
                yield at, self._row(file, self._samples[at])

    def _row(self, file: BinaryIO, sample: dict[str, tuple[int, int]]) -> Cells:
        cells: dict[str, object] = {}
        said: dict[str, object] = {}
        if sum(size for _, size in sample.values()) > MAX_LINE_BYTES:
            return Refusal("row unreadable", f"its files have more than {MAX_LINE_BYTES:,} bytes")
        for suffix, (start, size) in sample.items():
            file.seek(start)
            content = file.read(size)
            if suffix == "json":
                row = _said(content)
                if isinstance(row, Refusal):
                    return row
                said |= row
            else:
                is_text = suffix.rpartition(".")[2] in ("txt", "cls", "text")
                cells[suffix] = content.decode("utf-8", "replace") if is_text else content
        pictures = {suffix: cell for suffix, cell in cells.items() if looks_like_pictures(f"a.{suffix}")}
        used: set[str] = set()
        named = {name: _of_sample(cell, pictures, used) for name, cell in said.items()}
        return named | {suffix: cell for suffix, cell in cells.items() if suffix not in used}


class TableRows:
    """The rows of a table in an archive, whose cells have the pictures of the archive that they name."""

    def __init__(self, rows: RowFile, archive: TarRows, keep: object) -> None:
        self._rows, self._archive, self._keep = rows, archive, keep
        self._beside = dict.fromkeys(("".join(archive.table.rpartition("/")[:2]), ""))
        self._names = PictureNames(Path(), lambda: archive.pictures)

    def __len__(self) -> int:
        return len(self._rows)

    def columns(self) -> list[str]:
        """The names of the table's columns."""
        return self._rows.columns()

    def rows(self, positions: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        """The rows at `positions`, with the pictures of these columns."""
        with self._archive.path.open("rb") as file:
            for at, cells in self._rows.rows(positions, columns):
                if not isinstance(cells, Refusal):
                    left = [MAX_LINE_BYTES]
                    cells = {
                        name: self._cell(cell, name, file, left) if name in columns else cell
                        for name, cell in cells.items()
                    }
                    if left[0] < 0:
                        cells = Refusal("row unreadable", f"its pictures have more than {MAX_LINE_BYTES:,} bytes")
                yield at, cells

    def _cell(self, cell: object, column: str, file: BinaryIO, left: list[int], depth: int = MAX_LIGHT_DEPTH) -> object:
        """A cell with the bytes of the pictures that it names; of `left` bytes those are taken away."""
        cell = listed_pictures(cell)
        if isinstance(cell, list) and depth:
            return [self._cell(one, column, file, left, depth - 1) for one in cell]
        if isinstance(cell, Mapping) and depth:
            return {name: self._cell(one, str(name), file, left, depth - 1) for name, one in cell.items()}
        if (
            isinstance(cell, int)
            and not isinstance(cell, bool)
            or isinstance(cell, str)
            and not FILE_NAME.fullmatch(cell)
        ):
            if first_named(IMAGE_NAMES, [column], ()) is None:
                return cell
        found = self._found(str(cell).replace("\\", "/"))
        if found is None:
            return cell
        start, size = self._archive.pictures[found]
        left[0] -= size
        if left[0] < 0:
            return cell
        file.seek(start)
        return file.read(size)

    def _found(self, name: str) -> str | None:
        base = bare(name)
        found = self._names.find(base + name[len(base) :].lower(), list(self._beside))
        return found[0] if len(found) == 1 else None


def copied_table(archive: TarRows) -> tuple[Path, TemporaryDirectory[str]]:
    """A copy of the table in an archive, in a folder that goes when nobody holds it any more."""
    folder = TemporaryDirectory(prefix="lookthink-")
    target = Path(folder.name) / archive.table.rpartition("/")[2]
    start, size = archive.pictures[archive.table]
    with archive.path.open("rb") as file, target.open("wb") as copy:
        file.seek(start)
        while size > 0 and (part := file.read(min(size, 2**20))):
            copy.write(part)
            size -= len(part)
    return target, folder


def _path(key: str, suffix: str) -> str:
    """The path of a member in an archive, its suffix in lower case."""
    return f"{key}.{suffix}".removeprefix("./").removeprefix("/")


def _table_of(found: Sequence[tuple[str, str, int, int]], name: str) -> str:
    """The name of the one table of an archive with pictures that have no files of their own; empty of another archive.

    Raises `UserError` for several tables.
    """
    tables, with_picture, with_more = [], set[str](), set[str]()
    for key, suffix, _, _ in found:
        if looks_like_pictures(f"a.{suffix}"):
            with_picture.add(key)
        else:
            with_more.add(key)
            is_table = is_data_file(PurePath(f"a.{suffix}")) and suffix_of(PurePath(f"a.{suffix}")) != ".tar"
            tables += [_path(key, suffix)] if is_table else []
    if not tables or not with_picture or with_picture & with_more:
        return ""
    if len(tables) > 1:
        raise UserError(
            f"{name} holds pictures and {len(tables):,} tables, such as {tables[0][:80]} and {tables[1][:80]}, and no "
            "samples of a WebDataset, whose files have one name. Unpack it, and give the folder: "
            f"mkdir unpacked && tar -xf {shlex.quote(name)} -C unpacked"
        )
    return tables[0]


def _said(content: bytes) -> Cells:
    """The object in the JSON of a sample, also the only one of a list, or a list of chat turns."""
    content = content.lstrip(SPACE)
    if not content.startswith(b"["):
        return parse(content)
    found = parse(b'{"conversations":' + content + b"}")
    if isinstance(found, Refusal) or turns_of(said := found["conversations"]):
        return found
    if isinstance(said, list) and len(said) == 1 and isinstance(said[0], dict):
        return said[0]
    num = len(said) if isinstance(said, list) else 0
    detail = (
        f"its JSON holds a list of {num:,}, and a sample is one row: write one object into it, or a sample for each"
    )
    return Refusal("row unreadable", detail)


def _with_dots(found: Sequence[tuple[str, str, int, int]], name: str) -> dict[str, None]:
    """The samples whose names hold dots, so that several of them have one name by the rule of WebDataset.

    Each has several files of its own, of suffixes that other samples do not have. Raises `UserError` where they cannot
    be told from several files of one sample.
    """
    keys_of: dict[str, set[str]] = {}
    endings: dict[str, dict[str, set[str]]] = {}
    for key, suffix, _, _ in found:
        middle, _, ending = suffix.rpartition(".")
        if middle:
            keys_of.setdefault(middle, set()).add(key)
            endings.setdefault(key, {}).setdefault(middle, set()).add(ending)
    apart: dict[str, None] = {}
    plain = {key for key, suffix, _, _ in found if "." not in suffix}
    for key, of_middle in endings.items():
        if key not in plain and len(of_middle) == 1 and len(endings[key][only := next(iter(of_middle))]) > 1:
            apart[f"{key}.{only}"] = None
            continue
        own = [middle for middle in of_middle if len(keys_of[middle]) == 1 or re.search(r"\d", middle)]
        whole = [middle for middle in own if len(of_middle[middle]) > 1]
        if len(whole) > 1:
            apart |= dict.fromkeys(f"{key}.{middle}" for middle in whole)
        elif sum("json" in of_middle[middle] for middle in own) > 1:
            base = key.rpartition("/")[2]
            first, second = [middle for middle in own if "json" in of_middle[middle]][:2]
            raise UserError(
                f"{base}.{first}.json and {base}.{second}.json in {name} are of one sample, {base}, since by the rule "
                "of WebDataset its name ends at the first dot. Write names without other dots than that of the suffix: "
                f"{base}_{first.replace('.', '_')}.json."
            )
    return apart


def _of_sample(cell: object, pictures: Mapping[str, object], used: set[str]) -> object:
    """A cell of a sample's JSON, where it names a picture of the sample that picture itself, which then is used.

    Of a list that names more pictures than the sample has, none is meant.
    """
    if isinstance(cell, list):
        named = [_suffix_in(one, pictures) for one in cell]
        is_several = len({str(one) for one in cell if isinstance(one, str)}) > len(set(named) - {""})
        if is_several and any(named):
            return cell
        return [_of_sample(one, pictures, used) for one in cell]
    suffix = _suffix_in(cell, pictures)
    used |= {suffix} - {""}
    return pictures[suffix] if suffix else cell


def _suffix_in(cell: object, pictures: Mapping[str, object]) -> str:
    """The suffix of the sample's picture that a text names; empty if it names none."""
    if not isinstance(cell, str) or not looks_like_pictures(cell):
        return ""
    base = cell.replace("\\", "/").rpartition("/")[2].lower()
    suffix = base.partition(".")[2]
    if suffix not in pictures and not any("." in one for one in pictures):  # the sample's own name has dots
        suffix = base.rpartition(".")[2]
    return suffix if suffix in pictures else next(iter(pictures), "") if len(pictures) == 1 else ""
