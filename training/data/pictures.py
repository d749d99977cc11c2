"""The pictures in a cell of a dataset: bytes, base64, a data URI, or a path in a folder that may be read; or a list.

    list(read_pictures("images/1.png", Folders.of(folder), DEFAULT_LIMITS))

No address is fetched. A path, and every link on it, must lead into one of the folders.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from PIL import Image

from inference.common.errors import UserError
from inference.common.settings import Limits
from training.data.refusals import Refusal

if TYPE_CHECKING:
    from datasets import Dataset

MORE_IMAGES = "more_images"
"""The column of a row's pictures after the first; there is none in a dataset whose rows all have one."""
MAX_PATH_CHARS = 1_024
MAX_DEPTH = 3
"""Mappings within one another around a picture: `{"image_url": {"url": …}}`."""
_ADDRESS = re.compile(r"\s*(?!data:)[a-zA-Z][a-zA-Z0-9+.-]+:")
_DATA_URI = re.compile(r"\s*data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{64,}={0,2}\s*")
_FILE_NAME = re.compile(r"[^\n]{1,500}\.(?:png|jpe?g|webp|gif|bmp|tiff?|avif|jp2)", re.IGNORECASE)
_MAGIC = ("iVBORw0KGgo", "/9j/", "UklGR", "R0lGOD", "Qk0", "AAAA", "SUkq", "TU0A")
"""Beginnings of pictures in base64: PNG, JPEG, WebP, GIF, BMP, AVIF and HEIC, TIFF."""


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

    @classmethod
    def of(cls, *tried: Path, within: Sequence[Path] = ()) -> Folders:
        """By default a path must lead into one of the folders that are tried."""
        return cls(tuple(dict.fromkeys(tried)), tuple(folder.resolve() for folder in within or tried))


def read_pictures(cell: object, folders: Folders | None, limits: Limits) -> Iterator[bytes | Image.Image]:
    """The pictures in a cell, which holds one or a list. Raises `Refusal`. `folders` of `None` allow no path."""
    cells = cell if isinstance(cell, list | tuple) else [cell]
    if len(cells) > limits.max_pictures:
        raise Refusal("too many pictures", f"{len(cells)} pictures; a row may have {limits.max_pictures}")
    for one in cells or [None]:
        yield _read(one, folders, limits)


def looks_like_pictures(cell: object) -> bool:
    """True for what can only be a picture or a list of them: bytes, base64, a data URI, the name of such a file."""
    if isinstance(cell, list | tuple):
        return bool(cell) and all(map(looks_like_pictures, cell))
    if isinstance(cell, Mapping):
        return any(isinstance(value, bytes) or looks_like_pictures(value) for value in cell.values())
    if isinstance(cell, bytes):
        return cell.startswith(tuple(base64.b64decode(start + "A" * (-len(start) % 4))[:2] for start in _MAGIC[:5]))
    if not isinstance(cell, str):
        return False
    return bool(_DATA_URI.match(cell) or _FILE_NAME.fullmatch(cell)) or cell.startswith(_MAGIC) and len(cell) >= 64


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
        data = cell.get("bytes") or cell.get("url") or cell.get("image_url") or cell.get("image")
        cell = _from_base64(data) if isinstance(data, str) and "bytes" in cell else data or cell.get("path")
    if cell is None or cell == "":
        raise Refusal("picture missing", "the cell is empty")
    if isinstance(cell, bytes | Image.Image):
        return cell
    if not isinstance(cell, str):
        raise Refusal("picture missing", f"a {type(cell).__name__} is no picture")
    if match := _DATA_URI.match(cell):
        return _from_base64(cell[match.end() :])
    if cell.startswith(_MAGIC) and _BASE64.fullmatch(cell.replace("\n", "")):
        return _from_base64(cell)
    return _read_file(cell, folders, limits)


def _read_file(path: str, folders: Folders | None, limits: Limits) -> bytes:
    shown = repr(path[:120])
    if path.lower().startswith("file:///"):
        path = unquote(path[len("file://") :])
    if _ADDRESS.match(path) or path.startswith(("//", "\\\\")):
        raise Refusal("picture refused", f"{shown} is an address; pictures are never fetched")
    if folders is None:
        raise Refusal("picture refused", f"{shown} is a path, and this dataset has no folder of pictures")
    if len(path) > MAX_PATH_CHARS or "\0" in path:
        raise Refusal("picture refused", f"{shown} is no path of a file")
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


def _found(path: str, folders: Folders, limits: Limits) -> Path | None:
    """The file that a path names, with all links followed."""
    for name in dict.fromkeys((path, path.replace("\\", "/"))):
        for folder in folders.tried:
            if folders.fetch is not None:
                in_repository = _inside(folder / name, folders.within)
                target = in_repository and folders.fetch(in_repository, limits.max_upload_mb * 1e6)
                if target:
                    return target
                continue
            target = (folder / name).resolve()
            if any(target.is_relative_to(allowed) for allowed in folders.within) and target.is_file():
                return target
    return None


def _inside(path: Path, folders: Sequence[Path]) -> str | None:
    """The path in the folder that it lies in, by its name alone; `None` if it lies in none."""
    plain = Path(os.path.normpath(path))
    return next((plain.relative_to(one).as_posix() for one in folders if plain.is_relative_to(one)), None)


def _refuse(path: str, folders: Folders) -> bytes:
    """Raises the refusal for a path that names no file, or one outside the folders."""
    shown, looked = repr(path[:120]), " and ".join(f"{folder.name}/" for folder in folders.tried)
    if folders.fetch is not None:
        if any(_inside(folder / path, folders.within) for folder in folders.tried):
            raise Refusal("picture missing", f"{shown} is no file of the repository")
        raise Refusal("picture refused", f"{shown} leads out of the repository; only its own files are read")
    targets = [(folder / path).resolve() for folder in folders.tried]
    if not any(target.is_relative_to(allowed) for target in targets for allowed in folders.within):
        raise Refusal("picture refused", f"{shown} leads out of the dataset's folder; name its own with image_root")
    if any((folder / path).is_file() for folder in folders.tried):
        raise Refusal(
            "picture refused", f"{shown} is a link out of the dataset's folder; name what it leads to with image_root"
        )
    raise Refusal("picture missing", f"{shown} is no file in {looked}; name the folder of the pictures with image_root")


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal("picture broken", "the picture's base64 is broken") from error
