"""Cuts an answer where nothing brackets it: at commas, at "and" and "or", at signs of relation.

>>> split_list("(1, 2), (3, 4) and 1,234")
['(1, 2)', '(3, 4)', '1,234']
"""

from __future__ import annotations

import re

_LIST = re.compile(
    r"\s*[,;]\s*(?:(?:and|or)(?![a-z])\s*)?|\s*(?<![\\a-z])(?:and|or)(?![a-z])\s*|"
    r"\s*\\(?:cup|lor|vee)(?![a-z])\s*|\s+\|\s+",
    re.IGNORECASE,
)
_THOUSANDS = re.compile(r"(?<![0-9,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])")
_RELATION = re.compile(r"\s*(=|<|>|\\(?:le|ge|ne|in|parallel|perp|approx|cong|sim|equiv|mid|to)(?![a-zA-Z]))\s*")


def split_top(text: str, separator: str | re.Pattern[str]) -> list[str]:
    """The parts of `text` between those separators that stand in no bracket."""
    pattern = re.compile(separator) if isinstance(separator, str) else separator
    depth = _depths(text)
    parts, start = [], 0
    for match in pattern.finditer(text):
        if match.end() > match.start() and depth[match.start()] == 0:
            parts.append(text[start : match.start()].strip())
            start = match.end()
    return [*parts, text[start:].strip()]


def split_list(text: str) -> list[str]:
    """The items of a list; the comma of `1,234` separates nothing."""
    guarded = _THOUSANDS.sub(lambda m: m[0].replace(",", "\ue001"), text)
    parts = [part.replace("\ue001", ",") for part in split_top(guarded, _LIST)]
    if len(parts) > 1:
        parts[0] = re.sub(r"^either\s+", "", parts[0], flags=re.IGNORECASE)
    return parts if all(parts) else [text]


def split_relation(text: str) -> tuple[list[str], list[str]]:
    """The signs of relation in order, and the sides between them (one more)."""
    depth = _depths(text)
    operators, sides, start = [], [], 0
    for match in _RELATION.finditer(text):
        if depth[match.start(1)] == 0:
            operators.append(match[1])
            sides.append(text[start : match.start()].strip())
            start = match.end()
    return operators, [*sides, text[start:].strip()]


def closing_of(text: str) -> int:
    """Where the bracket that `text` begins with closes; -1 if it does not.

    Brackets need not match in kind: `[1, 2)` is one pair.
    """
    depth = 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if depth == 0 and c in ")]}":
            return i
    return -1


def _depths(text: str) -> list[int]:
    """How many brackets are open before each character, and at the end; never below 0."""
    depths, depth = [], 0
    for c in text:
        depths.append(depth)
        depth = max(0, depth + (c in "([{") - (c in ")]}"))
    return [*depths, depth]
