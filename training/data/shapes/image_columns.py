"""The columns of a row's pictures, by their names and by what the first rows hold."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from inference.common.settings import DEFAULT_LIMITS
from training.data.pictures import Folders, looks_like_pictures, read_pictures
from training.data.refusals import Refusal
from training.data.shapes.cells import first_named, holds, is_empty, value_at
from training.data.shapes.options import listed

IMAGE_NAMES = ("image", "images", "file_name", "decoded_image", "picture", "img", "image_path", "image_bytes", "photo")
IMAGE_SUFFIXES = ("png", "jpg", "jpeg", "webp")
"""Columns of pictures in a tar archive."""
_PICTURE_WORDS = {"image", "images", "img", "imgs", "picture", "pictures", "pic", "photo", "photos", "figure", "fig"}
_PICTURE_WORDS |= set(IMAGE_SUFFIXES)
_KIND_WORDS = {"path", "paths", "file", "name", "bytes", "url", "uri", "b64", "base", "data", "decoded"}
"""Words that say how a column holds a picture, and not which picture."""
_ORDER_WORDS = tuple("left right first second third fourth before after top bottom a b c d e f g h".split())
"""Words that tell one picture of a row from another, in their order; numbers do too."""
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
"""The words of a column's name: `image_path2` has three."""
_PROBED_CELLS = 3


def image_columns(
    columns: Sequence[str], sample: Sequence[Mapping[str, object]], folders: Folders | None
) -> tuple[str, ...]:
    """The columns of a row's pictures, in their order; none if no column is one of pictures.

    Of several that may be it, that one whose first cells can be read is taken, from `folders` where they name files.
    """
    candidates = [here for name in IMAGE_NAMES if (here := first_named((name,), columns, sample))]
    if "decoded_image" in columns:  # beside a path that leads nowhere
        candidates.insert(0, "decoded_image")
    filled = [name for name in candidates if not sample or any(not is_empty(value_at(row, name)) for row in sample)]
    shown = [name for name in columns if holds(sample, name, looks_like_pictures)]
    if filled and (len(filled) > 1 or filled[0] not in shown) and sample:
        first = max([*filled, *shown], key=lambda name: _num_read(name, sample, folders))
    else:
        numbered = sorted((name for name in columns if _place(name).number >= 0), key=lambda name: _place(name).number)
        numbered = [name for name in numbered if _place(name).says_picture]
        kinds = Counter(_place(name).kind for name in numbered)
        numbered = [name for name in numbered if kinds[_place(name).kind] == max(kinds.values())]
        suffixed = [name for name in columns if name.rpartition(".")[2] in IMAGE_SUFFIXES]
        found = [*filled, *numbered, *suffixed, *shown, *candidates]
        if not found:
            return ()
        first = found[0]
    return _with_the_others(first, columns, sample)


def _num_read(name: str, sample: Sequence[Mapping[str, object]], folders: Folders | None) -> int:
    """The number of pictures that can be read, of the first cells of a column."""
    cells = [cell for row in sample if not is_empty(cell := value_at(row, name))][:_PROBED_CELLS]
    if folders is None:
        return sum(map(looks_like_pictures, cells))
    num_read = 0
    for cell in cells:
        with suppress(Refusal):
            deque(read_pictures(listed_pictures(cell), folders, DEFAULT_LIMITS), maxlen=0)
            num_read += 1
    return num_read


def _with_the_others(first: str, columns: Sequence[str], sample: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    """A column of pictures with those that its name tells from it by a number or a side: `image`, `image_2`."""
    kind = _place(first).kind
    if not kind:
        return (first,)
    is_picture = holds(sample, first, looks_like_pictures)

    def may_be_one(cell: object) -> bool:
        return cell is None or looks_like_pictures(cell) or not is_picture and not isinstance(cell, int | float)

    others = [name for name in columns if _place(name).kind == kind and _place(name).number >= 0 and name != first]
    others = [name for name in others if holds(sample, name, may_be_one)]
    found = sorted([first, *others], key=lambda name: _place(name).number)
    if len(found) > 1 and sample and all(value_at(row, found[0]) == value_at(row, found[1]) for row in sample):
        found = found[1:]  # `image` is `image_1` again
    return tuple(found)


def is_alone(name: str) -> bool:
    """True if a name says that its column holds the picture of a row, in another way than others: `image_bytes`."""
    return _place(name).number == -1 and bool(_place(name).kind)


class _Place(NamedTuple):
    kind: str
    """The way that a column holds pictures, by its name: `image path`; empty of one that says nothing of pictures."""
    number: int
    """Its place among several; -1 of one alone."""
    says_picture: bool


@lru_cache(maxsize=1024)
def _place(name: str) -> _Place:
    words = [word.lower() for word in _WORDS.findall(re.sub("b(ase)?64", "", name, flags=re.IGNORECASE))]
    places = [word for word in words if word in _ORDER_WORDS or word.isdecimal()]
    others = set(words) - set(places)
    if not others or len(places) > 1 or others - _PICTURE_WORDS - _KIND_WORDS:
        return _Place("", -1, False)
    number = -1
    if places:
        number = int(places[0][:4]) if places[0].isdecimal() else _ORDER_WORDS.index(places[0])
    return _Place(" ".join(["image", *sorted(others & _KIND_WORDS)]), number, bool(others & _PICTURE_WORDS))


def listed_pictures(cell: object) -> object:
    """The list of pictures that was written as text, or any other cell as it is."""
    if isinstance(cell, str) and cell.startswith(("['", '["')):
        found = listed(cell)
        return found if isinstance(found, list) else cell
    return cell
