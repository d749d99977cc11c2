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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePath

from inference.common.errors import UserError
from inference.common.settings import home_folder
from training.config.data_config import check_image_root, check_there
from training.data.files import PACKED, SUFFIXES, RowFile, is_data_file, open_file, saved_splits
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


class OpenFiles:
    """The open splits of a dataset: files whose rows follow one another, with the folders of each one's pictures."""

    def __init__(self, files: Mapping[str, Sequence[tuple[RowFile, Folders]]]) -> None:
        self._splits = files
        self.sizes = {split: sum(len(file) for file, _ in found) for split, found in files.items()}

    def columns(self, split: str) -> list[str]:
        """The columns of its first file, then further ones of later files."""
        return list(dict.fromkeys(name for file, _ in self._splits[split] for name in file.columns()))

    def rows(self, split: str, positions: Sequence[int], columns: Sequence[str]) -> Iterator[RawRow]:
        """The rows at increasing positions; a picture's path is relative to its file's folder or to the dataset's.

        Raises `UserError` for a file that is damaged.
        """
        first = 0
        for file, folders in self._splits[split]:
            here = [at - first for at in positions if first <= at < first + len(file)]
            for at, cells in file.rows(here, columns):
                yield RawRow(first + at, cells, folders)
            first += len(file)


class LocalSource(OpenFiles):
    """Files on this machine."""

    revision: str | None = None

    def __init__(self, path: Path, splits: Sequence[str], image_root: Path | None = None) -> None:
        check_there(str(path))
        if image_root is not None:
            check_image_root(image_root)
        paths: dict[str, list[Path]] = {}
        more = [] if image_root is None else [image_root]
        opened = saved_splits(path) if path.is_dir() else None
        if opened is None:
            paths = _find(path, [path, *more])
        self.names = list(opened or paths)
        for split in splits:
            if split not in self.names:
                raise no_such_split(path.name, split, self.names)
        folder = path if path.is_dir() else path.parent
        saved = [Folders.of(folder, *more, within=(folder, *more))]
        files = {split: list(zip(of_split, saved * len(of_split))) for split, of_split in (opened or {}).items()}
        for split in splits if opened is None else ():
            folders = [Folders.of(file.parent, folder, *more, within=(folder, *more)) for file in paths[split]]
            files[split] = list(zip(map(open_file, paths[split]), folders))
        super().__init__({split: files[split] for split in splits})
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

    def rows(self, split: str, positions: Sequence[int], columns: Sequence[str]) -> Iterator[RawRow]:
        """The rows at increasing positions. Raises `UserError` for a file that is damaged, or changes meanwhile."""
        yield from super().rows(split, positions, columns)
        for path, entry in self._opened.items():
            if not (path.is_file() and _entry(path, path.stat()) == entry):
                raise UserError(f"{path.name} changed while it was read. Start again.")


def _find(path: Path, within: Sequence[Path]) -> dict[str, list[Path]]:
    """The data files of each split, of a file or a folder; links may lead to places `within` these folders."""
    if not path.is_dir():
        if not path.is_file():
            raise UserError(f"{path} is neither a file nor a folder. Give the path of one.")
        if not is_data_file(path):
            raise UserError(
                f"{path.name} is none of {', '.join(SUFFIXES)} (also with {', '.join(PACKED)}); write one of them."
            )
        return {"train": [path]}
    names = sorted(file.relative_to(path) for file in _data_files(path, path, 0))
    for link in [path / name for name in names if (path / name).is_symlink()]:
        if not any(link.resolve().is_relative_to(folder.resolve()) for folder in within):
            raise UserError(
                f"{link} is a link to a place outside {path.name}. Copy the file, or name a folder that holds both: "
                "--image-root FOLDER."
            )
    by_split = split_files(names, f"The folder {path.name}", lambda subset: str(path / subset))
    if not by_split:
        raise UserError(
            f"There is no data in the folder {path.name}: no metadata.jsonl, and no file of {', '.join(SUFFIXES)}. "
            'Write metadata.jsonl with lines such as {"file_name": "1.png", "problem": "…", "solution": "…"}.'
        )
    return {split: [path / name for name in found] for split, found in by_split.items()}


def split_files(
    names: Sequence[PurePath], title: str, shown: Callable[[str], str], subset: str | None = None
) -> dict[str, list[PurePath]]:
    """The data files of each split, by their paths in a dataset alone; none if there are none.

    A folder that names no split is a subset. Raises `UserError` if there are several and `subset` names none; it calls
    the dataset `title`, and shows each subset as it can be named.
    """
    if subset is not None:
        names = [name for name in names if _subset_of(name) == subset]
    metadata = [name for name in names if name.name.split(".")[0].lower() == METADATA]
    if metadata:
        return by_folder(metadata)
    subsets = {_subset_of(name) for name in names}
    if len(subsets) > 1:
        named = ", ".join(sorted(shown(one) for one in subsets if one))
        raise UserError(f"{title} holds several datasets; name one of them: {named}.")
    by_split: dict[str, list[PurePath]] = {}
    unnamed: dict[str, list[PurePath]] = {}
    for name in names:
        parts = (name.name, *reversed(name.parts[:-1]))
        split = next((found for part in parts if (found := _split_in(part))), None)
        match = _SHARD.fullmatch(name.name.split(".")[0])
        (by_split if split else unnamed).setdefault(split or (match["name"] if match else name.name), []).append(name)
    if len(unnamed) == 1 and not by_split:
        return {"train": next(iter(unnamed.values()))}
    return by_split if by_split and len(unnamed) == 1 else by_split | unnamed


def _data_files(folder: Path, root: Path, depth: int) -> Iterator[Path]:
    """The data files under a folder, links to files among them; links to folders are not followed."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir(follow_symlinks=False):
            if depth < MAX_DEPTH and not _is_own(path, home_folder().resolve()):
                yield from _data_files(path, root, depth + 1)
        elif entry.is_file() and is_wanted(path.relative_to(root)):
            yield path


def is_wanted(name: PurePath) -> bool:
    """True for the path of a file, in a dataset, that is searched for and may hold rows."""
    is_hidden = any(part.startswith((".", "_")) for part in name.parts)
    is_data = is_data_file(name) and name.name.split(".")[0].lower() not in NOT_DATA
    return is_data and not is_hidden and len(name.parts) <= MAX_DEPTH + 1


def by_folder(names: Sequence[PurePath]) -> dict[str, list[PurePath]]:
    """Metadata files by the first folder of their path, which is a split, or by `train` in the dataset's own."""
    by_split: dict[str, list[PurePath]] = {}
    for name in names:
        parts = [part for part in name.parts[:-1] if part.lower() != "data"]
        by_split.setdefault(parts[0] if parts else "train", []).append(name)
    return by_split


def _subset_of(name: PurePath) -> str:
    """The folders of a file's path that name no split."""
    return "/".join(part for part in name.parts[:-1] if part.lower() != "data" and not _split_in(part))


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
