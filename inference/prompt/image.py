"""Turns an upload into an RGB picture of bounded size, or refuses it with a clear error.

    >>> load_image(Image.new("RGBA", (1, 1))).size
    (28, 28)

Nothing is decoded before its size has been checked and there is room for it in memory.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from inference.common.errors import UserError
from inference.common.settings import DEFAULT_LIMITS, Limits
from inference.prompt.decoding import (
    ONE_HEADER,
    ORIENTATION,
    WAIT_SECONDS,
    decoding_bytes,
    draft,
    reduced_rgb,
    room_for,
)

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000")
_READ = "PNG, JPEG, WebP, AVIF, GIF, BMP, TIFF and JPEG 2000"
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""A HEIC file names one of them at its start. It is refused: libheif, which Pillow would need, crashes the process on
damaged files."""
_DATA_URI = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?:;[\w.+-]+=[\w.+-]*)*;base64", re.IGNORECASE)
_ADDRESS = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
DAMAGED = "The picture is damaged or incomplete. Send it again, or save it anew."
MIN_SIDE = 28
"""Smaller pictures are scaled up: one image token is this many pixels wide."""


def load_image(
    source: str | Path | bytes | Image.Image | None,
    limits: Limits = DEFAULT_LIMITS,
    wait_seconds: float | None = WAIT_SECONDS,
) -> Image.Image:
    """The picture upright, in RGB, on white where it was transparent, between `MIN_SIDE` and `max_model_pixels`.

    Of an animation, the first frame. Raises `UserError` for anything that is not a picture or too large, and `Busy`
    while others take all memory for pictures, unless it may wait for ever (`None`).
    """
    if isinstance(source, Image.Image):
        return _loaded(source, limits)
    with room_for(_reading_bytes(source, limits), limits, wait_seconds):
        return _read(source, limits)


def load_images(
    sources: Sequence[str | Path | bytes | Image.Image | None], limits: Limits = DEFAULT_LIMITS
) -> list[Image.Image]:
    """The pictures of one question, each as `load_image` gives it.

    There is room for all of them before the first is decoded. Raises `UserError` for more than `max_pictures`, or more
    than `max_pixels` together, and `Busy` as `load_image` does.
    """
    if len(sources) > limits.max_pictures:
        raise UserError(
            f"There are {len(sources)} pictures; a question may have at most {limits.max_pictures}. Leave some out."
        )
    if len(sources) == 1:
        return [load_image(source, limits) for source in sources]
    sizes = [_header_size(source, limits) for source in sources if source is not None]
    check_together(sizes, limits)
    files = [source for source in sources if not isinstance(source, Image.Image)]
    needed = max((_reading_bytes(source, limits) for source in files), default=0)
    with room_for(needed + sum(3 * math.prod(_fitting(size, limits)) for size in sizes), limits):
        return [_loaded(one, limits) if isinstance(one, Image.Image) else _read(one, limits) for one in sources]


def check_together(sizes: Sequence[tuple[int, int]], limits: Limits = DEFAULT_LIMITS) -> None:
    """Raises `UserError` for the pictures of one question, by width and height, that are too large together."""
    pixels = sum(width * height for width, height in sizes)
    if pixels > limits.max_pixels:
        raise UserError(
            f"The {len(sizes)} pictures have {pixels:,} pixels together; at most {limits.max_pixels:,} are read. "
            "Scale them down, or leave some out."
        )


def small_copy(data: bytes, limits: Limits = DEFAULT_LIMITS) -> tuple[Image.Image, tuple[int, int]] | None:
    """A copy of at least an eighth, and the size, of a JPEG whose own pixels `load_image` would return; `None` for
    another picture, and for one that is damaged or refused. It takes half the time, and notices damage as well.
    """
    try:
        with ONE_HEADER, Image.open(io.BytesIO(data), formats=("JPEG",)) as header:
            size = header.size
            _check_size(header, limits)
            if header.mode != "RGB" or header.getexif().get(ORIENTATION, 1) != 1 or _fitting(size, limits) != size:
                return None
            eighth = (math.ceil(size[0] / 8), math.ceil(size[1] / 8))
            needed = decoding_bytes(header, len(data), eighth)
        with room_for(needed, limits, None), Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            draft(image, eighth)
            image.load()
            return image.copy(), size
    except Exception:  # a picture is untrusted, and Pillow's readers raise any kind; `load_image` says what is wrong
        return None


def content_key(image: Image.Image) -> bytes:
    """A digest of a picture's pixels, size and mode."""
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.digest()


def read_data_uri(text: str) -> bytes:
    """The file within a data URI (RFC 2397) in base64; raises `UserError` for an address or any other text.

    >>> read_data_uri("data:image/png;base64,aGk=")
    b'hi'
    """
    head, comma, data = text.partition(",")
    if not comma or not _DATA_URI.fullmatch(head):
        what = "is an address, and nothing is fetched" if _ADDRESS.match(text) else "is no data URI"
        raise UserError(
            f"The picture {text[:40]!r} {what}. Send it as data:image/png;base64,… with the file in base64."
        )
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        raise UserError(
            "What follows the comma of the picture's data URI is not base64. Encode the file again."
        ) from None


def small_jpeg(image: Image.Image, side: int) -> bytes:
    """A JPEG of the picture, whose longer side has at most `side` pixels."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def thumbnail_uri(image: Image.Image, side: int) -> str:
    """`small_jpeg` for the `src` of an image in HTML."""
    return "data:image/jpeg;base64," + base64.b64encode(small_jpeg(image, side)).decode("ascii")


def _reading_bytes(source: str | Path | bytes | None, limits: Limits) -> int:
    """The most memory that reading a file takes, from its header. Raises `UserError` if it is refused by that."""
    if source is None:
        raise UserError("There is no picture. Drop, paste or photograph one first.")
    num_bytes = _check_file(source, limits)
    with ONE_HEADER, _open(source, limits) as header:
        _check_size(header, limits)
        return _needed_bytes(header, num_bytes, _fitting(header.size, limits))


def _read(source: str | Path | bytes | None, limits: Limits) -> Image.Image:
    """The picture of a file; the caller has made room for it."""
    assert source is not None, "_reading_bytes refuses it"
    with _open(source, limits) as image:
        draft(image, _fitting(image.size, limits))
        return _loaded(image, limits)


def _header_size(source: str | Path | bytes | Image.Image, limits: Limits) -> tuple[int, int]:
    if isinstance(source, Image.Image):
        return source.size
    _check_file(source, limits)
    with ONE_HEADER, _open(source, limits) as header:
        return header.size


def _check_file(source: str | Path | bytes, limits: Limits) -> int:
    """The bytes of the file, which are at most `max_upload_mb`."""
    size = len(source) if isinstance(source, bytes) else _file_size(Path(source))
    if size == 0:
        raise UserError("The picture file is empty (0 bytes). Send it again.")
    if size > limits.max_upload_mb * 1e6:
        mb = limits.max_upload_mb
        raise UserError(f"The picture file has {size / 1e6:.1f} MB; at most {mb:g} MB are taken. Scale it down.")
    return size


def _file_size(path: Path) -> int:
    if not path.is_file():
        raise UserError(f"There is no picture file {path.name}. Choose it again.")
    return path.stat().st_size


def _open(source: str | Path | bytes, limits: Limits) -> Image.Image:
    """Read the picture's header; its pixels are not decoded yet."""
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"The picture has far more pixels than {limits.max_pixels:,}. Scale it down.") from error
    except Exception as error:  # an upload is untrusted, and Pillow's readers raise any kind on broken files
        start = _start(source).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        if start.startswith((b"<svg", b"<?xml", b"<!doctype svg")) and b"<svg" in start:
            raise UserError("SVG drawings cannot be read. Export the picture as PNG.") from error
        if start[4:8] == b"ftyp" and start[8:12] in HEIC_BRANDS:
            raise UserError("HEIC pictures cannot be read. Export the picture as JPEG.") from error
        raise UserError(f"The file is not a picture that can be read; {_READ} can. Save it as one of these.") from error


def _start(source: str | Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:2048]
    with open(source, "rb") as file:
        return file.read(2048)


def _check_size(image: Image.Image, limits: Limits) -> None:
    width, height = image.size
    shown = f"The picture has {width:,} × {height:,} pixels"
    if min(width, height) < 1:
        raise UserError(f"{shown}: there is nothing to see. Choose another one.")
    if max(width, height) > limits.max_side:
        raise UserError(f"{shown}; a side may have at most {limits.max_side:,}. Scale it down or crop it.")
    if width * height > limits.max_pixels:
        raise UserError(f"{shown}, {width * height:,} in all; at most {limits.max_pixels:,} are read. Scale it down.")
    if max(width, height) > limits.max_aspect * min(width, height):
        raise UserError(f"{shown}; it may be at most {limits.max_aspect:g} times as long as wide. Crop it.")


def _needed_bytes(header: Image.Image, num_bytes: int, size: tuple[int, int]) -> int:
    try:
        return decoding_bytes(header, num_bytes, size)
    except Exception as error:  # an upload is untrusted, and its tags may hold anything
        raise UserError(DAMAGED) from error


def _loaded(image: Image.Image, limits: Limits) -> Image.Image:
    """Decoded, upright, in RGB, scaled down to `max_model_pixels`, or up until the shorter side has `MIN_SIDE`."""
    _check_size(image, limits)
    try:
        image.seek(0)
        image.load()
        orientation = image.getexif().get(ORIENTATION, 1)
        size = _fitting(image.size, limits)
        small = reduced_rgb(image, size)
        if small.size != size:
            small = small.resize(size, Image.Resampling.NEAREST)
        small.getexif()[ORIENTATION] = orientation
        ImageOps.exif_transpose(small, in_place=True)
    except Exception as error:  # an upload is untrusted, and Pillow's readers raise any kind on broken files
        raise UserError(DAMAGED) from error
    return small


def _fitting(size: tuple[int, int], limits: Limits) -> tuple[int, int]:
    width, height = size
    scale = max(min(1.0, math.sqrt(limits.max_model_pixels / (width * height))), MIN_SIDE / min(width, height))
    if scale <= 1.0 and width * height <= limits.max_model_pixels:
        return size
    return max(MIN_SIDE, math.floor(width * scale)), max(MIN_SIDE, math.floor(height * scale))
