"""Times and values from files that anybody may have edited, as text for the page.

>>> duration(4000)
'1 h 07 min'
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from training.runs.metrics import is_number

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


def moment(seconds: float | None) -> str:
    """A time (seconds since 1970) as date and time of this machine."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else "unknown"
    except (OverflowError, ValueError, OSError):
        return "unknown"


def capitalised(text: str) -> str:
    """The text with a capital first letter and the rest as it is."""
    return text[:1].upper() + text[1:]


def mapping(value: object) -> Mapping[str, object]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def finite(value: object) -> float | None:
    """The value as a float if it is a finite number of ordinary size, else `None`."""
    return float(value) if is_number(value) else None
