"""Pictures that are written as text: names of files, base64, data URIs, and bytes as Python prints them.

    looks_like_pictures("images/1.png")            # True
    bytes_in("b'\\x89PNG...'")                      # the bytes; None for a text that holds none, as a path

Nothing is evaluated.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from urllib.parse import unquote

from training.data.picture_cells.names import SUFFIX
from training.data.refusals import Refusal

FILE_NAME = re.compile(rf"[^\n]{{1,500}}{SUFFIX}", re.IGNORECASE)
"""The name of a picture's file."""
DATA_URI = re.compile(
    r"\s*data:(?:image/[a-z0-9.+-]+|application/octet-stream)?(?:;[a-z0-9-]+=[^;,]{0,40}){0,4};base64,", re.IGNORECASE
)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{64,}={0,2}")
_MAGIC = ("iVBORw0KGgo", "/9j/", "_9j_", "UklGR", "R0lGOD", "Qk0", "Qk1", "Qk2", "Qk3", "AAAA", "SUkq", "TU0A")
"""Beginnings of pictures in base64: PNG, JPEG, WebP, GIF, BMP, AVIF and HEIC, TIFF."""
_MAGIC_BYTES = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8", b"BM")
_PRINTED_MAGIC = tuple(repr(one)[2:-1] for one in _MAGIC_BYTES)
_OF_PYTHON = re.compile(r"(?:b|bytearray\(b|\{\s*['\"]bytes['\"]:\s*b)(?=(['\"]))")
"""The beginning of bytes as Python prints them, also in the mapping that `datasets` makes of a picture."""
_PRINTED = re.compile(r"'(?:[^'\\]|\\.)*+'|\"(?:[^\"\\]|\\.)*+\"", re.DOTALL)
_IN_MEMORY = re.compile(r"<PIL\.|<[\w.]+ (?:object|image)\b|(?:array|tensor)\(\[|\[\[+\s*\d")
"""A picture in memory as Python prints it, without its file."""
REMEDY = "write the pictures as files and name them, or write the table as Parquet"


def looks_like_pictures(cell: object) -> bool:
    """True for what can only be a picture or a list of them: bytes, base64, a data URI, the name of such a file."""
    if isinstance(cell, list | tuple):
        return bool(cell) and all(map(looks_like_pictures, cell))
    if isinstance(cell, Mapping):
        return any(isinstance(value, bytes) or looks_like_pictures(value) for value in cell.values())
    if isinstance(cell, bytes):
        return cell.startswith(_MAGIC_BYTES)
    if not isinstance(cell, str):
        return False
    if match := _OF_PYTHON.match(cell):
        return cell.startswith(_PRINTED_MAGIC, match.end() + 1)
    return bool(DATA_URI.match(cell) or FILE_NAME.fullmatch(cell)) or cell.startswith(_MAGIC) and len(cell) >= 64


def bytes_in(text: str) -> bytes | None:
    """The file that a text holds; `None` for one that may be a path. Raises `Refusal` for a damaged one."""
    if match := DATA_URI.match(text):
        return from_base64(text[match.end() :])
    if text.lstrip()[:16].startswith(_MAGIC) and _BASE64.fullmatch("".join(text.split())):
        return from_base64(text)
    if match := _OF_PYTHON.match(text):
        printed = _PRINTED.match(text, match.end())
        if printed is None:
            raise Refusal("picture broken", f"its bytes, which are written as text, are cut off; {REMEDY}")
        if found := _unescaped(printed[0][1:-1]):
            return found
    if _IN_MEMORY.match(text):
        shown = repr(text[:60])
        raise Refusal("picture missing", f"{shown} is what Python prints of a picture in memory; {REMEDY}")
    return None


def from_base64(text: str) -> bytes:
    """The bytes in a text. Raises `Refusal` if it is damaged."""
    try:
        text = unquote(text) if "%" in text else text
        plain = "".join(text.split()).rstrip("=").translate(str.maketrans("-_", "+/"))
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal("picture broken", "the picture's base64 is broken") from error


def _unescaped(text: str) -> bytes:
    """The bytes that a text between quotes stands for; none if it is no such text."""
    try:
        return text.encode("ascii").decode("unicode_escape").encode("latin-1")
    except ValueError:  # not ASCII, a wrong escape, or one of a letter that is no byte
        return b""
