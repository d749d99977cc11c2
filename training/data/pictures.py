"""The pictures in a cell of a dataset: bytes, base64, a data URI, or a path in a folder that may be read; or a list.

    list(read_pictures("images/1.png", Folders.of(folder), DEFAULT_LIMITS))

No address is fetched. A path, and every link on it, must lead into one of the folders.
"""

from __future__ import annotations

import io
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from PIL import Image

from inference.common.errors import UserError
from inference.common.settings import Limits
from training.data.picture_cells.names import PictureNames
from training.data.picture_cells.text import FILE_NAME, REMEDY, bytes_in, from_base64, looks_like_pictures
from training.data.refusals import Refusal

if TYPE_CHECKING:
    from datasets import Dataset

MORE_IMAGES = "more_images"
"""The column of a row's pictures after the first; there is none in a dataset whose rows all have one."""
MAX_PATH_CHARS = 1_024
MAX_DEPTH = 3
"""Mappings within one another around a picture: `{"image_url": {"url": …}}`."""
_DRIVE = re.compile(r"[a-zA-Z]:[\\/]")
_ADDRESS = re.compile(r"\s*(?!data:)[a-zA-Z][a-zA-Z0-9+.-]+:")
MAX_TAILS = 40
"""Folders on a path whose ends are sought here."""
PLACES = ("", "images/", "image/", "imgs/", "img/", "pictures/", "photos/", "figures/")
"""Where the end of a path is sought in a dataset's folder, besides in folders named after the split."""
MAX_NAMES = 20_000
"""Files of a folder among which the name that was meant is sought."""


@dataclass(frozen=True)
class Folders:
    """The folders of a dataset's pictures."""

    tried: tuple[Path, ...]
    """Those that a relative path may be relative to, in the order in which they are tried."""
    within: tuple[Path, ...]
    """Those into which a path must lead, links followed."""
    fetch: Callable[[str, float], Path | None] | None = None
    """Brings a file of a repository, by its path there, of at most so many bytes; `None` if the repository has none of
    that path. Then `within` is the folder of the repository alone, and only what it brings is read."""
    near: Callable[[str], str | None] | None = None
    """Names a file of the repository that has nearly this path."""
    moved: tuple[str, str] | None = None
    """The beginning of paths of another machine, and the folder here that stands in its place."""
    names: tuple[PictureNames, ...] = ()
    """The pictures here, by their names without suffixes."""

    @classmethod
    def of(cls, *tried: Path, within: Sequence[Path] = (), names: tuple[PictureNames, ...] = ()) -> Folders:
        """By default a path must lead into one of the folders that are tried."""
        allowed = tuple(folder.resolve() for folder in within or tried)
        return cls(tuple(dict.fromkeys(tried)), allowed, names=names)


def read_pictures(cell: object, folders: Folders | None, limits: Limits) -> Iterator[bytes | Image.Image]:
    """The pictures in a cell, which holds one or a list. Raises `Refusal`. `folders` of `None` allow no path."""
    cells = cell if isinstance(cell, list | tuple) else [cell]
    if len(cells) > limits.max_pictures:
        raise Refusal("too many pictures", f"{len(cells)} pictures; a row may have {limits.max_pictures}")
    for one in cells or [None]:
        yield _read(one, folders, limits)


def pictures_of(rows: Mapping[str, list[Any]]) -> list[list[Image.Image]]:
    """The pictures of each of a dataset's rows, in RGB, from a batch of them by column."""
    more = rows.get(MORE_IMAGES) or [()] * len(rows["image"])
    return [[image.convert("RGB") for image in (first, *others)] for first, others in zip(rows["image"], more)]


def undecoded(rows: Dataset) -> Dataset:
    """`rows` whose pictures are read as `{"bytes", "path"}`."""
    from datasets import Image as ImageColumn
    from datasets import List

    plain = ImageColumn(decode=False)
    rows = rows.cast_column("image", plain)
    return rows.cast_column(MORE_IMAGES, List(plain)) if MORE_IMAGES in rows.column_names else rows


def picture_files(rows: Dataset) -> Iterator[list[bytes]]:
    """The content of the pictures' files of each row."""
    names = [name for name in ("image", MORE_IMAGES) if name in rows.column_names]
    for row in undecoded(rows.select_columns(names)):
        cells = [row["image"], *(row.get(MORE_IMAGES) or ())]
        yield [cell["bytes"] or Path(cell["path"]).read_bytes() for cell in cells]


def picture_sizes(files: Sequence[bytes]) -> tuple[int, ...]:
    """Width and height of each picture, one after the other, from the heads of their files."""
    sizes: tuple[int, ...] = ()
    for content in files:
        with Image.open(io.BytesIO(content)) as picture:
            sizes += picture.size
    return sizes


def _read(cell: object, folders: Folders | None, limits: Limits) -> bytes | Image.Image:
    for _ in range(MAX_DEPTH):
        if not isinstance(cell, Mapping):
            break
        data = cell.get("bytes")
        if isinstance(data, str) and data:
            content = bytes_in(data)
            data = from_base64(data) if content is None else content
        cell = data or cell.get("url") or cell.get("image_url") or cell.get("image") or cell.get("path")
    if isinstance(cell, int | float) and not isinstance(cell, bool) and abs(cell) < 1e30 and folders and folders.names:
        cell = str(cell)
    if cell is None or cell == "":
        raise Refusal("picture missing", "the cell is empty")
    if isinstance(cell, bytes | Image.Image):
        return cell
    if not isinstance(cell, str):
        raise Refusal("picture missing", f"a {type(cell).__name__} is no picture")
    content = bytes_in(cell)
    return content if content is not None else _read_file(cell, folders, limits)


def _read_file(path: str, folders: Folders | None, limits: Limits) -> bytes:
    shown = repr(path[:120])
    path = _without_scheme(path)
    if path.lower().startswith("file:"):
        raise Refusal("picture refused", f"{shown} is an address; write the path alone, without file://")
    if path[:200].lower().lstrip().startswith("data:"):
        raise Refusal("picture refused", f"{shown} is no data URI of a picture in base64: data:image/png;base64,…")
    if is_address(path) or path.startswith(("//", "\\\\")):
        raise Refusal(
            "picture refused", f"{shown} is an address; pictures are never fetched: download it, and write its path"
        )
    if folders is None:
        raise Refusal("picture refused", f"{shown} is a path, and this dataset has no folder of pictures")
    if len(path) > MAX_PATH_CHARS or "\0" in path:
        raise Refusal("picture refused", f"{shown} of {len(path):,} characters is no path of a file; {REMEDY}")
    try:
        target = _found(path, folders, limits)
        if target is None:
            return _refuse(path, folders)
        size = target.stat().st_size
        if size > limits.max_upload_mb * 1e6:
            raise Refusal("picture too large", f"{shown} has {size / 1e6:.1f} MB, {limits.max_upload_mb:g} are read")
        return target.read_bytes()
    except UserError:  # of the Hub: it says nothing of the row
        raise
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a name too long, no permission
        raise Refusal("picture missing", f"{shown} cannot be read: {type(error).__name__}") from error


def is_address(cell: object) -> bool:
    """True for the address of a picture, which is never fetched; a drive of Windows is none."""
    return isinstance(cell, str) and _ADDRESS.match(cell) is not None and not _DRIVE.match(cell)


def _without_scheme(path: str) -> str:
    return unquote(path[len("file://") :]) if path.lower().startswith("file:///") else path


def file_of(path: str, folders: Folders) -> Path | None:
    """The file on this machine that a cell names, with all links followed; `None` if there is none within `folders`."""
    if (target := _exactly(path, folders)) is not None or folders.fetch is not None:
        return target
    found = _by_name(path, folders)
    return _within(found[0], folders) if len(found) == 1 else None


def _exactly(path: str, folders: Folders) -> Path | None:
    if folders.fetch is not None or len(path) > MAX_PATH_CHARS or "\0" in path or _ADDRESS.match(path):
        return None
    places = (_within(folder / name, folders) for name in _ways(path, folders) for folder in folders.tried)
    return next((target for target in places if target is not None), None)


def _within(place: Path, folders: Folders) -> Path | None:
    try:
        target = place.resolve()
        is_allowed = any(target.is_relative_to(allowed) for allowed in folders.within)
        return target if is_allowed and target.is_file() else None
    except (OSError, ValueError, RuntimeError):  # a name too long, a loop of links
        return None


def _by_name(path: str, folders: Folders) -> list[Path]:
    """The pictures whose paths end with this one, also without their suffixes."""
    if not folders.names or len(path) > MAX_PATH_CHARS:
        return []
    found: dict[Path, None] = {}
    for names in folders.names:
        inside = (_inside(folder, [names.root]) for folder in folders.tried)
        beside = ["" if one == "." else f"{one}/" for one in inside if one is not None]
        for plain in _spellings(path):
            found |= dict.fromkeys(names.root / name for name in names.find(plain, beside))
    return list(found)


def _ways(path: str, folders: Folders | None = None) -> Iterator[str]:
    """The path as it stands, then as Windows, addresses and the disks of a Mac write it; then where it has moved."""
    yield from _spellings(path)
    start, place = folders and folders.moved or (None, "")
    if start is not None and path.startswith(start):
        yield from _spellings(place + path[len(start) :])


def _spellings(path: str) -> Iterator[str]:
    plain = unquote(path.strip()).replace("\\", "/")
    accents = () if plain.isascii() else (unicodedata.normalize(form, plain) for form in ("NFC", "NFD"))
    yield from dict.fromkeys((path, path.replace("\\", "/"), unquote(path), plain, *accents))


def _found(path: str, folders: Folders, limits: Limits) -> Path | None:
    """The file that a path names, with all links followed."""
    if folders.fetch is None:
        return file_of(path, folders)
    for name in _ways(path, folders):
        for folder in folders.tried:
            in_repository = _inside(folder / name, folders.within)
            if in_repository and (target := folders.fetch(in_repository, limits.max_upload_mb * 1e6)):
                return target
    found = [_inside(place, folders.within) for place in _by_name(path, folders)]
    return folders.fetch(found[0], limits.max_upload_mb * 1e6) if len(found) == 1 and found[0] else None


@lru_cache(16)
def _names_in(folder: Path, changed_at: int) -> dict[str, str]:
    """The names of a folder's first files, by the same as `_plain` has it. The time tells one listing from the next."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in islice(entries, MAX_NAMES)]
    return {_plain(PurePath(name).stem): name for name in names} | {_plain(name): name for name in names}


def plain_path(path: str) -> str:
    """A path by which another with other case, signs or suffix is found: the letters and digits of its names."""
    parts = PurePath(path)
    return "/".join(map(_plain, (*parts.parts[:-1], parts.stem)))


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFC", name).lower())) or name


def _meant(path: str, folders: Folders) -> str:
    """A remark on the file whose name is as that of the path but for case, signs or suffix; empty if there is none."""
    *_, plain = _ways(path)
    if folders.fetch is not None:
        inside = (_inside(folder / plain, folders.within) for folder in folders.tried)
        near = next((found for name in inside if name and folders.near and (found := folders.near(name))), None)
        return f"; there is {near[:120]!r}" if near else ""
    for folder in folders.tried:
        try:
            place = folder
            for part in (part for part in plain.split("/") if part not in ("", ".")):
                if not (place / part).exists():
                    names = _names_in(place, place.stat().st_mtime_ns)
                    part = names.get(_plain(part)) or names[_plain(PurePath(part).stem)]
                place /= part
            if place.is_file() and any(place.resolve().is_relative_to(allowed) for allowed in folders.within):
                return f"; there is {place.relative_to(folder).as_posix()[:120]!r}"
        except (OSError, KeyError, ValueError):
            continue
    return ""


def _inside(path: Path, folders: Sequence[Path]) -> str | None:
    """The path in the folder that it lies in, by its name alone; `None` if it lies in none."""
    plain = Path(os.path.normpath(path))
    return next((plain.relative_to(one).as_posix() for one in folders if plain.is_relative_to(one)), None)


def _refuse(path: str, folders: Folders) -> bytes:
    """Raises the refusal for a path that names no file, or one outside the folders."""
    shown, looked = repr(path[:120]), " and ".join(f"{folder.name}/" for folder in folders.tried)
    if len(several := _by_name(path, folders)) > 1:
        may_be = " or ".join(
            repr(str(_inside(one, [names.root for names in folders.names]))[:120]) for one in several[:2]
        )
        raise Refusal(
            "picture missing",
            f"{shown} may be {may_be}; write the path of the one that is meant, or name its folder with image_root",
        )
    if found := _ends_here(path, folders, PLACES):
        start, place = min(found)
        here = (place + path[len(start) :])[:120]
        detail = (
            f"{shown} is a path of another machine, and {here!r} is here; write it so: the first rows' paths do not"
        )
        raise Refusal("picture missing", f"{detail} all begin with {start[:120]!r}, or lead to several files here")
    if folders.fetch is not None:
        if any(_inside(folder / path, folders.within) for folder in folders.tried):
            near = _meant(path, folders) or "; write the path of one, as images/1.png"
            raise Refusal("picture missing", f"{shown} is no file of the repository{near}")
        raise Refusal("picture refused", f"{shown} leads out of the repository; only its own files are read")
    _refuse_link(path, folders)
    targets = [(folder / path).resolve() for folder in folders.tried]
    if not any(target.is_relative_to(allowed) for target in targets for allowed in folders.within):
        raise Refusal("picture refused", f"{shown} leads out of the dataset's folder; name its own with image_root")
    if any(target.is_dir() for target in targets):
        raise Refusal("picture missing", f"{shown} is a folder, and no picture; name a file in it")
    remedy = "name the folder of the pictures with image_root"
    if folders.names and not FILE_NAME.fullmatch(path):
        looked += f", and {' and '.join(names.words for names in folders.names)} without its suffix"
        remedy = f"write the file's path, as images/1.png, or {remedy}"
    if _DRIVE.match(path):
        remedy = "write it relative to the data file, as images/1.png"
    if near := _meant(path, folders):
        remedy = "write that name"
    raise Refusal("picture missing", f"{shown} is no file in {looked}{near}; {remedy}")


def moved_paths(paths: Iterable[str], split: str, folders: Folders) -> tuple[str, str] | None:
    """The beginning of paths of another machine, and the folder here that stands in its place.

    `None` unless all paths that name no file as they stand, and of which an end does, agree on it.
    """
    places = (*PLACES, *(f"{folder}/" for folder in (split, f"{split}_images", f"images/{split}", f"{split}/images")))
    found: set[tuple[str, str]] = set()
    for path in map(_without_scheme, paths):
        if looks_like_pictures(path) and not _is_here(path, folders):
            found |= _ends_here(path, folders, places)
        if len(found) > 1:
            return None
    return found.pop() if found else None


def _ends_here(path: str, folders: Folders, places: Sequence[str]) -> set[tuple[str, str]]:
    """The beginning of a path whose longest end names a file here, with each of the places where it does.

    The beginning is empty, or absolute, or it ends with the dataset's own folder.
    """
    own = {folder.name for folder in folders.tried}
    is_absolute = path.startswith("/") or _DRIVE.match(path) is not None
    if path.startswith(("//", "\\\\")) or is_address(path) or ".." in re.split(r"[/\\]", unquote(path)):
        return set()
    starts = [0, *(match.end() for match in islice(re.finditer(r"[/\\]|\?d=", path), MAX_TAILS))]
    for at in starts if len(path) <= MAX_PATH_CHARS else ():
        is_own = re.split(r"[/\\]", path[:at])[-2:-1] in [[name] for name in own]
        tail = path[at:]
        if (
            not tail
            or tail.startswith(("/", "\\"))
            or not (at == 0 and not is_absolute or is_absolute and at or is_own)
        ):
            continue
        if found := {(path[:at], place) for place in places if (at or place) and _is_here(place + tail, folders)}:
            return found
    return set()


def _is_here(path: str, folders: Folders) -> bool:
    if folders.fetch is None:
        return _exactly(path, folders) is not None
    inside = {
        name for way in _ways(path) for folder in folders.tried if (name := _inside(folder / way, folders.within))
    }
    return any(folders.near is not None and folders.near(name) == name for name in inside)


def _refuse_link(path: str, folders: Folders) -> None:
    """Raises the refusal for a path with a link on it that is broken, or leads out of the folders."""
    parts = PurePath(path.replace("\\", "/")).parts
    for folder in folders.tried:
        for num in range(1, len(parts) + 1 if not path.startswith("/") else 0):
            place = folder.joinpath(*parts[:num])
            if ".." in parts or not place.is_symlink():
                continue
            target, shown = place.resolve(), repr("/".join(parts[:num])[:120])
            if not place.exists():
                raise Refusal("picture missing", f"{shown} is a broken link: there is no {os.readlink(place)[:120]}")
            if not any(target.is_relative_to(allowed) for allowed in folders.within):
                to = target if target.is_dir() else target.parent
                detail = f"{shown} is a link out of the dataset's folder; name what it leads to with image_root {to}"
                raise Refusal("picture refused", detail)
