"""Rows of a WebDataset archive, by position: the files of one name. Nothing is unpacked."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from inference.common.errors import UserError, first_line
from training.data.files.json_rows import COLUMN_ROWS, MAX_LINE_BYTES, columns_of_rows, parse
from training.data.pictures import looks_like_pictures
from training.data.refusals import Refusal
from training.data.source import Cells

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
                row = parse(content)
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
    for key, of_middle in endings.items():
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
