"""Times, values and pictures from files that anybody may have edited, for the page.

>>> duration(4000)
'1 h 07 min'
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from inference.common.html import escape
from inference.prompt.image import thumbnail_uri
from training.runs.metrics import is_number

PICTURE_PIXELS = 320
"""The longer side of a picture on the page."""
MAX_PICTURE_BYTES = 20_000_000
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
KEEP_FOLDED = """
const open = new Set();
element.addEventListener('click', (event) => {
  const fold = event.target.closest('summary')?.parentElement;
  if (fold) fold.open ? open.delete(fold.dataset.key) : open.add(fold.dataset.key);
});
watch('value', () => {
  element.querySelectorAll('.lt-fold').forEach((fold) => { fold.open = open.has(fold.dataset.key); });
});
"""
"""Cards that the reader unfolded stay so when the list is sent again. (A click comes before the change.)"""


def duration(seconds: float) -> str:
    """Seconds below a minute, then minutes, then hours with minutes."""
    if not math.isfinite(seconds) or seconds < 0:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def picture_uri(path: Path, pixels: int = PICTURE_PIXELS) -> str | None:
    """A small JPEG of a picture, for the `src` of an image; `None` if there is no picture that can be read."""
    try:
        state = path.stat()
        return _picture(path, pixels, state.st_mtime_ns, state.st_size) if state.st_size <= MAX_PICTURE_BYTES else None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow raises for broken files
        return None


@functools.lru_cache(maxsize=256)
def _picture(path: Path, pixels: int, modified: int, size: int) -> str:
    """The picture of a file in one state."""
    with Image.open(path, formats=("JPEG", "PNG")) as image:
        image.draft("RGB", (2 * pixels, 2 * pixels))
        return thumbnail_uri(image, pixels)


def time_html(seconds: float | None) -> str:
    """A time (seconds since 1970) in UTC; the page writes it anew in its reader's zone (`times.js`)."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC) if seconds else None
    except (OverflowError, ValueError, OSError):
        moment = None
    if moment is None:
        return "unknown"
    return f'<time datetime="{moment:%Y-%m-%dT%H:%M:%SZ}">{moment:%Y-%m-%d %H:%M} UTC</time>'


def iso_html(text: str) -> str:
    """A time as records hold it, `2026-11-22T14:30:00Z`, as `time_html` shows it; other text escaped.

    >>> iso_html("2026-11-22T14:30:00Z")
    '<time datetime="2026-11-22T14:30:00Z">2026-11-22 14:30 UTC</time>'
    """
    if not _ISO.fullmatch(text):
        return escape(text, 40)
    return f'<time datetime="{text}">{text[:10]} {text[11:16]} UTC</time>'


def capitalised(text: str) -> str:
    """The text with a capital first letter and the rest as it is."""
    return text[:1].upper() + text[1:]


def mapping(value: object) -> Mapping[str, object]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def finite(value: object) -> float | None:
    """The value as a float if it is a finite number of ordinary size, else `None`."""
    return float(value) if is_number(value) else None
