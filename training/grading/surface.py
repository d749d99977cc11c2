"""Dates, times, ranges, sizes and the like, which are compared as they are written and never worked out.

>>> read_surface("2:30") == read_surface("half past two")
True
>>> read_surface("5 March 2019") == read_surface("2019-03-05")
True
"""

from __future__ import annotations

import re

from training.grading.answers import Literal, Range, Size, Time
from training.grading.quantities import NO_UNIT, PLAIN_NUMBER, Quantity, is_number_word, is_standard, read_number

_CLOCK = re.compile(
    r"([0-9]{1,2}) ?: ?([0-5][0-9])(?: ?: ?([0-5][0-9]))? ?(?:(a|p)\.? ?m\.?|hours|h|o'clock)?", re.IGNORECASE
)
_HOUR = re.compile(r"([0-9]{1,2}) ?(?:(a|p)\.? ?m\.?|(o'clock)(?: ?(a|p)\.?m\.?)?)", re.IGNORECASE)
_PAST = re.compile(
    r"(half|(?:a )?quarter|[a-z0-9-]+)(?: minutes?)? (past|to|after) ([a-z0-9]+)(?: o'clock)?", re.IGNORECASE
)
_O_CLOCK = re.compile(r"([a-z]+) o'clock", re.IGNORECASE)
_MONTHS = "january february march april may june july august september october november december".split()
_DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
_MONTH = rf"({'|'.join(f'{month}|{month[:3]}' for month in _MONTHS)}|sept)\.?"
_DATES = [
    (re.compile(pattern, re.IGNORECASE), order)
    for pattern, order in [
        (rf"{_MONTH} ([0-9]{{1,2}})(?:st|nd|rd|th)?(?:,? ([0-9]{{4}}))?", "mdy"),
        (rf"(?:the )?([0-9]{{1,2}})(?:st|nd|rd|th)?(?: of)? {_MONTH}(?:,? ([0-9]{{4}}))?", "dmy"),
        (rf"{_MONTH}(?:,? ([0-9]{{4}}))?", "my"),
        (r"([0-9]{4})[-/.]([0-9]{1,2})[-/.]([0-9]{1,2})", "yMd"),
        (r"([0-9]{4})年([0-9]{1,2})月([0-9]{1,2})[日号]", "yMd"),
    ]
]
_NUMERIC_DATE = re.compile(r"([0-9]{1,2})([-/.])([0-9]{1,2})\2([0-9]{4})")
_NUMBER = r"[$€£¥]?[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?"
_UNIT = r"(?: ?(?:[a-zA-Z%°$€£¥²³^][a-zA-Z0-9%°/^{}² ]*?))?"
_RANGE = re.compile(rf"(?:from )?({_NUMBER})({_UNIT}) ?(-|--|—|\bto\b|~|\\sim) ?({_NUMBER})({_UNIT})", re.IGNORECASE)
_BETWEEN = re.compile(rf"between ({_NUMBER})({_UNIT}) and ({_NUMBER})({_UNIT})", re.IGNORECASE)
_SIZE_MARK = re.compile(r" ?(?:\\times|\bby\b|x(?= ?[0-9])) ?")
_BASE = re.compile(
    r"\(?([0-9A-Fa-f]+)\)?(?:_\{? ?([0-9]{1,2}) ?\}?| ?(?:in |\()?base ([0-9]{1,2}|two|eight|ten|sixteen)\)?)"
)
_PREFIXED = re.compile(r"0(x[0-9a-f]+|b[01]+|o[0-7]+)", re.IGNORECASE)
_DECADE = re.compile(r"((?:1[5-9]|20)[0-9]0)s")
_ORDINAL = re.compile(r"([0-9]+) ?(?:st|nd|rd|th)(?: (?:place|floor|position))?", re.IGNORECASE)
_ORDINALS = "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
_DIGIT_GROUPS = re.compile(r"\+?\(?[0-9]+\)?(?:[- ][0-9]+){2,}|[0-9]+(?:-[0-9]+){2,}|[0-9]+(?:\.[0-9]+){2,}")

Surface = Literal | Time | Range | Size


def read_surface(text: str, is_ratio: bool = False) -> Surface | None:
    """The time, date, range, size, ordinal, or number in another base that a clean answer is.

    `is_ratio` says that a ratio is asked for, so that `3:20` is none of these.
    """
    if len(text) > 60 or PLAIN_NUMBER.fullmatch(text):
        return None
    readers = (_date, _time, _base, _ordinal, _range, _size, _digits)
    if not re.search(r"[0-9]|o'clock|past|noon|day|[a-z]{3}", text, re.IGNORECASE):
        return None
    return next((value for read in readers if (value := read(text)) and not (is_ratio and _is_bare(value))), None)


def _is_bare(value: Surface) -> bool:
    return (isinstance(value, Time) and not value.half) or (isinstance(value, Range) and value.is_spelled)


def _time(text: str) -> Time | None:
    lower = text.lower()
    if lower in ("noon", "midday"):
        return Time(12 * 3600, "pm")
    if lower == "midnight":
        return Time(12 * 3600, "am")
    if match := _CLOCK.fullmatch(text):
        hours, half = int(match[1]), (match[4] or "").lower()
        if hours > (12 if half else 24):
            return None
        return Time(hours * 3600 + int(match[2]) * 60 + int(match[3] or 0), half and half + "m")
    if match := _HOUR.fullmatch(text):
        half = (match[2] or match[4] or "").lower()
        return Time(int(match[1]) * 3600, half and half + "m") if int(match[1]) <= 24 else None
    if match := _O_CLOCK.fullmatch(text):
        hour = _small(match[1])
        return Time(hour * 3600) if hour else None
    match = _PAST.fullmatch(text)
    if match and (match[2].lower() == "past" or re.search("quarter|minutes|o'clock", lower)):
        part = match[1].lower().removeprefix("a ")
        minutes, hour = {"half": 30, "quarter": 15}.get(part) or _small(part), _small(match[3])
        if minutes is None or hour is None or not 1 <= hour <= 12 or not 1 <= minutes <= 59 or text[0].isdigit():
            return None
        return Time((hour * 60 + (-minutes if match[2].lower() == "to" else minutes)) * 60) if part.isalpha() else None
    return None


def _small(word: str) -> int | None:
    number = read_number(word)
    is_whole = number is not None and number.unit == NO_UNIT and number.value.denominator == 1
    return int(number.value) if number and is_whole and 0 <= number.value < 60 else None


def _date(text: str) -> Literal | None:
    lower = text.lower().rstrip(".")
    for day, name in enumerate(_DAYS):
        if lower in (name, name[:3]) and lower not in ("sun", "sat"):
            return Literal("weekday", str(day))
    if match := _DECADE.fullmatch(lower):
        return Literal("decade", match[1])
    for pattern, order in _DATES:
        if match := pattern.fullmatch(text):
            parts = dict(zip(order, match.groups()))
            month = int(parts["M"]) if "M" in parts else 1 + [m[:3] for m in _MONTHS].index(parts["m"][:3].lower())
            day_of_month = int(parts["d"]) if parts.get("d") else 0
            if not 1 <= month <= 12 or day_of_month > 31 or ("d" in order and not day_of_month):
                return None
            if order == "my" and not parts["y"] and lower in ("may", "mar", "march"):
                return Literal("month", str(month)) if text[:1].isupper() else None
            return Literal("date", f"{parts.get('y') or ''}-{month}-{day_of_month or ''}")
    if match := _NUMERIC_DATE.fullmatch(text):
        first, second, year = int(match[1]), int(match[3]), match[4]
        if first > 12 >= second:
            return Literal("date", f"{year}-{second}-{first}")
        if second > 12 >= first:
            return Literal("date", f"{year}-{first}-{second}")
        return Literal("numeric date", f"{first}/{second}/{year}")
    return None


def _base(text: str) -> Literal | None:
    if match := _PREFIXED.fullmatch(text):
        base = {"x": 16, "b": 2, "o": 8}[match[1][0].lower()]
        return Literal("base", f"{match[1][1:].upper().lstrip('0') or '0'}_{base}")
    match = _BASE.fullmatch(text)
    if match is None:
        return None
    name = match[2] or match[3]
    base = {"two": 2, "eight": 8, "ten": 10, "sixteen": 16}.get(name) or int(name)
    digits = match[1].upper().lstrip("0") or "0"
    return Literal("base", f"{digits}_{base}") if 2 <= base <= 36 and digits[0].isdigit() else None


def _ordinal(text: str) -> Literal | None:
    if match := _ORDINAL.fullmatch(text):
        return Literal("ordinal", str(int(match[1])))
    word = text.lower().removeprefix("the ")
    return Literal("ordinal", str(_ORDINALS.index(word))) if word in _ORDINALS else None


def _range(text: str) -> Range | None:
    match = _RANGE.fullmatch(text)
    if match:
        first, first_unit, mark, second, second_unit = match.groups()
    elif match := _BETWEEN.fullmatch(text):
        first, first_unit, second, second_unit = match.groups()
        mark = "-"
    elif (words := re.fullmatch(r"([a-z]+) to ([a-z]+)", text.lower())) and all(map(is_number_word, words.groups())):
        first, first_unit, mark, second, second_unit = words[1], "", "to", words[2], ""
    else:
        return None
    low, high = read_number(f"{first}{first_unit}".strip()), read_number(f"{second}{second_unit}".strip())
    if low is None or high is None or (low.unit not in (NO_UNIT, high.unit) and high.unit != NO_UNIT):
        return None
    unit = high.unit if high.unit != NO_UNIT else low.unit
    return Range(low.value, high.value, unit, mark.lower() == "to" and unit == NO_UNIT)


def _size(text: str) -> Size | None:
    parts = _SIZE_MARK.split(text)
    if not 2 <= len(parts) <= 3 or re.search(r"10 ?\^", text):
        return None
    lengths = [read_number(part.strip()) for part in parts]
    if not all(
        length and length.value > 0 and is_standard(length.unit) and part[:1] != "("
        for length, part in zip(lengths, parts)
    ):
        return None
    units = [length.unit for length in lengths if length]
    unit = next((unit for unit in units if unit != NO_UNIT), NO_UNIT)
    if any(each not in (NO_UNIT, unit) and each.dimension != unit.dimension for each in units):
        return None
    return Size(
        tuple(Quantity(length.value, length.unit if length.unit != NO_UNIT else unit) for length in lengths if length)
    )


def _digits(text: str) -> Literal | None:
    is_spaced_thousands = read_number(text) is not None
    return (
        Literal("digits", re.sub(r"[^0-9.]", "-", text))
        if _DIGIT_GROUPS.fullmatch(text) and not is_spaced_thousands
        else None
    )
