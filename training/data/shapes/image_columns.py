"""The columns of a row's pictures, by their names and by what the first rows hold."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from inference.common.settings import DEFAULT_LIMITS
from training.data.picture_cells.text import FILE_NAME, looks_like_pictures
from training.data.pictures import Folders, read_pictures
from training.data.refusals import Refusal
from training.data.shapes.cells import first_named, holds, is_empty, value_at
from training.data.shapes.options import MAX_TEXT, listed

IMAGE_NAMES = ("image", "images", "file_name", "decoded_image", "picture", "img", "image_path", "image_bytes", "photo")
ID_NAMES = ("image_id", "imageid", "img_id", "image_index", "id")
"""Columns that name the picture of a row without its suffix, if pictures of these names are there."""
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
_WRITTEN = re.compile(r"""\s*(?:\[\s*["'{]|\{\s*["'])""")
_SEPARATORS = (";", "|", "\n", ",")
"""Between several names in a cell; a comma may stand in the name of a single file."""


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


def named_by_id(
    image: tuple[str, ...], columns: Sequence[str], sample: Sequence[Mapping[str, object]], folders: Folders | None
) -> tuple[str, ...]:
    """The column whose ids are the names of pictures that are here; `image` if none is, or if its own can be read."""
    ids = [here for name in ID_NAMES if (here := first_named((name,), columns, sample)) and here not in image]
    if not ids or folders is None or any(_num_read(name, sample, folders) for name in image):
        return image
    num = min(_PROBED_CELLS, len(sample))
    return next(((name,) for name in ids if num and _num_read(name, sample, folders) == num), image)


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
    """The pictures that were written as text (`["a.png"]`, `a.png;b.png`, `{"path": …}`); any other cell as it is."""
    if isinstance(cell, str) and _WRITTEN.match(cell):
        found = listed(cell)
        return found if isinstance(found, list | dict) else cell
    if isinstance(cell, str) and len(cell) <= MAX_TEXT:
        for separator in _SEPARATORS:
            names = [name.strip() for name in cell.strip(separator + " ").split(separator)]
            if separator in cell and all(map(FILE_NAME.fullmatch, names)):
                return names
    return cell


def of_several(
    image: tuple[str, ...],
    columns: Sequence[str],
    sample: Sequence[Mapping[str, object]],
    marks: Sequence[int],
) -> tuple[tuple[str, ...], str]:
    """The columns of pictures, or that of their lists where it fits the problems better; and a doubt, or none.

    `marks` are the numbers of pictures that the problems of the sample have marks for.
    """
    for name in IMAGE_NAMES:
        other = first_named((name,), columns, sample)
        if other is None or other in image or not holds(sample, other, _is_list_of_pictures):
            continue
        fits, fits_other, differ = 0, 0, False
        for row, num in zip(sample, marks):
            own, theirs = pictures_in(row, image), pictures_in(row, (other,))
            if theirs and own != theirs:
                differ = True
                fits += num > 0 and len(own) == num
                fits_other += num > 0 and len(theirs) == num
        if fits_other > fits:
            return (other,), ""
        if differ and fits == fits_other:
            names = " + ".join(image)
            return image, (
                f"Rows have other pictures in {other!r} than in {names!r}, which is read, and their problems have no "
                f'marks that tell which are meant. If it is the others: --columns "{{image: {other}}}".'
            )
    return image, ""


def pictures_in(row: Mapping[str, object], columns: Sequence[str]) -> list[object]:
    """The pictures in these columns of a row, in their order, out of what is around them."""
    cells = [listed_pictures(value_at(row, name)) for name in columns]
    lists = [list(cell) if isinstance(cell, list | tuple) else [cell] for cell in cells if not is_empty(cell)]
    return [_bare(picture) for of_column in lists for picture in of_column]


def _bare(cell: object) -> object:
    return (cell.get("bytes") or cell.get("path") or cell) if isinstance(cell, Mapping) else cell


def _is_list_of_pictures(cell: object) -> bool:
    cell = listed_pictures(cell)
    return isinstance(cell, list | tuple) and looks_like_pictures(cell)


def late_pictures(row: Mapping[str, object], names: Sequence[str], image: Sequence[str]) -> tuple[str, ...]:
    """Those of a row's columns that hold further pictures, where the first rows had none."""
    kinds = {_place(name).kind for name in image} - {""}
    num = len(pictures_in(row, image))

    def is_late(name: str) -> bool:
        cell = row[name]
        if _place(name).kind in kinds and _place(name).number >= 0:
            return not isinstance(cell, int | float)
        if is_alone(name):
            return _is_list_of_pictures(cell) and len(pictures_in(row, (name,))) > num
        return looks_like_pictures(cell)

    return tuple(name for name in names if is_late(name))
