"""Rows by the column that names their split: one file may hold all of them.

    names, files = open_splits("charts", ["train"], ["test"], opened, notes)

`opened` brings the files of a split as the dataset's names tell it; where a column `split` says otherwise, it decides.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from inference.common.errors import UserError
from training.data.files.file_names import SPLIT_WORDS, Writer, meaning, split_asked, splits_in
from training.data.refusals import Refusal
from training.data.source import Cells, RowFile, no_such_split

COLUMN = "split"
OTHER_COLUMNS = ("data_split", "dataset_split", "split_name", "partition", "subset", "set", "usage", "phase")
"""Columns that name the splits if all their cells do."""
PATH_COLUMNS = ("file_name", "image", "images", "file_names")
"""Columns of metadata that name pictures."""
MAX_SPLITS = 100
"""A column with more values names no splits."""
MAX_NAME_CHARS = 40
_VALUE = re.compile(
    rf"(?:\d{{1,2}}[-_. ]{{1,2}})?({'|'.join(SPLIT_WORDS)})(?:[-_ ]?\d+|[-_ ]?(?:set|split|data|rows)|/[a-z]{{2}})?",
    re.IGNORECASE,
)
"""A split, also with its number, a word like `set`, or a language: `train2014`, `1.train`, `train set`, `train/en`."""
Place = TypeVar("Place")
T = TypeVar("T")
File = tuple[RowFile, Place]


class RowsOfSplit:
    """Those rows of a file that belong to a split."""

    def __init__(self, file: RowFile, at: Sequence[int]) -> None:
        self._file, self._at = file, at

    def __len__(self) -> int:
        return len(self._at)

    def columns(self) -> list[str]:
        """The names of the file's columns."""
        return self._file.columns()

    def rows(self, positions: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        """The rows at increasing `positions` among these."""
        for at, cells in self._file.rows([self._at[position] for position in positions], columns):
            yield bisect_left(self._at, at), cells


def open_splits(
    title: str,
    names: Sequence[str],
    asked: Sequence[str],
    opened: Callable[[str], Sequence[File[Place]]],
    notes: list[str],
    writer: Writer = "",
) -> tuple[list[str], dict[str, list[File[Place]]]]:
    """The names of all splits, and the files of those that are asked for, with the rows that belong to them.

    `names` are the splits by the names of files. Where `datasets` has written
    several, a column of their rows, which may be older, does not decide; in metadata the folders of the pictures may.
    Raises `UserError` for a split that has no rows.
    """
    only = list(opened(names[0])) if len(names) == 1 else []
    if only and (parts := _parts(only, notes) or (_parts_by_folder(only) if writer == "metadata" else None)):
        column, by_split = parts
        shown = f"{title}, by its column {column!r},"
        _check(shown, asked, list(by_split))
        total = sum(len(file) for file, _ in only)
        found = {split: by_split[str(split_asked(split, list(by_split)))] for split in asked}
        notes += [note for split in asked if (note := _note(split, found[split], column, total))]
        return list(by_split), found
    _check(title, asked, names)
    found = {}
    for split in asked:
        name = str(split_asked(split, names))
        files = found[split] = only or list(opened(name))
        if writer == "datasets" and not only:
            saved = f"the column {COLUMN!r} is not read: the splits are those that were saved"
            has_column = any(column.strip().lower() == COLUMN for file, _ in files for column in file.columns())
            notes += [saved] if has_column and saved not in notes else []
        elif not only and (parts := _parts(files, notes)):
            column, by_split = parts
            same = [one for one in by_split if meaning(one) == meaning(name)]
            if not same and _says_the_same(column, list(by_split), [one for one in names if one != name], opened):
                notes.append(f"the column {column!r} is not read: it says {next(iter(by_split))} in all files")
                continue
            if not same:
                raise UserError(
                    f"The files of {name} in {title} hold no row of {name}: their column {column!r} says "
                    f"{', '.join(by_split)}. Give the path of one of the files and --split {next(iter(by_split))}, or "
                    "rename the column if it tells something else."
                )
            found[split] = by_split[same[0]]
            if note := _note(split, found[split], column, sum(len(file) for file, _ in files)):
                notes.append(
                    f"{note}: of others the names of the files say {name}, and the column says "
                    f"{', '.join(one for one in by_split if one not in same)} (to read all, rename the column)"
                )
    return list(names), found


def _says_the_same(
    column: str, values: Sequence[str], others: Sequence[str], opened: Callable[[str], Sequence[File[Place]]]
) -> bool:
    """True if the column has one value, and has it in the files of all other splits too: it tells none apart."""
    of_others = (_by_value(opened(other), column, True) for other in others)
    return len(values) == 1 and all(found is not None and list(found) == values for found in of_others)


def lists_of(found: Mapping[str, T], split: str, name: str) -> T:
    """Of the lists that a file of a split holds, its only one, or the one of the split's name.

    Raises `UserError` for several others.
    """
    same = next(iter(found)) if len(found) == 1 else split_asked(split, list(found))
    if same is None:
        raise UserError(
            f"{name} holds several lists of rows, {' and '.join(found)}. Give the path of the file alone, and name "
            f"one: --split {next(iter(found))}."
        )
    return found[same]


def _check(title: str, asked: Sequence[str], names: Sequence[str]) -> None:
    if missing := next((split for split in asked if split_asked(split, names) is None), None):
        raise no_such_split(title, missing, names)
    meant: dict[str | None, str] = {}
    for split in asked:
        other = meant.setdefault(split_asked(split, names), split)
        if other != split:
            raise UserError(f"{other} and {split} are one split of {title}: {split_asked(split, names)}. Name another.")


def _note(split: str, files: Sequence[File[Place]], column: str, total: int) -> str:
    size = sum(len(file) for file, _ in files)
    return f"{split} = the {size:,} of {total:,} rows whose {column} says so" if size < total else ""


def _parts(files: Sequence[File[Place]], notes: list[str]) -> tuple[str, dict[str, list[File[Place]]]] | None:
    """The column that names splits, and the rows of each; `None` if no column does, which is noted of `split`."""
    columns = dict.fromkeys(name for file, _ in files for name in file.columns())
    by_name = {name.strip().lower(): name for name in reversed(columns)}
    for wanted in (COLUMN, *OTHER_COLUMNS):
        if wanted in by_name and (found := _by_value(files, by_name[wanted], wanted == COLUMN)):
            return by_name[wanted], _files_of(found, files)
    note = f"the column {by_name.get(COLUMN)!r} names no split such as train or test, and is not read as one"
    notes += [note] if COLUMN in by_name and note not in notes else []
    return None


def _parts_by_folder(files: Sequence[File[Place]]) -> tuple[str, dict[str, list[File[Place]]]] | None:
    """The rows by the folder of their picture, `train/images/1.png`, if each names a split, and all several."""
    columns = {name for file, _ in files for name in file.columns()} & set(PATH_COLUMNS)
    for column in (name for name in PATH_COLUMNS if name in columns):
        found = _by_value(files, column, False, _split_of_path)
        if found and len(found) > 1:
            return column, _files_of(found, files)
    return None


def _files_of(found: Mapping[str, Sequence[array[int]]], files: Sequence[File[Place]]) -> dict[str, list[File[Place]]]:
    return {
        split: [(RowsOfSplit(file, at), place) for (file, place), at in zip(files, found[split]) if at]
        for split in sorted(found, key=lambda split: split != "train")
    }


def _by_value(
    files: Sequence[File[Place]], column: str, may_have_others: bool, told: Callable[[object], str] | None = None
) -> Mapping[str, list[array[int]]] | None:
    """The positions in each file by the split that the column says; those of unreadable rows are of the first."""
    found: dict[str, list[array[int]]] = {}
    unreadable = [array("Q") for _ in files]
    num_known = 0
    for number, (file, _) in enumerate(files):
        for at, cells in file.rows(range(len(file)), [column]):
            value = None if isinstance(cells, Refusal) else cells.get(column)
            if isinstance(cells, Refusal):
                unreadable[number].append(at)
                continue
            if value is None or isinstance(value, str) and not value.strip():
                continue
            split = (told or _split_of)(value)
            num_known += bool(splits_in(split))
            if not split or not may_have_others and split not in SPLIT_WORDS.values():
                return None
            found.setdefault(split, [array("Q") for _ in files])[number].append(at)
            if len(found) > MAX_SPLITS:
                return None
    if not num_known:
        return None
    first = found.get("train") or next(iter(found.values()))
    for number, extra in enumerate(unreadable):
        first[number] = array("Q", sorted([*first[number], *extra])) if extra else first[number]
    return found


def _split_of(value: object) -> str:
    """The split that a cell names, in lower case; empty for what is no name."""
    if not isinstance(value, str) or len(value) > MAX_NAME_CHARS:
        return ""
    match = _VALUE.fullmatch(value.strip())
    return SPLIT_WORDS[match[1].lower()] if match else value.strip().lower()


def _split_of_path(value: object) -> str:
    """The split that the folders of a path name; that of the first of several paths."""
    first = value[0] if isinstance(value, list) and value else value
    folders = first.replace("\\", "/").split("/")[:-1] if isinstance(first, str) else []
    return next((splits[0] for folder in folders if len(splits := splits_in(folder)) == 1), "")
