"""Text that others wrote, safe inside HTML.

>>> escape("<b>\\x1b[31mred</b>")
'&lt;b&gt;[31mred&lt;/b&gt;'
"""

from __future__ import annotations

import html
import re

_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff]")
"""Control characters, half characters, and signs that turn the direction of a text, which can make it another one."""


def escape(value: object, max_chars: int = 2_000) -> str:
    """`value` for an element or a quoted attribute: cut, escaped, without control and direction characters."""
    text = str(value)
    return html.escape(_UNWANTED.sub("", text[:max_chars])) + ("…" if len(text) > max_chars else "")
