"""Times and sums of money as people read them.

>>> duration(4000), dollars(0.1234), dollars(None)
('1 h 07 min', '$0.12', None)
"""

from __future__ import annotations

import math
import time


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
