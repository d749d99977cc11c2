"""The files of a dataset that hold the rows of each split, told by their paths alone, on disk as on the Hub.

    chosen = split_files(names, "The folder charts", str)
    chosen.splits["train"], chosen.notes

A file may be named after its split (`train.jsonl`, `charts.train.jsonl`, `test-00000-of-00002-0a1b.parquet`), lie in a
folder of its name (`default/train/0000.parquet`), be a shard of a set without splits (`0000.parquet`, Spark's
`part-00000-….snappy.parquet`), or be metadata beside pictures (`images/metadata.jsonl`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from inference.common.errors import UserError
from training.data.files.row_files import PACKED, SUFFIXES, is_data_file, suffix_of
from training.data.pictures import looks_like_pictures

MAX_DEPTH = 4
"""Folders within one another that are searched for data files."""
METADATA = "metadata"
"""The stem of a file that lies beside the pictures it names."""
NOT_DATA = ("dataset_infos", "dataset_info", "dataset_dict", "state", "config", "package", "tokenizer_config")
"""Stems of JSON files that describe a dataset and hold no rows."""
MAX_NAMED = 5
"""Files that a note names; the others are counted."""
_PREFERRED = (".tar", ".parquet", ".arrow", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
"""Formats from which one is read where several hold the same rows: a tar holds the pictures too."""
_DESCRIBES = re.compile(r"readme|licen[cs]e|\.git|changelog|citation", re.IGNORECASE)
_PICTURE_FOLDERS = re.compile(r"(?:images?|imgs?|pictures?|photos?|figures?|figs?)", re.IGNORECASE)
_ENDINGS = re.compile(r"(?:\.(?:snappy|gz|gzip|zstd|lz4|lzo|brotli|c\d+))+$", re.IGNORECASE)
"""What Spark writes between a shard's name and its suffix."""
_SHARD = re.compile(
    r"(?:part-(?:[a-z]-)?\d+(?:-tid-\d+)?-[0-9a-f-]{36}\S*|(?:part|shard|chunk|file)?[-_]?\d+"
    r"|(?P<name>.+?)(?:[-_.]?\d+[-_]of[-_]\d+(?:-[0-9a-f]{6,40})?|[-_. ]\d+)?)",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"(?:^|[-_.= ])(train|training|test|testing|validation|valid|val|dev|eval)(?:[-_. ]|\d|$)", re.IGNORECASE
)
_SPLITS = {"training": "train", "testing": "test"}


@dataclass
class Chosen:
    """The files of each split, and what the reader of the dataset is to know about the others."""

    splits: dict[str, list[PurePath]]
    notes: list[str] = field(default_factory=list)


def split_files(
    names: Sequence[PurePath], title: str, shown: Callable[[str], str], subset: str | None = None
) -> Chosen:
    """The data files of each split, by their paths in a dataset alone; none if there are none.

    A folder that names no split is a subset. Raises `UserError` if there are several and `subset` names none; it calls
    the dataset `title`, and shows each subset as it can be named.
    """
    if subset is not None:
        names = [name for name in names if _subset_of(name) == subset]
    metadata = [name for name in names if name.name.split(".")[0].lower() == METADATA]
    if metadata:
        return _of_one_format(_metadata(metadata), names)
    subsets = {_subset_of(name) for name in names}
    if len(subsets) > 1:
        named = ", ".join(sorted(shown(one) for one in subsets if one))
        raise UserError(f"{title} holds several datasets; name one of them: {named}.")
    by_split: dict[str, list[PurePath]] = {}
    unnamed: dict[str, list[PurePath]] = {}
    for name in names:
        parts = (stem_of(name), *reversed(name.parts[:-1]))
        split = next((found for part in parts if (found := split_in(part))), None)
        (by_split if split else unnamed).setdefault(split or _without_number(name) or "train", []).append(name)
    if len(unnamed) == 1:
        by_split = by_split or {"train": next(iter(unnamed.values()))}
    else:
        by_split |= unnamed
    return _of_one_format(by_split, names)


def is_wanted(name: PurePath) -> bool:
    """True for the path of a file, in a dataset, that is searched for and may hold rows."""
    is_hidden = any(part.startswith((".", "_")) for part in name.parts)
    stem = name.name.split(".")[0].lower()
    is_data = is_data_file(name) and stem not in NOT_DATA and not stem.endswith("_stats")
    return is_data and not is_hidden and len(name.parts) <= MAX_DEPTH + 1


def by_folder(names: Iterable[PurePath]) -> dict[str, list[PurePath]]:
    """Files by the first folder of their path, which is a split, or by `train` in the dataset's own."""
    by_split: dict[str, list[PurePath]] = {}
    for name in names:
        by_split.setdefault((_folders(name) or ["train"])[0], []).append(name)
    return by_split


def not_read(names: Iterable[PurePath]) -> list[str]:
    """A note that names the files of a dataset which hold no rows and are no pictures; none if there are none."""
    left = [
        name.as_posix()
        for name in names
        if not any(part.startswith((".", "_")) for part in name.parts)
        and not _DESCRIBES.match(name.name)
        and name.suffix.lower() not in (".crc", ".py")
        and name.stem.lower() not in NOT_DATA
        and not looks_like_pictures(name.name)
    ]
    return [f"not read: {in_short(left)}"] if left else []


def in_short(names: Sequence[str]) -> str:
    """The first names, and how many there are besides."""
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return ", ".join(name[:60] for name in names[:MAX_NAMED]) + more


def split_in(name: str) -> str | None:
    """The split that the name of a folder, or of a file without its suffixes, tells, if it does."""
    match = _NAMED.search(name)
    found = match[1].lower() if match else ""
    return _SPLITS.get(found, found) or None


def stem_of(name: PurePath) -> str:
    """A data file's name without its suffixes: `a.train` of `a.train.jsonl.gz`, `part-0` of `part-0.snappy.parquet`."""
    stem = name.name
    for suffixes in (PACKED, SUFFIXES):
        stem = stem[: -len(PurePath(stem).suffix)] if PurePath(stem).suffix.lower() in suffixes else stem
    return _ENDINGS.sub("", stem)


def _without_number(name: PurePath) -> str:
    """A file's stem without the number of its shard; empty if it is only that."""
    match = _SHARD.fullmatch(stem_of(name))
    return ((match["name"] or "") if match else stem_of(name)).lower()


def _metadata(names: Sequence[PurePath]) -> dict[str, list[PurePath]]:
    """Metadata files by the folder of their path that names a split, else by the first that is no folder of pictures.

    Those of a set whose files lie in one such folder are `train`.
    """
    by_split: dict[str, list[PurePath]] = {}
    tells = False
    for name in names:
        folders = [folder for folder in _folders(name) if not _PICTURE_FOLDERS.fullmatch(folder)]
        split = next(filter(split_in, folders), None)
        tells |= split is not None
        by_split.setdefault(split or (folders or ["train"])[0], []).append(name)
    return by_split if tells or len(by_split) > 1 else {"train": list(names)}


def _of_one_format(by_split: dict[str, list[PurePath]], names: Sequence[PurePath]) -> Chosen:
    """Leaves out what holds the rows of another file in another format, and notes which files are not read."""
    chosen = Chosen({})
    left = set(names)
    for split, files in by_split.items():
        formats: dict[str, dict[tuple[str, bool], list[PurePath]]] = {}
        for name in files:
            kind = suffix_of(name), name.suffix.lower() in PACKED and name.with_suffix("") in files
            same = str(name.parent if stem_of(name).lower() == METADATA else _without_number(name))
            formats.setdefault(same, {}).setdefault(kind, []).append(name)
        kept: set[PurePath] = set()
        for of_one_name in formats.values():
            best = min(of_one_name, key=lambda kind: (_PREFERRED.index(kind[0]), kind[1]))
            kept.update(of_one_name[best])
            others = [name for kind, found in of_one_name.items() if kind != best for name in found]
            if others:
                chosen.notes.append(
                    f"{of_one_name[best][0].name} is read and not {in_short([name.name for name in others])}, "
                    "which has its name in another format"
                )
                left -= set(others)
        chosen.splits[split] = [name for name in files if name in kept]
        left -= kept
    if left:
        chosen.notes.append(f"not read: {in_short([name.as_posix() for name in names if name in left])}")
    return chosen


def _folders(name: PurePath) -> list[str]:
    return [part for part in name.parts[:-1] if part.lower() != "data"]


def _subset_of(name: PurePath) -> str:
    """The folders of a file's path that name no split, without the `column=value` of Spark and Hive."""
    return "/".join(part for part in _folders(name) if not split_in(part) and "=" not in part)
