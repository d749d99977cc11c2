"""What kind of answer a gold is: a choice letter, an integer, a fraction, words, …

    >>> answer_kind("\\\\frac{3}{4}")
    'fraction'

For tables by kind only: the grader decides for itself how to compare.
"""

from __future__ import annotations

import re

from training.grading.grader import boxed

KINDS = (
    "letter",
    "yes/no",
    "integer",
    "decimal",
    "fraction",
    "percent",
    "degrees",
    "quantity",
    "equation",
    "several values",
    "expression",
    "words",
    "empty",
)
"""All of them, in the order in which tables show them."""
MAX_CHARS = 2_000
"""Only so much of a gold is looked at."""

_NUMBER = r"[-+]?\s*(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?"
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("letter", r"\(?[A-H]\)?[.:]?|(?:choice|option)\s+\(?[A-H]\)?|\(?[A-H][).:]\s.*"),
        ("yes/no", r"yes|no|true|false"),
        ("integer", r"[-+]?\s*(?:\d{1,3}(?:,\d{3})+|\d+)"),
        ("decimal", r"[-+]?\s*(?:\d{1,3}(?:,\d{3})+|\d+)?\.\d+"),
        ("fraction", r"[-+]?\s*(?:\d+\s+)?\d+\s*/\s*\d+|[-+]?\s*\d*\s*\\[dt]?frac\s*\{\d+\}\s*\{\d+\}"),
        ("percent", rf"{_NUMBER}\s*(?:\\?%|percent)"),
        ("degrees", rf"{_NUMBER}\s*(?:°|\^\s*\{{?\s*\\circ\s*\}}?|degrees?)"),
        ("quantity", rf"(?:[$€£]|\\\$)\s*(?=\.?\d){_NUMBER}"),
        ("quantity", rf"(?=[-+\s]*\.?\d){_NUMBER}(?:\s+|(?![xyzabn]\b))[a-zµ]{{1,12}}(?:[²³]|\^?\{{?[23]\}}?)?"),
    )
)
_RELATION = re.compile(r"[=<>≤≥]|\\(?:le|ge|neq|leq|geq)(?![a-z])")
_FORMULA = re.compile(
    r"\\[a-zA-Z]+|[√π]|[a-zA-Z0-9)]\s*[\^/*+]\s*[a-zA-Z0-9(]|\d\s*-\s*\w|^-?\d*[a-zA-Z]$|^\d+[a-zA-Z]\w*$"
)


def answer_kind(gold: str) -> str:
    """One of `KINDS`; what no rule knows is words."""
    text = _plain(gold[:MAX_CHARS])
    if not text:
        return "empty"
    for kind, pattern in _RULES:
        if pattern.fullmatch(text):
            return kind
    if _is_several(text):
        return "several values"
    if _RELATION.search(text):
        return "equation"
    return "expression" if _FORMULA.search(text) else "words"


def _is_several(text: str) -> bool:
    """Values side by side: `(1, 2)`, `3, 4`, `{a, b}`, `3:4`; not an equation with commas."""
    if text[0] in "([{" and text[-1] in ")]}" and "," in text:
        return True
    parts = re.split("[,;:]", text)
    return len(parts) > 1 and not _RELATION.search(text) and all(re.search(r"\d", part) for part in parts)


def _plain(text: str) -> str:
    """On one line, without dollar signs around it, `\\boxed` and `\\text`."""
    text = text.strip()
    text = (boxed(text) if text.count("\\boxed{") == 1 else None) or text
    if len(text) > 2 and text[0] == text[-1] == "$":
        text = text.strip("$")
    text = re.sub(r"\\(?:text|mathrm)\s*\{([^{}]*)\}", r" \1 ", text)
    text = re.sub(r"\s+", " ", text).strip()
    return text[:-1] if text.endswith(".") and len(text) > 2 else text
