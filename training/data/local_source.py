"""Rows from files on this machine, in the layouts that people and the Hub use.

A folder may hold `metadata.jsonl`, `.csv` or `.parquet` itself, have a folder for each split that does, hold files that
are named after their split (`train.jsonl`, `data/test-00000-of-00002-0a1b.parquet`) or lie in a folder of its name
(`default/train/0000.parquet`), or be written by `save_to_disk`. Everything is streamed.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from inference.common.errors import UserError
from inference.common.settings import load_settings
from training.config.data_config import check_there
from training.data.files import PACKED, SUFFIXES, is_data_file, open_file, saved_splits
from training.data.pictures import Folders
from training.data.source import RawRow, digest, no_such_split

MAX_FILES = 500_000
"""Files that are looked at to tell whether a folder has changed."""
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
        if image_root is not None and not image_root.is_dir():
            raise UserError(f"image_root is {image_root}, and there is no such folder; name the folder of the pictures")
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
        self.identity = digest([_identity(place).encode() for place in (folder, *more)])

    def columns(self, split: str) -> list[str]:
        """The columns of its first file, then further ones of later files."""
        return list(dict.fromkeys(name for file in self._files[split] for name in file.columns()))

    def rows(self, split: str, positions: Sequence[int], columns: Sequence[str]) -> Iterator[RawRow]:
        """The rows at increasing positions; a picture's path is relative to its file's folder or to the dataset's."""
        first = 0
        for file, folders in zip(self._files[split], self._folders[split]):
            here = [at - first for at in positions if first <= at < first + len(file)]
            for at, cells in file.rows(here, columns):
                yield RawRow(first + at, cells, folders)
            first += len(file)


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
            if depth < MAX_DEPTH and not _is_own(path, load_settings().home.resolve()):
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


def _identity(folder: Path) -> str:
    """A digest of the names, sizes and times of the files under a folder; for too many files, a random one.

    The home folder and run folders, which change all the time, are left out.
    """
    seen: list[bytes] = []
    home = load_settings().home.resolve()
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_own(Path(place, name), home))
        for name in sorted(files):
            try:
                status = os.stat(os.path.join(place, name))
            except OSError:  # a broken link; the row that names it is dropped
                continue
            seen.append(os.fsencode(f"{place}/{name} {status.st_size} {status.st_mtime_ns}"))
        if len(seen) > MAX_FILES:
            return secrets.token_hex(16)
    return digest(seen)


def _is_own(folder: Path, home: Path) -> bool:
    return folder.resolve() == home or (folder / "config.json").is_file() and (folder / "checkpoints").is_dir()
