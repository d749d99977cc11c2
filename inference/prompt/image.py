"""Turns an upload into an RGB picture of bounded size, or refuses it with a clear error.

    >>> load_image(Image.new("RGBA", (1, 1))).size
    (28, 28)

Nothing is decoded before its size has been checked.
"""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from inference.common.errors import UserError
from inference.common.settings import DEFAULT_LIMITS, Limits

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_READ = "PNG, JPEG, WebP, GIF, BMP and TIFF"
MIN_SIDE = 28
"""Smaller pictures are scaled up: one image token is this many pixels wide."""


def load_image(source: str | Path | bytes | Image.Image | None, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """The picture upright, in RGB, on white where it was transparent, between `MIN_SIDE` and `max_model_pixels`.

    Of an animation, the first frame. Raises `UserError` for anything that is not a picture or too large.
    """
    if source is None:
        raise UserError("There is no picture. Drop, paste or photograph one first.")
    image = source if isinstance(source, Image.Image) else _open(_read(source, limits), limits)
    _check_size(image, limits)
    try:
        if image.format == "JPEG":
            image.draft("RGB", _fitting(image.size, limits))  # decodes a large JPEG at a half, quarter or eighth
        image.seek(0)
        upright = ImageOps.exif_transpose(image)
        return _bounded(_to_rgb(upright), limits)
    except UserError:
        raise
    except Exception as error:  # an upload is untrusted, and Pillow's readers raise any kind on broken files
        raise UserError("The picture is damaged or incomplete. Send it again, or save it anew.") from error


def limit_decoding(limits: Limits) -> None:
    """Make Pillow refuse larger pictures everywhere, also where Gradio decodes before we see them."""
    Image.MAX_IMAGE_PIXELS = limits.max_pixels // 2  # Pillow warns above it and refuses above twice as much


def thumbnail_uri(image: Image.Image, side: int) -> str:
    """A small JPEG of the picture, whose longer side has at most `side` pixels, for the `src` of an image in HTML."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _read(source: str | Path | bytes, limits: Limits) -> bytes:
    """The file's bytes, at most `max_upload_mb` of them."""
    size = len(source) if isinstance(source, bytes) else _file_size(Path(source))
    if size == 0:
        raise UserError("The picture file is empty (0 bytes). Send it again.")
    if size > limits.max_upload_mb * 1e6:
        mb = limits.max_upload_mb
        raise UserError(f"The picture file has {size / 1e6:.1f} MB; at most {mb:g} MB are taken. Scale it down.")
    return source if isinstance(source, bytes) else Path(source).read_bytes()


def _file_size(path: Path) -> int:
    if not path.is_file():
        raise UserError(f"There is no picture file {path.name}. Choose it again.")
    return path.stat().st_size


def _open(data: bytes, limits: Limits) -> Image.Image:
    """Read the picture's header; its pixels are not decoded yet."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"The picture has far more pixels than {limits.max_pixels:,}. Scale it down.") from error
    except Exception as error:  # an upload is untrusted, and Pillow's readers raise any kind on broken files
        start = data[:2048].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        if start.startswith((b"<svg", b"<?xml", b"<!doctype svg")) and b"<svg" in start:
            raise UserError("SVG drawings cannot be read. Export the picture as PNG.") from error
        raise UserError(f"The file is not a picture that can be read; {_READ} can. Save it as one of these.") from error


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


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_to_rgb(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _deep_to_rgb(image: Image.Image) -> Image.Image:
    """Map 16-bit levels by their full range, 32-bit or floating point levels by the range that the picture uses."""
    levels = np.asarray(image).astype(np.float64)  # (height, width)
    if image.mode.startswith("I;16"):
        low, high = 0.0, 65_535.0
    else:
        levels = np.nan_to_num(levels, posinf=0.0, neginf=0.0)
        low, high = levels.min(), levels.max()
    eight_bits = np.round((levels - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    return Image.fromarray(eight_bits).convert("RGB")


def _bounded(image: Image.Image, limits: Limits) -> Image.Image:
    """Scaled down to `max_model_pixels`, or up until the shorter side has `MIN_SIDE`; else as it is."""
    size = _fitting(image.size, limits)
    if size == image.size:
        return image
    if math.prod(size) < math.prod(image.size):
        return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return image.resize(size, Image.Resampling.NEAREST)


def _fitting(size: tuple[int, int], limits: Limits) -> tuple[int, int]:
    width, height = size
    scale = max(min(1.0, math.sqrt(limits.max_model_pixels / (width * height))), MIN_SIDE / min(width, height))
    if scale <= 1.0 and width * height <= limits.max_model_pixels:
        return size
    return max(MIN_SIDE, math.floor(width * scale)), max(MIN_SIDE, math.floor(height * scale))
