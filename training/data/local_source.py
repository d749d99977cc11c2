"""Rows from files on this machine, in the layouts that people and the Hub use.

`layout` tells which files of a folder hold which split; a folder may also be one that `save_to_disk` has written.
Everything is streamed.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path, PurePath
from typing import Any

from inference.common.errors import UserError
from inference.common.settings import home_folder
from training.config.data_config import check_image_root, check_there
from training.data.files.file_names import PACKED, SUFFIXES, is_data_file, suffix_of
from training.data.files.layout import (
    MAX_DEPTH,
    a_file_each,
    are_of_pictures,
    is_wanted,
    not_read,
    split_files,
    writer_of,
)
from training.data.files.row_files import open_file, saved_splits
from training.data.files.split_column import lists_of, open_splits
from training.data.picture_cells.names import PictureNames
from training.data.picture_cells.text import looks_like_pictures
from training.data.pictures import MAX_PATH_CHARS, PLACES, Folders, file_of, moved_paths
from training.data.refusals import Refusal
from training.data.shapes.class_labels import features_of_card, named
from training.data.shapes.image_columns import image_columns, listed_pictures
from training.data.source import Cells, RawRow, RowFile, digest

DOCUMENTS = (".json", ".jsonl", ".ndjson", ".tar")
"""Formats of files that may name their splits."""
SAMPLE_ROWS = 20
"""Rows of a file from which the columns that name pictures are told."""
MAX_OTHERS = 1_000
"""Files without rows, and pictures, whose names are remembered."""
CARD = "README.md"
"""The card of a repository, in a clone too."""
_BESIDE = {
    ".git",
    ".svn",
    ".hg",
    ".cache",
    ".venv",
    ".ipynb_checkpoints",
    "__pycache__",
    "node_modules",
    "wandb",
    "mlruns",
}
"""Folders of programs, which hold no pictures of a dataset and change while it is used."""
_LOGS = re.compile(r"\..*|.*\.(?:log|out|err|html?|lock|tmp|pyc?|ipynb|md)|events\.out\.tfevents.*", re.IGNORECASE)
"""Files that are no pictures and hold no rows: logs, reports, notes."""


class OpenFiles:
    """The open splits of a dataset: files whose rows follow one another, with the folders of each one's pictures."""

    features: Mapping[str, Any] = {}
    """The columns with names of classes, by the dataset's card."""

    def __init__(self, files: Mapping[str, Sequence[tuple[RowFile, Folders]]], notes: Sequence[str] = ()) -> None:
        """Raises `UserError` for a split without rows. `notes` say what is not read, or read in another way."""
        self.notes = list(notes)
        self._splits = {split: self._with_moved(split, found) for split, found in files.items()}
        self.sizes = {split: sum(len(file) for file, _ in found) for split, found in files.items()}
        if empty := next((split for split, size in self.sizes.items() if not size), None):
            raise UserError(
                f"The files of {empty} are empty: they hold no row. Write rows such as "
                '{"image": "1.png", "problem": "…", "solution": "…"} into them, one a line.'
            )

    def _with_moved(self, split: str, files: Sequence[tuple[RowFile, Folders]]) -> list[tuple[RowFile, Folders]]:
        """The files of a split, with the place here of paths of another machine, if the first rows tell one; noted."""
        found: set[tuple[str, str]] = set()
        left = SAMPLE_ROWS
        for file, folders in files[:SAMPLE_ROWS]:
            columns = file.columns()
            first = [cells for _, cells in file.rows(range(min(left, len(file))), columns)]
            texts = (text for cells in first for _, text in _texts_of(cells, columns))
            found |= {moved} if (moved := moved_paths(texts, split, folders)) else set()
            left -= len(first)
        if len(found) != 1:
            return list(files)
        [(start, place)] = found
        here = f", and {place} stands in its place" if place else ""
        self.notes.append(
            f"paths of another machine: {start[:120]} is left out{here}" if start else f"pictures are sought in {place}"
        )
        return [(file, replace(folders, moved=(start, place))) for file, folders in files]

    def columns(self, split: str) -> list[str]:
        """The columns of its first file, then further ones of later files; one that a file has twice is there twice."""
        names = Counter[str]()
        for file, _ in self._splits[split]:
            names |= Counter(file.columns())
        return list(names.elements())

    def rows(self, split: str, positions: Sequence[int], columns: Sequence[str]) -> Iterator[RawRow]:
        """The rows at increasing positions; a picture's path is relative to its file's folder or to the dataset's.

        Raises `UserError` for a file that is damaged.
        """
        first = start = 0
        for file, folders in self._splits[split]:
            end = bisect_left(positions, first + len(file), start)
            here = [at - first for at in positions[start:end]]
            start = end
            for at, cells in file.rows(here, columns):
                yield RawRow(first + at, named(cells, self.features), folders)
            first += len(file)


class LocalSource(OpenFiles):
    """Files on this machine."""

    revision: str | None = None

    def __init__(self, path: Path, splits: Sequence[str], image_root: Path | None = None) -> None:
        check_there(str(path))
        if image_root is not None:
            check_image_root(image_root)
        more = [] if image_root is None else [image_root]
        folder = path if path.is_dir() else path.parent
        self.features = features_of_card(folder / CARD)
        self._places, self._one_file = [folder, *more], None if path.is_dir() else path
        self._named_places = more  # which go before the dataset's own folders
        self._names = tuple(PictureNames(place, partial(self._listed, place)) for place in self._places)
        self._opened: dict[Path, bytes] = {}
        saved = saved_splits(path) if path.is_dir() else None
        notes: list[str] = []
        inside: Mapping[str, Sequence[tuple[RowFile, Folders]]] = {}
        paths: dict[str, list[Path]] = {}
        if saved is not None:
            folders = Folders.of(*more, folder, names=self._names)
            inside = {split: [(file, folders) for file in found] for split, found in saved.items()}
        else:
            paths, notes, pictures = _find(path, [path, *more])
            only = [file for found in paths.values() for file in found]
            if len(only) == 1 and suffix_of(only[0]) in DOCUMENTS:
                inside = self._open(only[0], folder, notes)
                inside = {next(iter(paths)): inside[""]} if "" in inside else inside

        def opened(split: str) -> Sequence[tuple[RowFile, Folders]]:
            if inside:
                return inside[split]
            found = [lists_of(self._open(file, folder, notes), split, file.name) for file in paths[split]]
            if are_of_pictures(paths[split], pictures):
                _check_named(path, paths[split], *found[0][0])
            return [one for of_file in found for one in of_file]

        every = [file for found in paths.values() for file in found]
        writer = writer_of(every)  # of no file where the folder was saved
        self.names, files = open_splits(path.name, list(inside or paths), splits, opened, notes, writer)
        super().__init__(files, notes)

    def _open(self, path: Path, folder: Path, notes: list[str]) -> dict[str, list[tuple[RowFile, Folders]]]:
        """The rows of each split that a file names, with the folders of their pictures."""
        entry = _entry(path, path.stat())
        found, note = open_file(path)
        self._opened[path] = entry
        notes += [note] if note else []
        tried = (*self._named_places, path.parent, folder)
        folders = Folders.of(*tried, within=self._places, names=self._names)
        return {name: [(rows, folders)] for name, rows in found.items()}

    def _listed(self, place: Path) -> Iterator[str]:
        """The files under a folder; for a dataset that is one file, those beside it and in `PLACES` there."""
        files = _files_under(place, 0)
        if self._one_file is not None and place not in self._named_places:
            beside = (name for name in PLACES if (place / name).is_dir())
            files = (one for name in beside for one in _files_under(place / name, 0 if name else MAX_DEPTH))
        return (path.relative_to(place).as_posix() for path in files)

    def signature(self) -> str:
        """A digest of the names, sizes and times of all files: while it is the same, so is their content."""
        return digest([repr(self.features).encode(), *(_entry(path, status) for _, path, status in self._all_files())])

    @cached_property
    def identity(self) -> str:
        """A digest of the names and contents of the files; that of a copy of them elsewhere is the same.

        Of links, and of the pictures that the rows of a dataset name which is one file, size and time count instead of
        the content.
        """
        files = (name + self._content(path, status) for name, path, status in self._all_files())
        return digest([repr(self.features).encode(), *files])

    def _all_files(self) -> Iterator[tuple[bytes, Path, os.stat_result]]:
        """The dataset's files with their names and status: of a folder all, else the file and the pictures it names."""
        if self._one_file is not None:
            for path in (self._one_file, *self._named_pictures):
                with suppress(OSError):
                    yield os.fsencode(path.name), path, path.stat()
            return
        for number, place in enumerate(self._places):
            for path, status in _files(place):
                yield os.fsencode(f"{number}/{path.relative_to(place)} "), path, status

    @cached_property
    def _named_pictures(self) -> list[Path]:
        """The files that cells of the open rows name."""
        found: dict[Path, None] = {}
        for file, folders in (pair for files in self._splits.values() for pair in files):
            columns = file.columns()
            first = [cells for _, cells in file.rows(range(min(SAMPLE_ROWS, len(file))), columns)]
            texts = [(name, text) for cells in first for name, text in _texts_of(cells, columns)]
            naming = {name for name, text in texts if looks_like_pictures(text) or file_of(text, folders)}
            for _, cells in file.rows(range(len(file)), sorted(naming)) if naming else ():
                names = (text for _, text in _texts_of(cells, naming))
                found |= dict.fromkeys(path for text in names if (path := file_of(text, folders)) is not None)
        return list(found)

    def _content(self, path: Path, status: os.stat_result) -> bytes:
        is_named = self._one_file is not None and path != self._one_file
        if is_named or path.is_symlink() or not stat.S_ISREG(status.st_mode):
            return _entry(path, status)
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "blake2b").digest()
        except OSError:  # a file that may not be read; the row that names it is dropped
            return _entry(path, status)

    def rows(self, split: str, positions: Sequence[int], columns: Sequence[str]) -> Iterator[RawRow]:
        """The rows at increasing positions. Raises `UserError` for a file that is damaged, or changes meanwhile."""
        yield from super().rows(split, positions, columns)
        for path, entry in self._opened.items():
            if not (path.is_file() and _entry(path, path.stat()) == entry):
                raise UserError(f"{path.name} changed while it was read. Start again.")


def _find(path: Path, within: Sequence[Path]) -> tuple[dict[str, list[Path]], list[str], set[str]]:
    """The data files of each split, of a file or a folder, notes, and names of pictures without their suffixes.

    Links may lead `within` these folders.
    """
    if not path.is_dir():
        if not path.is_file():
            raise UserError(f"{path} is neither a file nor a folder. Give the path of one.")
        if not is_data_file(path):
            raise UserError(
                f"{path.name} is none of {', '.join(SUFFIXES)} (also with {', '.join(PACKED)}); write one of them."
            )
        return {"train": [path]}, [], set()
    names: list[PurePath] = []
    others: list[PurePath] = []
    linked = [entry.name for entry in os.scandir(path) if entry.is_symlink() and entry.is_dir()]
    pictures = set(linked) | set(map(str, within[1:]))  # `image_root` is named for them
    for name in (file.relative_to(path) for file in _files_under(path, 0)):
        if is_wanted(name):
            names.append(name)
        elif looks_like_pictures(name.name):
            pictures |= {name.stem} if len(pictures) < MAX_OTHERS else set()
        elif len(others) < MAX_OTHERS:
            others.append(name)
    names.sort()
    for wanted in names:
        _check_link(path / wanted, path, within)
    chosen = split_files(names, f"The folder {path.name}", lambda one: str(path / one), pictures=pictures)
    notes = not_read(sorted(others))
    if not chosen.splits:
        notes += [f"not followed: {linked[0]}, a link to a folder; give its own path" for _ in linked[:1]]
        raise UserError(
            f"There is no data in the folder {path.name}: no metadata.jsonl, and no file of {', '.join(SUFFIXES)}"
            f"{''.join(f' ({note})' for note in notes)}. "
            'Write metadata.jsonl with lines such as {"file_name": "1.png", "problem": "…", "solution": "…"}.'
        )
    splits = {split: [path / name for name in found] for split, found in chosen.splits.items()}
    return splits, chosen.notes + notes, pictures


def _check_named(folder: Path, files: Sequence[Path], rows: RowFile, folders: Folders) -> None:
    """Raises `UserError` for files that are named after pictures and do not say which picture their rows are of."""
    columns = rows.columns()
    sample = [cells for _, cells in rows.rows(range(min(SAMPLE_ROWS, len(rows))), columns)]
    if not image_columns(columns, [cells for cells in sample if not isinstance(cells, Refusal)], folders):
        raise a_file_each(f"The folder {folder.name} has {len(files):,} JSON files named after pictures", files[0])


def _check_link(file: Path, folder: Path, within: Sequence[Path]) -> None:
    """Raises `UserError` for a link to a file that is not there, or that lies outside the named folders."""
    if not file.is_symlink():
        return
    if not file.exists():
        raise UserError(f"{file} is a broken link: there is no {os.readlink(file)}. Copy the file to its place.")
    if not any(file.resolve().is_relative_to(place.resolve()) for place in within):
        raise UserError(
            f"{file} is a link to a place outside {folder.name}. Copy the file, or name a folder that holds both: "
            "--image-root FOLDER."
        )


def _files_under(folder: Path, depth: int) -> Iterator[Path]:
    """The files under a folder, and links to files, broken ones too; links to folders are not followed."""
    for entry in os.scandir(folder):
        path = Path(entry.path)
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_dir(follow_symlinks=False):
            if depth < MAX_DEPTH and not _is_own(path, home_folder().resolve()):
                yield from _files_under(path, depth + 1)
        elif entry.is_file() or entry.is_symlink() and not path.exists():
            yield path


def _texts_of(cells: Cells, columns: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The texts that may be paths in these columns, also in lists and mappings; none beside a picture's bytes."""
    if isinstance(cells, Refusal):
        return
    waiting = [(name, listed_pictures(cells.get(name))) for name in columns]
    while waiting:
        name, value = waiting.pop()
        value = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        if isinstance(value, str) and value and len(value) <= MAX_PATH_CHARS:
            yield name, value
        elif isinstance(value, list | tuple):
            waiting += [(name, one) for one in value]
        elif isinstance(value, Mapping) and not value.get("bytes"):
            waiting += [(name, one) for one in value.values()]


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The files under a folder with their status, except the home folder, run folders, logs and what programs leave."""
    home = home_folder().resolve()
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _BESIDE and not _is_own(Path(place, name), home))
        for name in sorted(name for name in files if not _LOGS.fullmatch(name)):
            with suppress(OSError):  # a broken link; the row that names it is dropped
                yield Path(place, name), os.stat(os.path.join(place, name))


def _entry(path: Path, status: os.stat_result) -> bytes:
    """A file's name, size, and times of change; the second of them nobody can set."""
    return os.fsencode(f"{path} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}")


def _is_own(folder: Path, home: Path) -> bool:
    return folder.resolve() == home or (folder / "config.json").is_file() and (folder / "checkpoints").is_dir()
