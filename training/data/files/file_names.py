"""The path of a data file, and all that it tells: its split, the name that told it, and the number of a shard.

told = tell(PurePath("data/train-00000-of-00002-0a1b.parquet"))
told.split, told.label, told.number         # 'train', 'train', (0, 2)
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".tar")
PACKED = (".gz", ".bz2", ".xz", ".zst")
"""Suffixes of compressed files."""
SPLIT_WORDS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | {
    word: word for word in ("validation", "valid", "val", "dev", "eval", "evaluation")
}
"""The words that name a split in a file's name, in JSON or in a column, with the split's name here."""
_MEANINGS = {word: "validation" for word in ("validation", "valid", "val", "dev")} | {
    word: "test" for word in ("test", "testing", "eval", "evaluation")
}
"""What `datasets` takes a word for."""
_WORD = re.compile(rf"(?:^|(?<=[-_.= ]))({'|'.join(SPLIT_WORDS)})(?=[-_. (]|\d|$)", re.IGNORECASE)
_OF_DATASETS = re.compile(r"(\w+(?:\.\w+)*)-\d{5}-of-\d{5}")
"""A file in `data/` as `datasets` writes it: what stands before the number is the split, whatever it is."""
_ENDINGS = re.compile(r"(?:\.(?:snappy|gz|gzip|zstd|lz4|lzo|brotli|c\d+))+$", re.IGNORECASE)
"""What Spark writes between a shard's name and its suffix."""
_SPARK = re.compile(r"part-(?:[a-z]-)?\d+(?:-tid-\d+)?-[0-9a-f-]{36}\S*", re.IGNORECASE)
_YEAR = r"(?:19|20)\d\d(?:[-_.]?\d\d){0,2}"
_OF = re.compile(r"(?P<name>.*?)[-_.]?(?P<at>\d+)[-_]of[-_](?P<total>\d+)(?:-[0-9a-f]{6,40})?", re.IGNORECASE)
_NUMBERED = re.compile(
    rf"(?:(?:part|shard|chunk|file)[-_]?|(?P<name>.+?)[-_. ]|(?P<word>(?:.*[-_. ])?(?:{'|'.join(SPLIT_WORDS)}))|)"
    rf"(?!{_YEAR}$)(?P<at>\d+)",
    re.IGNORECASE,
)
_TOKENS = re.compile(r"v(?:er)?\d+(?![a-z])|[^\W\d_]+|\d+", re.IGNORECASE)
_OTHER_EDITION = re.compile(
    r"v(?:er)?\d+|rev\d*|versions?|old(?:er)?|new(?:er)?|cop(?:y|ies)|backup|bak|orig(?:inal)?|final|fix(?:ed)?|tmp|temp|draft|clean(?:ed)?|raw"
    r"|samples?|small|mini|tiny|full|all|subset|filtered|dedup\w*|merged|combined|latest|prev(?:ious)?|edited|corrected|updated",
    re.IGNORECASE,
)  # fmt: skip
"""Words that tell an edition of the same rows."""
_PART_OF = re.compile(
    r"(?<![a-z])(?:k?folds?|cv|seeds?|runs?)[-_. ]?\d+"
    r"|(?<![\da-z])\d+[-_. ]?(?:k|m|shots?|pct|percent|%|samples?|rows|examples|folds?)(?![a-z])",
    re.IGNORECASE,
)
"""What tells one of several choices from the same rows: `10k`, `5shot`, `fold0`."""
_MIN_SIZE = 50
"""Numbers that are all multiples of it are sizes."""

Writer = Literal["datasets", "metadata", ""]
"""What wrote files: `datasets`, which has named the splits; a person, as metadata above pictures; or another one."""


@dataclass(frozen=True)
class Told:
    """A data file, and what its path tells."""

    name: PurePath
    splits: tuple[str, ...]
    """None, one, or several that cannot both be right."""
    label: str
    """The file's name in lower case, without its number; behind that of the folder, if that told the split."""
    is_folders: bool
    """True if a folder told the split."""
    number: tuple[int, int] | None
    """That of the shard, and how many there are, or 0; `None` for a file that is no shard."""

    @property
    def split(self) -> str:
        return self.splits[0] if self.splits else ""

    @property
    def is_whole(self) -> bool:
        """True for a file that is all rows of its name, or one of a set that is."""
        return self.number is None or self.number[1] > 0


def suffix_of(path: PurePath) -> str:
    """The suffix that tells the format, in lower case, without that of a compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    return "".join(suffixes[:1] if suffixes[-1:] and suffixes[-1] in PACKED else suffixes[-1:])


def is_saved(path: PurePath) -> bool:
    """True for a shard as `datasets` writes it."""
    return _OF_DATASETS.match(path.name) is not None


def is_data_file(path: PurePath) -> bool:
    """True for a file whose suffix is one of a format that is read."""
    return suffix_of(path) in SUFFIXES


def tell(name: PurePath) -> Told:
    """All that a path tells. The file's own name goes before its folders', the inner ones first."""
    stem = stem_of(name)
    label, number = _numbered(stem)
    if name.parts[:-1] == ("data",) and (match := _OF_DATASETS.match(stem)):
        return Told(name, (match[1],), match[1].lower(), False, number)
    if own := splits_in(stem):
        return Told(name, own, label.lower(), False, number)
    for folder in reversed(name.parts[:-1]):
        if splits := splits_in(folder):
            return Told(name, splits, f"{folder.rpartition('=')[2]}/{label}".lower(), True, number)
    return Told(name, (), label.lower(), False, number)


def splits_in(name: str) -> tuple[str, ...]:
    """The splits that the name of a folder, or of a file without its suffixes, tells."""
    return tuple(dict.fromkeys(SPLIT_WORDS[found.lower()] for found in _WORD.findall(name)))


def split_asked(asked: str, names: Sequence[str]) -> str | None:
    """The split of `names` that was asked for, by its name, or as `val` for `validation`; `None` if there is none."""
    if asked in names:
        return asked
    meant = meaning(asked)
    same = [name for name in names if meaning(name) == meant]
    return same[0] if len(same) == 1 else None


def meaning(word: str) -> str:
    """The name by which `datasets` knows a split: `validation` of `dev`."""
    word = word.strip().lower()
    return _MEANINGS.get(word, SPLIT_WORDS.get(word, word))


def stem_of(name: PurePath) -> str:
    """A data file's name without its suffixes: `a.train` of `a.train.jsonl.gz`, `part-0` of `part-0.snappy.parquet`."""
    stem = name.name
    for suffixes in (PACKED, SUFFIXES):
        stem = stem[: -len(PurePath(stem).suffix)] if PurePath(stem).suffix.lower() in suffixes else stem
    return _ENDINGS.sub("", stem)


def not_extending(labels: Sequence[str]) -> list[str]:
    """The names that are not another one with more words, as `train_old` and `copy of train` are of `train`."""
    tokens = {label: tuple(tokens_of(label)) for label in labels}
    known = set(tokens.values()) - {()}
    longest = max(map(len, known), default=0)

    def extends(words: tuple[str, ...]) -> bool:
        spans = ((at, at + num) for num in range(1, min(longest, len(words) - 1) + 1) for at in range(len(words)))
        return any(words[start:end] in known for start, end in spans if end <= len(words))

    return [label for label in labels if not extends(tokens[label])]


def are_editions(labels: Sequence[str]) -> bool:
    """True if some of the names differ from others by words that tell an edition: `train_v1` and `train_v2`."""
    tokens = [set(tokens_of(label)) for label in labels]
    differing = set[str]().union(*tokens) - set[str].intersection(*tokens)
    return any(map(_OTHER_EDITION.fullmatch, differing)) or any("(" in label for label in labels)


def are_choices(files: Sequence[Told]) -> bool:
    """True if names tell several choices from the same rows: `train_1k`, `train_10k`; folds; `train-50`, `-100`."""
    parts: dict[str, set[str]] = {}
    numbers: dict[str, set[int]] = {}
    for one in files:
        stem = stem_of(one.name).lower()
        parts.setdefault(_PART_OF.sub("", stem), set()).update(["".join(_PART_OF.findall(stem))])
        if one.number and not one.number[1]:
            numbers.setdefault(one.label, set()).add(one.number[0])
    sizes = any(len(some) > 1 and all(num and not num % _MIN_SIZE for num in some) for some in numbers.values())
    return sizes or any(len(some) > 1 for some in parts.values())


def tokens_of(label: str) -> list[str]:
    """The words and numbers of a name, with one word for each split."""
    return [SPLIT_WORDS.get(word, word) for word in _TOKENS.findall(label.lower())]


def _numbered(stem: str) -> tuple[str, tuple[int, int] | None]:
    """A file's stem without the number of its shard, and the number; an empty one if it is only that."""
    if match := _OF.fullmatch(stem):
        return match["name"].rstrip("-_."), (int(match["at"][:9]), int(match["total"][:9]) or 1)
    if _SPARK.fullmatch(stem):
        return "", (zlib.crc32(stem.encode()), 1)  # each write of it has numbers from 0
    if match := _NUMBERED.fullmatch(stem):
        return match["name"] or match["word"] or "", (int(match["at"][:9]), 0)
    return stem, None
