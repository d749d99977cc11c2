"""The picture in a cell of a dataset: bytes, base64, a data URI, or a path in a folder that may be read.

    read_picture("images/1.png", Folders.of(folder), DEFAULT_LIMITS)

Nothing is fetched. A path, and every link on it, must lead into one of the folders.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from inference.common.settings import Limits
from training.data.refusals import Refusal

MAX_PATH_CHARS = 1_024
_ADDRESS = re.compile(r"\s*(?!data:)[a-zA-Z][a-zA-Z0-9+.-]+:")
_DATA_URI = re.compile(r"\s*data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{64,}={0,2}\s*")
_MAGIC = ("iVBORw0KGgo", "/9j/", "UklGR", "R0lGOD", "Qk0", "AAAA", "SUkq", "TU0A")
"""Beginnings of pictures in base64: PNG, JPEG, WebP, GIF, BMP, AVIF and HEIC, TIFF."""


@dataclass(frozen=True)
class Folders:
    """The folders of a dataset's pictures."""

    tried: tuple[Path, ...]
    """Those that a relative path may be relative to, in the order in which they are tried."""
    within: tuple[Path, ...]
    """Those into which a path must lead, links followed."""

    @classmethod
    def of(cls, *tried: Path, within: Sequence[Path] = ()) -> Folders:
        """By default a path must lead into one of the folders that are tried."""
        return cls(tuple(dict.fromkeys(tried)), tuple(folder.resolve() for folder in within or tried))


def read_picture(cell: object, folders: Folders | None, limits: Limits) -> bytes | Image.Image:
    """The picture in a cell. Raises `Refusal`. `folders` of `None` allow no path."""
    if isinstance(cell, list | tuple):
        if len(cell) > 1:
            raise Refusal("several pictures", f"{len(cell)} pictures")
        cell = cell[0] if cell else None
    if isinstance(cell, Mapping):
        data = cell.get("bytes") or cell.get("url") or cell.get("image_url") or cell.get("image")
        cell = _from_base64(data) if isinstance(data, str) and "bytes" in cell else data or cell.get("path")
        if isinstance(cell, Mapping):  # OpenAI's {"image_url": {"url": …}}
            cell = cell.get("url")
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
    if _ADDRESS.match(path) or path.startswith(("//", "\\\\")):
        raise Refusal("picture refused", f"{shown} is an address; pictures are never fetched")
    if folders is None:
        raise Refusal("picture refused", f"{shown} is a path, and this dataset has no folder of pictures")
    if len(path) > MAX_PATH_CHARS or "\0" in path:
        raise Refusal("picture refused", f"{shown} is no path of a file")
    try:
        target = _found(path, folders)
        if target is None:
            return _refuse(path, folders)
        size = target.stat().st_size
        if size > limits.max_upload_mb * 1e6:
            raise Refusal("picture too large", f"{shown} has {size / 1e6:.1f} MB, {limits.max_upload_mb:g} are read")
        return target.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a name too long, no permission
        raise Refusal("picture missing", f"{shown} cannot be read: {type(error).__name__}") from error


def _found(path: str, folders: Folders) -> Path | None:
    """The file that a path names, with all links followed."""
    for folder in folders.tried:
        target = (folder / path).resolve()
        if any(target.is_relative_to(allowed) for allowed in folders.within) and target.is_file():
            return target
    return None


def _refuse(path: str, folders: Folders) -> bytes:
    """Raises the refusal for a path that names no file, or one outside the folders."""
    shown, looked = repr(path[:120]), " and ".join(f"{folder.name}/" for folder in folders.tried)
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
