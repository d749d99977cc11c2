"""Exact rational numbers as an answer may write them.

    >>> read_number("1 1/2").value
    Fraction(3, 2)

Everything here is exact: no rounding, no tolerance.
"""

from __future__ import annotations

import re
from fractions import Fraction

from training.grading.answers import Quantity
from training.grading.units import find_unit, is_standard

MAX_NUMBER_CHARS = 120
MAX_POWER_OF_TEN = 40

_INTEGER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_FRACTION = (
    rf"(?:\\frac\s*\{{\s*(?P<top_sign>[-+]?)\s*(?P<top>{_INTEGER})\s*\}}\s*\{{\s*(?P<bottom>{_INTEGER})\s*\}}"
    rf"|(?P<slash_top>{_INTEGER})\s*/\s*(?P<slash_bottom>{_INTEGER}))"
)
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s*(?P<money>[$€£¥]|US\$)?\s*(?P<inner_sign>-?)(?:"
    rf"(?P<whole>{_INTEGER})(?:\s+|\s*(?=\\frac)){_FRACTION}"
    rf"|{_FRACTION.replace('?P<', '?P<only_')}"
    rf"|(?P<before>{_INTEGER})?\.(?P<fixed>[0-9]*)\\(?:overline|bar|dot)\s*\{{?(?P<repeat>[0-9]+)\}}?"
    rf"|(?P<decimal>{_INTEGER}?\.[0-9]+|{_INTEGER}\.?)"
    rf"(?:\s*(?:\\times|\\cdot)\s*10\s*\^\s*\{{?\s*(?P<power>[-+]?[0-9]{{1,2}})\s*\}}?|[eE](?P<e>[-+]?[0-9]{{1,2}}))?"
    rf")(?P<unit>(?![0-9/^.,\\]).*)"
)
_SPELLED = {
    word: i
    for i, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split()
    )
} | dict(zip("thirty forty fifty sixty seventy eighty ninety".split(), range(30, 100, 10)))
_IN_WORDS = re.compile(r"([a-z]+)(?:[- ]([a-z]+))?(?:\s+(.+))?", re.IGNORECASE)


def read_number(text: str) -> Quantity | None:
    """The number and unit that a clean answer is, or `None`.

    Takes integers with or without thousands separators, decimals, repeating decimals, fractions, mixed numbers,
    powers of ten, percent, money, units, and number words up to ninety-nine.
    """
    if len(text) > MAX_NUMBER_CHARS:
        return None
    match = _NUMBER.fullmatch(text)
    if match is None:
        return _in_words(text)
    value = _value(match)
    unit = find_unit(match["unit"] or match["money"] or "")
    if value is None or unit is None or (match["unit"].strip() and match["money"]) or _runs_on(match):
        return None
    negative = (match["sign"] == "-") != (match["inner_sign"] == "-")
    return Quantity(-value if negative else value, unit)


def _runs_on(match: re.Match[str]) -> bool:
    """True for `24xyz` and `5apples`: letters at once after a number must be a unit's own sign."""
    unit = find_unit(match["unit"])
    return match["unit"][:1].isalpha() and unit is not None and not is_standard(unit)


def _value(match: re.Match[str]) -> Fraction | None:
    """The value without its sign; `None` where it divides by 0 or is no proper mixed number."""
    if match["whole"]:
        part = _quotient(match["top"] or match["slash_top"], match["bottom"] or match["slash_bottom"])
        return _int(match["whole"]) + part if part is not None and part < 1 and not match["top_sign"] else None
    if match["only_top"] or match["only_slash_top"]:
        tops, bottoms = ("only_top", "only_slash_top"), ("only_bottom", "only_slash_bottom")
        value = _quotient(*(next(match[n] for n in names if match[n]) for names in (tops, bottoms)))
        return -value if value is not None and match["only_top_sign"] == "-" else value
    if match["repeat"]:
        fixed, repeat = match["fixed"], match["repeat"]
        start = Fraction(f"{_int(match['before'] or '0')}.{fixed or '0'}")
        return start + Fraction(int(repeat), (10 ** len(repeat) - 1) * 10 ** len(fixed))
    power = int(match["power"] or match["e"] or 0)
    if abs(power) > MAX_POWER_OF_TEN:
        return None
    return Fraction(match["decimal"].replace(",", "").rstrip(".")) * Fraction(10) ** power


def _quotient(top: str, bottom: str) -> Fraction | None:
    below = _int(bottom)
    return Fraction(_int(top), below) if below else None


def _int(digits: str) -> int:
    return int(digits.replace(",", ""))


def _in_words(text: str) -> Quantity | None:
    """`four`, `twenty-four`, `twenty four red circles`."""
    match = _IN_WORDS.fullmatch(text)
    first = _SPELLED.get(match[1].lower()) if match else None
    if match is None or first is None:
        return None
    second = _SPELLED.get((match[2] or "").lower())
    if second is not None and first >= 20 and first % 10 == 0 and 0 < second < 10:
        first, rest = first + second, match[3]
    else:
        rest = text[len(match[1]) :]
    following = re.match(r"-|\s*([a-z]+)", rest or "", re.IGNORECASE)
    if following and (following[1] or "").lower() in ("", *_SPELLED):  # a hyphen, or another number
        return None
    unit = find_unit(rest or "")
    return Quantity(Fraction(first), unit) if unit is not None else None
