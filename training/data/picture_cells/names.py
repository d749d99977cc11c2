"""The pictures of a dataset by the ends of their paths, also without suffixes: `0` and `images/0` of `images/000.png`.

    names = PictureNames(folder, lambda: ["images/000.png", "images/001.png"])
    names.find("0", [""])                          # ['images/000.png']

Datasets name pictures by numbers (`image_id` of COCO and VQAv2, the ids of TabMWP). What may be two is not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath

SUFFIX = r"\.(?:png|jpe?g|jfif|webp|gif|bmp|tiff?|avif|jp2|hei[cf])"
"""That of a picture's file, in any case."""
MAX_PICTURES = 200_000
"""Of a folder with more, none is found by its name without the suffix."""
_SUFFIX = re.compile(SUFFIX + r"$", re.IGNORECASE)
_NUMBER = re.compile(r"(.*[^\d.])?0*(\d{1,30}?)(?:\.0)?", re.ASCII | re.DOTALL)
"""What stands before the number at the end of a name, and the number without zeros in front; 17 is 17.0 to pandas."""


class PictureNames:
    """The pictures under one folder, listed when the first name without a suffix is sought."""

    def __init__(self, root: Path, listed: Callable[[], Iterable[str]]) -> None:
        """`listed` gives the paths of files relative to `root`, with `/` between folders."""
        self.root, self._listed = root, listed

    @cached_property
    def _by_stem(self) -> dict[str, tuple[str, ...]]:
        pictures = list(islice(filter(_SUFFIX.search, self._listed()), MAX_PICTURES + 1))
        found: dict[str, tuple[str, ...]] = {}
        for path in pictures if len(pictures) <= MAX_PICTURES else ():
            stem = bare(path).rpartition("/")[2]
            found[stem] = (*found.get(stem, ()), path)
        return found

    @cached_property
    def _by_number(self) -> dict[str, str]:
        """The stems by their numbers without zeros in front, `17` of `017`; by that at their end if none is a number.

        None if two of them have one number.
        """
        matches = [match for stem in self._by_stem if (match := _NUMBER.fullmatch(stem))]
        matches = [match for match in matches if not match[1]] or matches
        found = {match[2]: match[0] for match in matches}
        return found if len(found) == len(matches) else {}

    @property
    def words(self) -> str:
        """Words for a name that was not found: `none of the 3 pictures under charts/ has that name`."""
        num, under = sum(map(len, self._by_stem.values())), f"pictures under {self.root.name}/"
        return (
            f"none of the {num:,} {under} has that name"
            if num
            else f"no {under}, or more than {MAX_PICTURES:,}, have that name"
        )

    def find(self, name: str, beside: Sequence[str]) -> list[str]:
        """The pictures whose paths end with a name, or do so without their suffix: one, several, or none.

        One directly in the first of the folders `beside` (empty, or ending with `/`) goes before those below it, and
        these before others.
        """
        folder, _, last = PurePosixPath(name).as_posix().rpartition("/")
        stem = bare(last)
        if stem == last and stem not in self._by_stem and (number := _NUMBER.fullmatch(stem)):
            stem = last = self._by_number.get(number[2], stem)
        name = f"{folder}/{last}" if folder else last
        found = [
            path for path in self._by_stem.get(stem, ()) for one in (path, bare(path)) if f"/{one}".endswith(f"/{name}")
        ]
        for place in beside:
            direct = [path for path in found if f"{place}{name}" in (path, bare(path))]
            if near := direct or [path for path in found if path.startswith(place)]:
                return near
        return found


def bare(path: str) -> str:
    """A path without the suffix of a picture."""
    return _SUFFIX.sub("", path)
