"""Parts of a section that are sent to the page only when they have changed, and foreign text made safe for it.

    shown = Shown(note)                                   # what the page says it shows
    return [shown.update("log", log_html), shown.note]    # the first is skipped if it is there already

The note lies in the page, in a hidden field that is an input and an output of every look. It arrives together with
the parts that it speaks of, so a page that missed an answer, or met a restart, says so by itself at its next look.
"""

from __future__ import annotations

import hashlib
import html
import math
import time
from typing import Any

import gradio as gr

MAX_NOTE_CHARS = 2_000
_TURNING = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
"""Signs that turn the direction of what follows, which can make a text read as another."""


class Shown:
    """Which parts stand on a page."""

    def __init__(self, note: Any) -> None:
        """`note` is what `Shown.note` gave at the page's last look; with anything else every part is sent."""
        text = note if isinstance(note, str) and len(note) <= MAX_NOTE_CHARS else ""
        self._before = set(text.split())
        self._now: list[str] = []

    def update(self, name: str, value: Any) -> Any:
        """The part, or nothing if the page shows it; what it says (`str`) decides."""
        entry = f"{name}:{hashlib.sha256(str(value).encode(errors='replace')).hexdigest()[:16]}"
        self._now.append(entry)
        return gr.skip() if entry in self._before else value

    def keep(self, name: str) -> bool:
        """Leave a part as it stands, whatever it says; false if the page shows none of this name."""
        kept = [entry for entry in self._before if entry.startswith(f"{name}:")]
        self._now += kept
        return bool(kept)

    @property
    def note(self) -> str:
        """For the page to keep."""
        return " ".join(self._now)


def escape(value: Any, max_chars: int = 2_000) -> str:
    """Foreign text for HTML: cut, escaped, and without control characters or signs that turn the direction.

    >>> escape("<b>\\x1b[31mred</b>")
    '&lt;b&gt;[31mred&lt;/b&gt;'
    """
    text = str(value)
    text = text[:max_chars] + ("…" if len(text) > max_chars else "")
    return html.escape("".join(c for c in text if c in "\n\t" or (ord(c) >= 32 and c != "\x7f" and c not in _TURNING)))


def duration(seconds: float) -> str:
    """Seconds up to a minute, then minutes, then hours with minutes."""
    if not math.isfinite(seconds) or seconds < 0:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def dollars(sum_of_money: float | None) -> str | None:
    """To the cent; `None` stays `None`."""
    return None if sum_of_money is None else f"${sum_of_money:,.2f}"


def moment(seconds: float | None) -> str:
    """A time (seconds since 1970) as date and time of this machine."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else "unknown"
    except (OverflowError, ValueError, OSError):
        return "unknown"
