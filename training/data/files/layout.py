"""The files of a dataset that hold the rows of each split, told by their paths alone, on disk as on the Hub.

    chosen = split_files(names, "The folder charts", str)
    chosen.splits["train"], chosen.notes

A file may be named after its split (`train.jsonl`, `charts.train.jsonl`, `test-00000-of-00002-0a1b.parquet`), lie in a
folder of its name (`default/train/0000.parquet`), be a shard of a set without splits (`0000.parquet`, Spark's
`part-00000-….snappy.parquet`), or be metadata beside pictures (`images/metadata.jsonl`). What may hold the same rows
twice, or the rows of two splits, is refused or left out, and named.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from inference.common.errors import UserError
from training.data.files.file_names import (
    PACKED,
    Told,
    Writer,
    are_choices,
    are_editions,
    is_data_file,
    is_saved,
    meaning,
    not_extending,
    splits_in,
    stem_of,
    suffix_of,
    tell,
    tokens_of,
)
from training.data.picture_cells.text import looks_like_pictures

MAX_DEPTH = 4
"""Folders within one another that are searched for data files."""
METADATA = "metadata"
"""The stem of a file that lies beside the pictures it names."""
METADATA_SUFFIXES = (".jsonl", ".csv", ".parquet")
"""Those of metadata in an `imagefolder` of `datasets`."""
DESCRIPTIONS = ("dataset_infos", "dataset_info", "dataset_dict")
"""Stems of JSON files in which `datasets` describes a dataset."""
NOT_DATA = (*DESCRIPTIONS, "state", "config", "package", "tokenizer_config")
"""Stems of JSON files that hold no rows."""
MAX_NAMED = 5
"""Files that a note names; the others are counted."""
MAX_SUBSETS = 20
"""Subsets that an error names."""
MAX_SERIES = 20
"""JSON files of more names, of which none is a split's, are not each a split of its own."""
_PREFERRED = (".tar", ".parquet", ".arrow", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
"""Formats from which one is read where several hold the same rows: a tar holds the pictures too."""
_DESCRIBES = re.compile(r"readme|licen[cs]e|\.git|changelog|citation", re.IGNORECASE)
_PICTURE_FOLDERS = re.compile(r"(?:images?|imgs?|pictures?|photos?|figures?|figs?)", re.IGNORECASE)
_REMEDY = (
    "Copy what is meant into a folder of its own, as train.jsonl or, for several, as train_1.jsonl, train_2.jsonl."
)


@dataclass
class Chosen:
    """The files of each split, and what the reader of the dataset is to know about the others."""

    splits: dict[str, list[PurePath]]
    notes: list[str] = field(default_factory=list)
    named: set[PurePath] = field(default_factory=set)
    """Files of which a note says why they are not read."""


def split_files(
    names: Sequence[PurePath],
    title: str,
    shown: Callable[[str], str],
    subset: str | None = None,
    *,
    pictures: Collection[str] = ("",),
) -> Chosen:
    """The data files of each split, by their paths in a dataset alone; none if there are none.

    A folder that names no split is a subset. Raises `UserError` if there are several and `subset` names none, and for
    files that may hold what others hold; it calls the dataset `title`, and shows each subset as it can be named.
    `pictures` are the names of pictures without their suffixes: metadata lies beside some.
    """
    if subset is not None:
        names = [name for name in names if _subset_of(name) == subset]
    told = [tell(name) for name in names]
    metadata = _metadata(told) if pictures else {}
    others = [one for one in told if not _is_metadata(one.name, () if pictures else METADATA_SUFFIXES)]
    tables = (others or told) if not metadata else [one for one in others if one.split and one.split not in metadata]
    at_top = [one for one in tables if not _subset_of(one.name)]
    tables = at_top if any(one.split == "train" and not one.is_folders for one in at_top) else tables
    subsets = {_subset_of(one.name) for one in tables}
    if len(subsets) > MAX_SUBSETS and len({one.name.name for one in tables}) == 1:
        raise _a_folder_each(title, [one.name for one in tables])
    if len(subsets) > 1:
        named = ", ".join(sorted(shown(one) for one in subsets if one)[:MAX_SUBSETS])
        named += f" and {len(subsets) - MAX_SUBSETS:,} more" if len(subsets) > MAX_SUBSETS else ""
        raise UserError(f"{title} holds several datasets; name one of them: {named}.")
    chosen = Chosen({})
    by_split = {
        split: files
        if are_of_pictures([one.name for one in files], pictures)
        else _not_twice(files, split, title, chosen)
        for split, files in _by_split(tables, title, chosen, pictures)
    }
    for split, files in (metadata | by_split).items():
        chosen.splits[split] = [one.name for one in _of_one_format(files, chosen)]
    left = set(names).difference(chosen.named, *chosen.splits.values())
    chosen.notes += not_read(name for name in names if name in left)
    return chosen


def is_wanted(name: PurePath) -> bool:
    """True for the path of a file, in a dataset, that is searched for and may hold rows."""
    is_hidden = any(part.startswith((".", "_")) for part in name.parts)
    stem = name.name.split(".")[0].lower()
    describes = suffix_of(name) == ".json" and (stem in NOT_DATA or stem.endswith("_stats"))
    return is_data_file(name) and not describes and not is_hidden and len(name.parts) <= MAX_DEPTH + 1


def by_folder(names: Iterable[PurePath]) -> dict[str, list[PurePath]]:
    """Files by the first folder of their path, which is a split, or by `train` in the dataset's own."""
    by_split: dict[str, list[PurePath]] = {}
    for name in names:
        by_split.setdefault((_folders(name) or ["train"])[0], []).append(name)
    return by_split


def not_read(names: Iterable[PurePath]) -> list[str]:
    """A note that names the files of a dataset which are not read, and are no pictures; none if there are none.

    Those that may hold rows come first.
    """
    left = [
        name
        for name in names
        if not any(part.startswith(".") or part.startswith("_") and not is_data_file(name) for part in name.parts)
        and not _DESCRIBES.match(name.name)
        and name.suffix.lower() not in (".crc", ".py")
        and name.name.lower() not in [f"{stem}.json" for stem in DESCRIPTIONS]
        and not looks_like_pictures(name.name)
    ]
    left.sort(key=lambda name: not is_data_file(name))
    return [f"not read: {in_short([name.as_posix() for name in left])}"] if left else []


def in_short(names: Sequence[str]) -> str:
    """The first names, and how many there are besides."""
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return ", ".join(name[:60] for name in names[:MAX_NAMED]) + more


def _in_short(files: Sequence[Told]) -> str:
    return in_short([one.name.as_posix() for one in files])


def _metadata(told: Sequence[Told]) -> dict[str, list[Told]]:
    """Metadata files by the folder of their path that names a split, else by the first that is no folder of pictures.

    Those of a set whose files lie in one such folder are `train`. One beside files that are named after splits
    describes the dataset, and so does one of another format than `datasets` looks for, beside any table.
    """
    files = [one for one in told if _is_metadata(one.name)]
    others = [one for one in told if not _is_metadata(one.name)]
    usual = [one for one in files if suffix_of(one.name) in METADATA_SUFFIXES]
    files = usual if usual or others else files
    by_split: dict[str, list[Told]] = {}
    tells = False
    for one in files:
        folders = [folder for folder in _folders(one.name) if not _PICTURE_FOLDERS.fullmatch(folder)]
        split = next((splits[0] for folder in folders if (splits := splits_in(folder))), None)
        if split is None and any(other.split for other in others):
            continue
        if any(other.split == split and not other.is_folders for other in others):
            continue
        tells |= split is not None
        by_split.setdefault(split or (folders or ["train"])[0], []).append(one)
    if tells or len(by_split) != 1:
        return by_split
    return {"train": next(iter(by_split.values()))}


def _is_metadata(name: PurePath, but: Sequence[str] = ()) -> bool:
    return name.name.split(".")[0].lower() == METADATA and suffix_of(name) not in but


def writer_of(names: Iterable[PurePath]) -> Writer:
    """The writer that names tell: shards of `datasets`, or metadata above the pictures that they name."""
    names = list(names)
    return "datasets" if all(map(is_saved, names)) else "metadata" if all(map(_is_metadata, names)) else ""


def are_of_pictures(names: Sequence[PurePath], pictures: Collection[str]) -> bool:
    """True for JSON files that are mostly named after pictures, one each."""
    named = [name for name in names if suffix_of(name) == ".json" and stem_of(name) in pictures]
    return len(named) > 1 and len(named) > len(names) / 2


def _by_split(
    told: Sequence[Told], title: str, chosen: Chosen, pictures: Collection[str]
) -> list[tuple[str, list[Told]]]:
    """Tables by split; where none is `train`, those that name no split are, or each name is a split of its own."""
    by_split: dict[str, list[Told]] = {}
    unnamed: dict[str, list[Told]] = {}
    inside: dict[PurePath, set[str]] = {}
    for one in told:
        inside.setdefault(one.name.parent, set()).update([] if one.is_folders else [one.split])
    for one in told:
        several = one.splits if len(one.splits) > 1 else _contradicting(one, inside[one.name.parent])
        shown = one.name.as_posix()[:120]
        if several and len(told) > 1:
            raise UserError(
                f"{title} has {shown}, whose name holds the splits {' and '.join(several)}. Rename it after the one "
                "whose rows it holds, or copy it into a folder of its own."
            )
        if several:
            chosen.notes.append(f"{shown} is read as train")
        files = unnamed if several or not one.split else by_split
        files.setdefault("" if several else one.split or one.label, []).append(one)
    if unnamed and "train" not in by_split:
        all_unnamed = [one for files in unnamed.values() for one in files]
        if are_of_pictures([one.name for one in all_unnamed], pictures):
            unnamed = {"": all_unnamed}
            chosen.notes.append(f"train is a file for each picture: {_in_short(all_unnamed)}")
        _check_series(unnamed, title)
        if len(unnamed) > 1:
            by_split |= {label or "train": files for label, files in unnamed.items()}
        else:
            [only] = unnamed.values()
            chosen.notes += [f"train is {_in_short(only)}"] if by_split and only is not all_unnamed else []
            by_split = {"train": only} | by_split
    return list(by_split.items())


def _check_series(unnamed: Mapping[str, Sequence[Told]], title: str) -> None:
    """Raises `UserError` for a folder with a JSON file for each picture."""
    names = [one.name for files in unnamed.values() for one in files if suffix_of(one.name) == ".json"]
    if len(unnamed) > MAX_SERIES and len(names) > len(unnamed) / 2:
        raise a_file_each(f"{title} has {len(names):,} JSON files of as many names", names[0])


def a_file_each(what: str, first: PurePath) -> UserError:
    """The error for JSON files that each describe a picture, and do not say which."""
    return UserError(
        f"{what}, such as {first.as_posix()[-120:]}. If each is of a picture, write one file with a row for each, "
        "whose image is the picture's path, in their folder: "
        'jq -c \'. + {image: (input_filename | sub("json$"; "png"))}\' *.json > train.jsonl'
    )


def _a_folder_each(title: str, files: Sequence[PurePath]) -> UserError:
    """The error for folders of one row each, with its picture, as those of Geometry3K and IconQA."""
    name = files[0].name
    return UserError(
        f"{title} has {len(files):,} folders with a {name} each, such as {files[0].as_posix()[-120:]}. If each is a "
        "row, write one file with a row for each, whose image is the picture's path (here image.png beside it): "
        f"find . -name {shlex.quote(name)} -exec jq -c '. + "
        '{image: (input_filename | sub("[^/]*$"; "image.png"))}\' {} + > train.jsonl'
    )


def _contradicting(one: Told, inside: Collection[str]) -> tuple[str, ...]:
    """The split of a file's name, and another one of its folder, unless the folder has files of several splits."""
    splits = splits_in(one.name.parent.name)
    is_other = meaning(one.split) not in map(meaning, splits)
    return (*splits, one.split) if one.split and splits and is_other and len(inside) == 1 else ()


def _not_twice(files: Sequence[Told], split: str, title: str, chosen: Chosen) -> list[Told]:
    """The files of a split without those whose names say that they are other editions of others' rows.

    Raises `UserError` where none of several editions is the plain one.
    """
    labels = list(dict.fromkeys(one.label for one in files))
    kept = not_extending(labels)
    is_kept = set(kept)
    plain = {(one.label, suffix_of(one.name)) for one in files if one.number is None}
    found = [
        one
        for one in files
        if one.label in is_kept and (one.number is None or (one.label, suffix_of(one.name)) not in plain)
    ]
    found_names = {one.name for one in found}
    editions = [one for one in files if one.name not in found_names]
    endings = [one.name.name[len(stem_of(one.name)) :].lower() for one in found]
    places = {(one.label, one.number, _partition(one.name), ending) for one, ending in zip(found, endings)}
    totals = {(one.label, suffix_of(one.name), one.number[1] if one.number else 0) for one in found}
    sets = {(label, suffix) for label, suffix, _ in totals}
    has_twice = len(places) < len(found) or len(sets) < len(totals)
    if (
        has_twice
        or len({tuple(tokens_of(label)) for label in kept}) < len(kept)
        or are_editions(kept)
        or are_choices(found)
    ):
        raise UserError(
            f"{title} has {_in_short(found)} for the split {split}; they may hold the same rows, which would be read "
            f"twice. {_REMEDY}"
        )
    if editions:
        chosen.named.update(one.name for one in editions)
        chosen.notes.append(
            f"not read beside {found[0].name.name}: {_in_short(editions)} (to read all, number them: train_1, train_2)"
        )
    nums = Counter((one.label, suffix_of(one.name)) for one in found)
    for label, suffix, total in sorted(totals):
        num = nums[label, suffix]
        if num < total:
            chosen.notes.append(f"{split}: {num} of {total} shards are there")
    if len(kept) > 1:
        chosen.notes.append(f"{split} is {_in_short(found)}")
    return found


def _of_one_format(files: Sequence[Told], chosen: Chosen) -> list[Told]:
    """Leaves out what holds the rows of another file in another format, and notes which files are not read."""
    by_label: dict[str, list[Told]] = {}
    for one in files:
        same = str(one.name.parent) if _is_metadata(one.name) else one.label
        by_label.setdefault(same, []).append(one)
    left_out: set[PurePath] = set()
    for of_label in by_label.values():
        are_same = any(one.is_whole for one in of_label)
        by_number: dict[tuple[int, int] | None, list[Told]] = {}
        for one in of_label:
            by_number.setdefault(None if are_same else one.number, []).append(one)
        others: list[Told] = []
        for of_number in by_number.values():
            kinds = [_kind(one.name, of_number) for one in of_number]
            best = min(kinds, key=lambda kind: (_PREFERRED.index(kind[0]), kind[1]))
            left = [one for one, kind in zip(of_number, kinds) if kind != best]
            if left:
                chosen.notes.append(
                    f"{of_number[kinds.index(best)].name.name} is read and not "
                    f"{in_short([one.name.name for one in left])}, which has its name in another format"
                )
            others += left
        left_out.update(one.name for one in others)
    chosen.named |= left_out
    return [one for one in files if one.name not in left_out]


def _kind(name: PurePath, others: Sequence[Told]) -> tuple[str, bool]:
    """The format of a file, and whether it is packed and lies beside its own content."""
    plain = name.with_suffix("") if name.suffix.lower() in PACKED else None
    is_packed = plain is not None and any(other.name == plain for other in others)
    return suffix_of(name), is_packed


def _folders(name: PurePath) -> list[str]:
    return [part for part in name.parts[:-1] if part.lower() != "data"]


def _partition(name: PurePath) -> str:
    """The `column=value` folders of Spark and Hive on a path."""
    return "/".join(part for part in name.parts[:-1] if "=" in part)


def _subset_of(name: PurePath) -> str:
    """The folders of a file's path that name no split, without the `column=value` of Spark and Hive."""
    return "/".join(part for part in _folders(name) if not splits_in(part) and "=" not in part)
