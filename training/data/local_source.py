"""Rows from files on this machine, in the layouts that people and the Hub use.

A folder may hold `metadata.jsonl`, `.csv` or `.parquet` itself, have a folder for each split that does, hold files that
are named after their split (`train.jsonl`, `data/test-00000-of-00002-0a1b.parquet`) or lie in a folder of its name
(`default/train/0000.parquet`), or be written by `save_to_disk`. Everything is streamed.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from inference.common.errors import UserError
from inference.common.settings import home_folder
from training.config.data_config import check_image_root, check_there
from training.data.files import PACKED, SUFFIXES, is_data_file, open_file, saved_splits
from training.data.pictures import Folders
from training.data.source import RawRow, digest, no_such_split

MAX_DEPTH = 4
"""Folders within one another that are searched for data files."""
METADATA = "metadata"
"""The stem of a file that lies beside the pictures it names."""
NOT_DATA = ("dataset_infos", "dataset_info", "dataset_dict", "state", "config", "package", "tokenizer_config")
"""Stems of JSON files that describe a dataset and hold no rows."""
_SHARD = re.compile(r"(?P<name>.+?)(?:-\d{5}-of-\d{5}(?:-[0-9a-f]{6,40})?|[-_]\d+)?")
_NAMED = re.compile(
    r"(?:^|[-_. ])(train|training|test|testing|validation|valid|val|dev|eval)(?:[-_. ]|\d|$)", re.IGNORECASE
)
_SPLITS = {"training": "train", "testing": "test"}


class LocalSource:
    """Files on this machine."""

    revision: str | None = None

    def __init__(self, path: Path, splits: Sequence[str], image_root: Path | None = None) -> None:
        check_there(str(path))
        if image_root is not None:
            check_image_root(image_root)
        paths: dict[str, list[Path]] = {}
        opened = saved_splits(path) if path.is_dir() else None
        if opened is None:
            paths = _find(path)
        self.names = list(opened or paths)
        for split in splits:
            if split not in self.names:
                raise no_such_split(path.name, split, self.names)
        self._files = opened or {split: [open_file(file) for file in paths[split]] for split in splits}
        self.sizes = {split: sum(map(len, self._files[split])) for split in splits}
        folder = path if path.is_dir() else path.parent
        more = [] if image_root is None else [image_root]
        self._folders = {
            split: [Folders.of(file.parent, folder, *more, within=(folder, *more)) for file in paths[split]]
            if split in paths
            else [Folders.of(folder, *more, within=(folder, *more))]
            for split in splits
        }
        self._paths = {split: paths.get(split) or [path] for split in splits}
        self._opened = {file: _entry(file, file.stat()) for split in splits for file in paths.get(split, ())}
        self._places, self._one_file = [folder, *more], None if path.is_dir() else path

    def signature(self) -> str:
        """A digest of the names, sizes and times of all files: while it is the same, so is their content."""
        return digest([_entry(path, status) for place in self._places for path, status in _files(place)])

    @cached_property
    def identity(self) -> str:
        """A digest of the names and contents of the files; that of a copy of them elsewhere is the same.

        Of links, and of what lies beside a dataset that is one file, size and time count instead of the content.
        """
        return digest(
            [
                os.fsencode(f"{number}/{path.relative_to(place)} ") + self._content(path, status)
                for number, place in enumerate(self._places)
                for path, status in _files(place)
            ]
        )

    def _content(self, path: Path, status: os.stat_result) -> bytes:
        is_beside = self._one_file is not None and path != self._one_file
        if is_beside or path.is_symlink() or not stat.S_ISREG(status.st_mode):
            return _entry(path, status)
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "blake2b").digest()
        except OSError:  # a file that may not be read; the row that names it is dropped
            return _entry(path, status)

    def columns(self, split: str) -> list[str]:
        """The columns of its first file, then further ones of later files."""
        return list(dict.fromkeys(name for file in self._files[split] for name in file.columns()))

    def rows(self, split: str, positions: Sequence[int], columns: Sequence[str]) -> Iterator[RawRow]:
        """The rows at increasing positions; a picture's path is relative to its file's folder or to the dataset's.

        Raises `UserError` for a file that is damaged, or changes meanwhile.
        """
        first = 0
        for path, file, folders in zip(self._paths[split], self._files[split], self._folders[split]):
            here = [at - first for at in positions if first <= at < first + len(file)]
            for at, cells in file.rows(here, columns):
                yield RawRow(first + at, cells, folders)
            first += len(file)
            if path in self._opened and not (path.is_file() and _entry(path, path.stat()) == self._opened[path]):
                raise UserError(f"{path.name} changed while it was read. Start again.")


def _find(path: Path) -> dict[str, list[Path]]:
    """The data files of each split."""
    if path.is_file():
        if not is_data_file(path):
            raise UserError(
                f"{path.name} is none of {', '.join(SUFFIXES)} (also with {', '.join(PACKED)}); write one of them."
            )
        return {"train": [path]}
    files = sorted(_data_files(path, path, 0))
    metadata = [file for file in files if file.name.split(".")[0].lower() == METADATA]
    if metadata:
        return _by_folder(path, metadata)
    subsets: set[str] = set()
    by_split: dict[str, list[Path]] = {}
    unnamed: dict[str, list[Path]] = {}
    for file in files:
        parts = [part for part in file.relative_to(path).parts[:-1] if part.lower() != "data"]
        split = next((found for part in (file.name, *reversed(parts)) if (found := _split_in(part))), None)
        subsets.add("/".join(part for part in parts if not _split_in(part)))
        match = _SHARD.fullmatch(file.name.split(".")[0])
        (by_split if split else unnamed).setdefault(split or (match["name"] if match else file.name), []).append(file)
    if len(subsets) > 1:
        named = ", ".join(sorted(str(path / subset) for subset in subsets if subset))
        raise UserError(f"The folder {path.name} holds several datasets; name one of them: {named}.")
    if len(unnamed) == 1 and not by_split:
        by_split = {"train": next(iter(unnamed.values()))}
    elif not by_split or len(unnamed) != 1:
        by_split |= unnamed
    if not by_split:
        raise UserError(
            f"There is no data in the folder {path.name}: no metadata.jsonl, and no file of {', '.join(SUFFIXES)}. "
            'Write metadata.jsonl with lines such as {"file_name": "1.png", "problem": "…", "solution": "…"}.'
        )
    return by_split


def _data_files(folder: Path, root: Path, depth: int) -> Iterator[Path]:
    """The data files under a folder; links are followed to files and folders inside it alone."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir(follow_symlinks=False):
            if depth < MAX_DEPTH and not _is_own(path, home_folder().resolve()):
                yield from _data_files(path, root, depth + 1)
        elif entry.is_file() and is_data_file(path) and entry.name.split(".")[0].lower() not in NOT_DATA:
            yield path


def _by_folder(root: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Metadata files by the first folder of their path, which is a split, or by `train` in the dataset's own."""
    by_split: dict[str, list[Path]] = {}
    for file in files:
        parts = [part for part in file.relative_to(root).parts[:-1] if part.lower() != "data"]
        by_split.setdefault(parts[0] if parts else "train", []).append(file)
    return by_split


def _split_in(name: str) -> str | None:
    """The split that a file's or folder's name tells, if it does."""
    match = _NAMED.search(name.split(".")[0])
    found = match[1].lower() if match else ""
    return _SPLITS.get(found, found) or None


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The files under a folder with their status, except the home folder and run folders, which change all the time."""
    home = home_folder().resolve()
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_own(Path(place, name), home))
        for name in sorted(files):
            with suppress(OSError):  # a broken link; the row that names it is dropped
                yield Path(place, name), os.stat(os.path.join(place, name))


def _entry(path: Path, status: os.stat_result) -> bytes:
    """A file's name, size, and times of change; the second of them nobody can set."""
    return os.fsencode(f"{path} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}")


def _is_own(folder: Path, home: Path) -> bool:
    return folder.resolve() == home or (folder / "config.json").is_file() and (folder / "checkpoints").is_dir()
