"""Exact rational numbers and their units, as an answer may write them.

    >>> read_number("1 1/2").value
    Fraction(3, 2)
    >>> find_unit("square centimetres") == find_unit("cm^2")
    True

Everything here is exact: no rounding, no tolerance. A unit that is not in the table may still count things ("red
circles"), and then equals only itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_NUMBER_CHARS = 120
MAX_POWER_OF_TEN = 40


@dataclass(frozen=True)
class Unit:
    """What is measured, and how many of the base unit one of this unit is."""

    dimension: str
    """`m^2` for every area, `%`, `$`, …; the unit's own name where the table does not know it."""
    factor: Fraction = Fraction(1)


@dataclass(frozen=True)
class Quantity:
    """An exact rational number, perhaps with a unit: `24`, `1 1/2`, `50 %`, `$5`."""

    value: Fraction
    unit: Unit


NO_UNIT = Unit("")
PERCENT = Unit("%")

_TABLE: dict[str, tuple[str, str]] = {
    # spellings: (dimension, how many base units)
    "mm millimeter millimetre": ("m", "1/1000"),
    "cm centimeter centimetre": ("m", "1/100"),
    "dm decimeter decimetre": ("m", "1/10"),
    "m meter metre": ("m", "1"),
    "km kilometer kilometre": ("m", "1000"),
    "in inch inche": ("m", "0.0254"),
    "ft foot feet": ("m", "0.3048"),
    "yd yard": ("m", "0.9144"),
    "mi mile": ("m", "1609.344"),
    "unit": ("unit", "1"),
    "mg milligram": ("g", "1/1000"),
    "g gram": ("g", "1"),
    "kg kilogram kilo": ("g", "1000"),
    "lb pound": ("g", "453.59237"),
    "oz ounce": ("g", "28.349523125"),
    "s sec second": ("s", "1"),
    "min minute": ("s", "60"),
    "h hr hour": ("s", "3600"),
    "day": ("s", "86400"),
    "week": ("s", "604800"),
    "l liter litre": ("m^3", "1/1000"),
    "ml milliliter millilitre": ("m^3", "1/1000000"),
    "$ dollar usd": ("$", "1"),
    "¢ cent": ("$", "1/100"),
    "€ euro eur": ("€", "1"),
    "£ gbp": ("£", "1"),
    "¥ yen yuan": ("¥", "1"),
    "% percent pct percentage": ("%", "1"),
    "° degree deg": ("°", "1"),
    "°c celsius": ("°c", "1"),
    "°f fahrenheit": ("°f", "1"),
    "mph": ("m/s", "0.44704"),
    "rad radian": ("rad", "1"),
}
_UNITS = {name: Unit(dimension, Fraction(f)) for names, (dimension, f) in _TABLE.items() for name in names.split()}
_DIMENSIONS = {"m", *(unit.dimension for unit in _UNITS.values())}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3, "squared": 2, "cubed": 3, "^2": 2, "^3": 3}
_POWERED = re.compile(r"(?:(square|sq|cubic|cu)\.? ?)?([^ ^./]+)\.?(?: ?(\^[23]|squared|cubed))?")
_COUNTED = re.compile(r"[a-z][a-z'-]{2,20}(?: [a-z][a-z'-]{2,20}){0,2}")
_NO_NOUNS = re.compile(
    r"\b(?:or|and|not|no|is|are|was|if|but|nor|either|maybe|perhaps|probably|possibly|about|approximately|roughly|"
    r"nearly|almost|around|wait|least|most|more|less|than|otherwise|wrong|incorrect|false|times|plus|minus|"
    r"squared|cubed|half|hundred|thousand|million|pi|sqrt|sin|cos|tan|log|versus|unless|instead|to)\b"
)
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


def find_unit(text: str) -> Unit | None:
    """The unit that `text` (what follows a number, cleaned) names; `NO_UNIT` for "", `None` if it can be none."""
    text = re.sub(r"[{}]", "", text.strip().lower()).rstrip(".").strip()
    text = re.sub(r"\s+", " ", text.replace("per cent", "percent"))
    if not text:
        return NO_UNIT
    top, slash, bottom = re.sub(r"\s+per\s+|\s*/\s*", "/", text, count=1).partition("/")
    unit = _powered(top)
    if slash:
        below = _powered(bottom)
        return Unit(f"{unit.dimension}/{below.dimension}", unit.factor / below.factor) if unit and below else None
    if unit or _NO_NOUNS.search(text):
        return unit
    return Unit(_singular(text)) if _COUNTED.fullmatch(text) else None


def is_standard(unit: Unit) -> bool:
    """Whether a unit is made of the table's, so that it may stand at once after its number (`24cm`)."""
    return all(part in _DIMENSIONS for part in re.split(r"\^[23]|/", unit.dimension) if part)


def _powered(text: str) -> Unit | None:
    """A unit of the table, perhaps squared or cubed."""
    match = _POWERED.fullmatch(text.strip())
    if match is None or (match[1] and match[3]):
        return None
    name = match[2]
    unit = _UNITS.get(name) or _UNITS.get(_singular(name))
    if unit is None or not (match[1] or match[3]):
        return unit
    if unit.dimension not in ("m", "unit"):
        return None
    power = _POWERS[match[1] or match[3]]
    return Unit(f"{unit.dimension}^{power}", unit.factor**power)


def _singular(text: str) -> str:
    return text[:-1] if len(text) > 2 and text.endswith("s") and not text.endswith("ss") else text


def same_quantity(gold: Fraction, gold_unit: Unit, answer: Fraction, unit: Unit) -> bool:
    """Whether two quantities are the same: a unit may be left out or added; 50 % is 0.5 as well as 50.

    >>> same_quantity(Fraction(1), find_unit("m"), Fraction(100), find_unit("cm"))
    True
    """
    if NO_UNIT in (gold_unit, unit):
        if gold == answer:
            return True
        if PERCENT in (gold_unit, unit):
            return gold == answer / 100 if unit == PERCENT else gold / 100 == answer
        return False
    return same_dimension(gold_unit, unit) and gold * gold_unit.factor == answer * unit.factor


def same_dimension(gold: Unit, answer: Unit) -> bool:
    """Whether the two measure the same; one may say more exactly what it counts ("circles", "red circles")."""
    one, other = gold.dimension, answer.dimension
    return one == other or one.endswith(" " + other) or other.endswith(" " + one)
