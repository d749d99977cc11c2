"""Decodes pictures within a bound of memory, which all pictures of the process share.

A small file may claim many pixels, so what decoding takes is reckoned from the header and admitted before it is spent:

    with ONE_HEADER, Image.open(path) as header:
        needed = decoding_bytes(header, path.stat().st_size, size)
    with room_for(needed, limits), Image.open(path) as image:
        small = reduced_rgb(image, size)

A picture is decoded once, in its own mode, and turned into RGB and reduced strip by strip.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from inference.common.errors import Busy, UserError
from inference.common.settings import Limits

MOST_AT_ONCE = 8
"""Pictures decoded at a time, however small."""
WAIT_SECONDS = 30.0
"""The longest wait for room; the largest pictures take about two seconds each."""
STRIP_PIXELS = 1 << 17
"""Pixels that are turned into RGB at a time."""
REDUCING_GAP = 3.0
"""Sides are divided by a whole number down to this many times the wanted size, and a filter does the rest."""
_FIXED_BYTES = 16_000_000
"""For strips, the filter, and the blocks in which Pillow takes its memory."""
TEXT_BYTES = 4_000_000
"""The most text that a PNG may hold, unpacked."""
ORIENTATION = 0x0112
"""The tag of Exif and TIFF that says how a picture is stored turned."""
_BITS_PER_SAMPLE, _PHOTOMETRIC, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_LENGTH = 0x0102, 0x0106, 0x0116, 0x0142, 0x0143
ONE_HEADER = threading.Lock()
"""Held while a header is read, since a WebP file is read whole for it."""
_changed = threading.Condition()
_lent = 0
"""Bytes that pictures have at the moment."""


def limit_decoding(limits: Limits) -> None:
    """Make Pillow refuse larger pictures and texts everywhere, also where Gradio decodes before we see them."""
    Image.MAX_IMAGE_PIXELS = limits.max_pixels // 2  # Pillow warns above it and refuses above twice as much
    PngImagePlugin.MAX_TEXT_MEMORY = TEXT_BYTES


@contextmanager
def room_for(needed: int, limits: Limits, seconds: float | None = WAIT_SECONDS) -> Iterator[None]:
    """Holds `needed` bytes of `max_decoding_mb` for the block, once the pictures before leave as many.

    Raises `UserError` for more than there are, and `Busy` after `seconds`, if they are given.
    """
    global _lent
    most = int(limits.max_decoding_mb * 1e6)
    if needed > most:
        raise UserError(
            f"Reading the picture would take {needed / 1e6:,.0f} MB of memory; at most {limits.max_decoding_mb:g} MB "
            "are spent on one. Scale it down, or save it as an ordinary PNG or JPEG."
        )
    size = max(needed, math.ceil(most / MOST_AT_ONCE))
    with _changed:
        if not _changed.wait_for(lambda: _lent + size <= most, seconds):
            raise Busy("Many large pictures are being read just now; send yours again in a minute.")
        _lent += size
    try:
        yield
    finally:
        with _changed:
            _lent -= size
            _changed.notify_all()


def draft(image: Image.Image, size: tuple[int, int]) -> None:
    """Let a JPEG that is much larger than `size` be decoded at a half, a quarter or an eighth."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        image.draft("RGB", size)


def decoding_bytes(header: Image.Image, num_bytes: int, size: tuple[int, int]) -> int:
    """The most memory that reading a picture of `num_bytes` down to `size` takes, from its header alone.

    That is the picture itself, a reduced copy, and what the readers take beside them, as measured with Pillow 12.3:
    libjpeg may keep all coefficients (2 bytes each), libwebp and Pillow together four copies, libavif's and openjpeg's
    readers 10 and 19 bytes a pixel, GIF's another copy, libtiff a strip or tile, which may be the whole picture, and a
    TIFF that is stored turned is copied.
    """
    pixels, beside = math.prod(header.size), 0
    if isinstance(header, JpegImagePlugin.JpegImageFile):
        layers = [across * down for _, across, down, *_ in header.layer]
        beside = sum(2 * pixels * layer // max(1, *layers) for layer in layers)
        draft(header, size)
    elif header.format == "WEBP":
        return 17 * pixels + 2 * num_bytes + _FIXED_BYTES
    elif header.format == "AVIF":
        return 12 * pixels + 2 * num_bytes + _FIXED_BYTES
    elif header.format == "JPEG2000":
        return 22 * pixels + 2 * num_bytes + _FIXED_BYTES
    elif header.format == "GIF":
        beside = 4 * pixels
    elif isinstance(header, TiffImagePlugin.TiffImageFile):
        beside = _strip_bytes(header) + _own_bytes(header) * (header.getexif().get(ORIENTATION, 1) != 1)
    reduced = math.prod(header.size) // math.prod(_factors(header.size, size))
    return beside + _own_bytes(header) + 4 * reduced + _FIXED_BYTES


def reduced_rgb(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A copy in RGB, on white where it was transparent, scaled down to `size` (width, height) where that is less.

    As `resize` with LANCZOS and `reducing_gap=3` would do it, without another copy at full size.
    """
    factors = _factors(image.size, size)
    small = _in_strips(image, *factors)
    if math.prod(size) >= math.prod(image.size):
        return small
    box = (0.0, 0.0, image.width / factors[0], image.height / factors[1])
    return small.resize(size, Image.Resampling.LANCZOS, box)


def _own_bytes(image: Image.Image) -> int:
    """Bytes of the decoded picture as Pillow keeps it, where grey with alpha takes as much as colours with alpha."""
    per_pixel = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    return per_pixel * math.prod(image.size)


def _strip_bytes(header: TiffImagePlugin.TiffImageFile) -> int:
    """Bytes of one strip, or one tile, of a TIFF."""
    width, height = header.size
    rows = min(height, _count(header, _ROWS_PER_STRIP, height))
    pixels = _count(header, _TILE_WIDTH, width) * _count(header, _TILE_LENGTH, rows)
    return math.ceil(pixels * sum(header.tag_v2.get(_BITS_PER_SAMPLE, (8,))) / 8)


def _count(header: TiffImagePlugin.TiffImageFile, tag: int, default: int) -> int:
    """The value of a tag that counts something; a damaged file may hold text there, or less than one."""
    value = header.tag_v2.get(tag)
    return value if isinstance(value, int) and value > 0 else default


def _factors(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """The whole numbers that the sides are divided by before the filter."""
    across, down = (max(1, int(have / want / REDUCING_GAP)) for have, want in zip(size, wanted))
    return across, down


def _in_strips(image: Image.Image, across: int, down: int) -> Image.Image:
    """A copy in RGB, its sides divided by whole numbers."""
    width, height = image.size
    rows = max(1, STRIP_PIXELS // width // down) * down
    boxes = [(0, top, width, min(top + rows, height)) for top in range(0, height, rows)]
    low, high = _levels(image, boxes)
    small = Image.new("RGB", (math.ceil(width / across), math.ceil(height / down)))
    for box in boxes:
        strip = _to_rgb(image.crop(box), low, high)
        small.paste(strip.reduce((across, down)), (0, box[1] // down))
    return small


def _is_deep(mode: str) -> bool:
    return mode.startswith("I") or mode == "F"


def _levels(image: Image.Image, boxes: Iterable[tuple[int, int, int, int]]) -> tuple[float, float]:
    """Black and white: the full range of 12 or 16 bits; of 32-bit or floating point levels the range that they use."""
    if image.mode.startswith("I;16") and isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0]
        full = 2.0 ** (bits if bits in (12, 16) else 16) - 1
        return (full, 0.0) if image.tag_v2.get(_PHOTOMETRIC) == 0 else (0.0, full)  # 0: white is zero
    if image.mode.startswith("I;16") or not _is_deep(image.mode):
        return 0.0, 65_535.0
    ranges = [(levels.min(), levels.max()) for levels in map(_finite, map(image.crop, boxes))]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _finite(strip: Image.Image) -> np.ndarray:
    """Levels as numbers, (height, width)."""
    return np.nan_to_num(np.asarray(strip).astype(np.float64), posinf=0.0, neginf=0.0)


def _to_rgb(strip: Image.Image, low: float, high: float) -> Image.Image:
    if _is_deep(strip.mode):
        eight_bits = np.round((_finite(strip) - low) / (high - low or 1e-12) * 255).astype(np.uint8)
        return Image.fromarray(eight_bits).convert("RGB")
    if strip.has_transparency_data:
        rgba = strip.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return strip.convert("RGB")
