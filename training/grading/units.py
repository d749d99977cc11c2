"""Units of measurement as an answer may write them: names, powers, conversion.

    >>> find_unit("square centimetres") == find_unit("cm^2")
    True
    >>> find_unit("x") is None
    True

A unit that is not in the table may still count things ("red circles"), and then is equal only to itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Unit:
    """What is measured, and how many of the base unit one of this unit is."""

    dimension: str
    """`m^2` for every area, `%`, `$`, …; the unit's own name where the table does not know it."""
    factor: Fraction = Fraction(1)


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
