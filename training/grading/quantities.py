r"""Exact rational numbers and their units, as an answer may write them.

    >>> read_number("1 1/2").value
    Fraction(3, 2)
    >>> read_number("2.3 billion").value
    Fraction(2300000000, 1)
    >>> find_unit("square centimetres") == find_unit("cm^2")
    True

Everything here is exact unless a tolerance is given. Number words (magnitudes, fractions, dozens) are part of the
number. After a number only a known unit or a plain noun in the plural may stand ("red circles"), and a noun equals
only itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

MAX_NUMBER_CHARS = 400
MAX_POWER_OF_TEN = 40


@dataclass(frozen=True)
class Unit:
    """The measured dimension, and how many of the base unit one of this unit is."""

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

# Units -----------------------------------------------------------------------------------------------------------

_SYMBOLS: dict[str, tuple[str, str]] = {
    # spellings whose case counts: (base units, how many of them)
    "N": ("g m s-2", "1000"),
    "kN": ("g m s-2", "1000000"),
    "J": ("g m2 s-2", "1000"),
    "kJ": ("g m2 s-2", "1000000"),
    "MJ": ("g m2 s-2", "1000000000"),
    "W": ("g m2 s-3", "1000"),
    "mW": ("g m2 s-3", "1"),
    "kW": ("g m2 s-3", "1000000"),
    "MW": ("g m2 s-3", "1000000000"),
    "kWh Wh": ("g m2 s-2", "3600000000"),
    "Pa": ("g m-1 s-2", "1000"),
    "hPa": ("g m-1 s-2", "100000"),
    "kPa": ("g m-1 s-2", "1000000"),
    "MPa": ("g m-1 s-2", "1000000000"),
    "A": ("A", "1"),
    "mA": ("A", "1/1000"),
    "V": ("V", "1"),
    "mV": ("V", "1/1000"),
    "kV": ("V", "1000"),
    "Ω": ("Ω", "1"),
    "kΩ": ("Ω", "1000"),
    "C": ("C", "1"),
    "F": ("F", "1"),
    "H": ("H", "1"),
    "T": ("T", "1"),
    "Wb": ("Wb", "1"),
    "K": ("K", "1"),
    "Hz": ("s-1", "1"),
    "kHz": ("s-1", "1000"),
    "MHz": ("s-1", "1000000"),
    "GHz": ("s-1", "1000000000"),
    "Mm": ("m", "1000000"),
    "Mg": ("g", "1000000"),
    "L": ("m3", "1/1000"),
    "mL": ("m3", "1/1000000"),
}
_NAMES: dict[str, tuple[str, str]] = {
    # spellings in lower case: (base units, how many of them)
    "nm nanometer nanometre": ("m", "1/1000000000"),
    "μm um micrometer micrometre micron": ("m", "1/1000000"),
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
    "tonne": ("g", "1000000"),
    "lb pound": ("g", "453.59237"),
    "oz ounce": ("g", "28.349523125"),
    "ns nanosecond": ("s", "1/1000000000"),
    "ms millisecond": ("s", "1/1000"),
    "s sec second": ("s", "1"),
    "min minute": ("s", "60"),
    "h hr hour": ("s", "3600"),
    "day": ("s", "86400"),
    "week": ("s", "604800"),
    "month": ("month", "1"),
    "year yr year-old": ("month", "12"),
    "decade": ("month", "120"),
    "century": ("month", "1200"),
    "l liter litre": ("m3", "1/1000"),
    "ml milliliter millilitre": ("m3", "1/1000000"),
    "acre": ("m2", "4046.8564224"),
    "hectare ha": ("m2", "10000"),
    "newton": ("g m s-2", "1000"),
    "joule": ("g m2 s-2", "1000"),
    "kilojoule": ("g m2 s-2", "1000000"),
    "watt": ("g m2 s-3", "1000"),
    "kilowatt": ("g m2 s-3", "1000000"),
    "pascal": ("g m-1 s-2", "1000"),
    "kilopascal": ("g m-1 s-2", "1000000"),
    "atm atmosphere": ("g m-1 s-2", "101325000"),
    "volt": ("V", "1"),
    "amp ampere": ("A", "1"),
    "ohm": ("Ω", "1"),
    "coulomb": ("C", "1"),
    "farad": ("F", "1"),
    "tesla": ("T", "1"),
    "kelvin": ("K", "1"),
    "hertz hz": ("s-1", "1"),
    "mol mole": ("mol", "1"),
    "cal calorie": ("cal", "1"),
    "kcal kilocalorie": ("cal", "1000"),
    "ev": ("eV", "1"),
    "$ dollar usd": ("$", "1"),
    "¢ cent": ("$", "1/100"),
    "€ euro eur": ("€", "1"),
    "£ gbp": ("£", "1"),
    "¥": ("¥", "1"),
    "yen jpy": ("yen", "1"),
    "yuan rmb cny": ("yuan", "1"),
    "₹ rupee inr": ("₹", "1"),
    "₩ won": ("₩", "1"),
    "% percent pct percentage": ("%", "1"),
    "° degree deg": ("°", "1"),
    "°c celsius": ("°c", "1"),
    "°f fahrenheit": ("°f", "1"),
    "rad radian": ("rad", "1"),
}
_TRAILING = r"\s+(?:in total|altogether|in all|left|long|tall|wide|high|deep|away|each)$"
_SPECIAL: list[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern, re.IGNORECASE), plain)
    for pattern, plain in [
        (r"per cent\b", "percent"),
        (r"(?:degrees?|deg|°)\s*(?:celsius|c)\b", "°c"),
        (r"(?:degrees?|deg|°)\s*(?:fahrenheit|f)\b", "°f"),
        (r"\b(?:mph|miles? an hour)\b", "mi/h"),
        (r"\b(?:kph|kmh|kmph)\b", "km/h"),
        (r"\bmps\b", "m/s"),
        (r"\byears?[- ]old\b|\byears? of age\b", "years"),
        (r"\bsquared\b", "^2"),
        (r"\bcubed\b", "^3"),
        (r"(?<=[a-zA-Z0-9])\s*(?:\\cdot(?![a-z])|\*)\s*(?=[a-zA-Z])", " "),
        (r"\s+per\s+", "/"),
        (_TRAILING, ""),
    ]
]
_Dimensions = tuple[tuple[str, int], ...]


def _table(rows: dict[str, tuple[str, str]]) -> dict[str, tuple[_Dimensions, Fraction]]:
    table: dict[str, tuple[_Dimensions, Fraction]] = {}
    for names, (bases, factor) in rows.items():
        dimensions = tuple(
            (m[1], int(m[2] or 1)) for m in map(re.compile(r"(.+?)(-?\d)?").fullmatch, bases.split()) if m
        )
        table |= {name: (dimensions, Fraction(factor)) for name in names.split()}
    return table


_BY_SYMBOL, _BY_NAME = _table(_SYMBOLS), _table(_NAMES)
_BASES = {base for dimensions, _ in (*_BY_SYMBOL.values(), *_BY_NAME.values()) for base, _ in dimensions}
_FACTOR = re.compile(
    r"(?:(square|sq|cubic|cu)\.? ?)?([^\s^./0-9]+?)\.?(?: ?\^ ?(-?[1-3])|([23]))?(?: |$)", re.IGNORECASE
)
_NOUN = r"[a-z][a-z'-]{2,20}"
_COUNTED = re.compile(rf"{_NOUN}(?: {_NOUN}){{0,2}}")
_NO_NOUNS = re.compile(
    r"\b(?:or|and|not|no|is|are|was|if|but|nor|either|neither|maybe|perhaps|probably|possibly|about|approximately|roughly|"
    r"nearly|almost|around|wait|least|most|more|less|fewer|lesser|than|otherwise|wrong|incorrect|false|times|plus|minus|"
    r"pi|sqrt|sin|cos|tan|log|versus|vs|unless|instead|to|except|without|added|doubled|halved|tripled|negative|positive|"
    r"inverse|inverses|below|above|under|over|point|basis|factorial|factorials|modulo|mod|remainder|remainders|comma|per|of|"
    r"by|multiplied|divided|followed|squared|cubed|powers?|roots?|logs?|reciprocals?|nope|hmm|lol|alternatively|also|minus|"
    r"actually|thus|because|since|for|as|from|with|digits|decimals|places|equals|percents|always|never|sometimes|yes|"
    r"exponents?|opposites?|negatives|squares? of|lots|else|besides|unknowns?|guess|guesses|wrongs|"
    r"versions?|choices|options|answers|trios|triples|doubles|tops|lies)\b"
)
_PLURALS = {
    **{"people": "person", "persons": "person", "kids": "child", "children": "child", "men": "man", "women": "woman"},
    **{"mice": "mouse", "geese": "goose", "teeth": "tooth", "feet": "foot", "fish": "fish", "sheep": "sheep"},
    **{"deer": "deer", "dice": "die", "oxen": "ox", "vertices": "vertex", "axes": "axis", "leaves": "leaf"},
    **{
        "knives": "knife",
        "wolves": "wolf",
        "shelves": "shelf",
        "loaves": "loaf",
        "cacti": "cactus",
        "aircraft": "aircraft",
    },
}


def singular(word: str) -> str:
    """An English noun in the singular, by rule; other words may change too, so compare both sides in this form.

    >>> singular("boxes"), singular("cats"), singular("children"), singular("glass")
    ('box', 'cat', 'child', 'glass')
    """
    if word in _PLURALS:
        return _PLURALS[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("xes", "ches", "shes", "sses", "oes", "zes")):
        return word[:-2]
    return word[:-1] if len(word) > 2 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


@lru_cache(maxsize=1024)
def find_unit(text: str) -> Unit | None:
    """The unit that `text` (what follows a number, cleaned) names; `NO_UNIT` for "", `None` if it can be none."""
    if not text.strip():
        return NO_UNIT
    text = re.sub(r"[{}]", "", text).replace("\\text", " ").replace("\\mu ", "μ").strip().rstrip(".").strip()
    for pattern, plain in _SPECIAL:
        text = pattern.sub(plain, text)
    text = re.sub(r"\s*/\s*", "/", re.sub(r"\s+", " ", text)).strip()
    if not text:
        return NO_UNIT
    top, slash, bottom = text.partition("/")
    below = _product(bottom)
    if (above := _product(top)) and (below or not slash):
        exponents = dict(above[0])
        for base, exponent in below[0] if below else ():
            exponents[base] = exponents.get(base, 0) - exponent
        factor = above[1] / below[1] if below else above[1]
        parts = sorted((base, exponent) for base, exponent in exponents.items() if exponent)
        return Unit(" ".join(base if n == 1 else f"{base}^{n}" for base, n in parts), factor) if parts else None
    if slash:
        return None
    text = text.lower()
    if _NO_NOUNS.search(text) or not _COUNTED.fullmatch(text) or any(map(is_number_word, re.split("[ -]", text))):
        return None
    first, _, last = text.rpartition(" ")
    return Unit(f"{first} {singular(last)}".strip())


def _product(text: str) -> tuple[_Dimensions, Fraction] | None:
    """Units of the table side by side, each perhaps with a power, as exponents of the base units."""
    exponents: dict[str, int] = {}
    factor, position = Fraction(1), 0
    while position < len(text):
        match = _FACTOR.match(text, position)
        if match is None or (match[1] and (match[3] or match[4])):
            return None
        name = match[2]
        lower = name.lower() if len(name) > 1 else name
        entry = _BY_SYMBOL.get(name) or _BY_NAME.get(lower) or _BY_NAME.get(singular(lower))
        power = {"sq": 2, "cu": 3}.get((match[1] or "")[:2].lower(), int(match[3] or match[4] or 1))
        if entry is None or not power or ((match[1] or match[4]) and entry[0] not in ((("m", 1),), (("unit", 1),))):
            return None
        for base, exponent in entry[0]:
            exponents[base] = exponents.get(base, 0) + exponent * power
        factor *= entry[1] ** power
        position = match.end()
    return (tuple(exponents.items()), factor) if exponents else None


def is_standard(unit: Unit) -> bool:
    """True if a unit is made of the table's, so that it may stand at once after its number (`24cm`)."""
    return all(part.partition("^")[0] in _BASES for part in unit.dimension.split())


def same_quantity(
    gold: Fraction, gold_unit: Unit, answer: Fraction, unit: Unit, tolerance: Fraction = Fraction(0)
) -> bool:
    """True if two quantities are the same: a unit may be left out or added; 50 % is 0.5 as well as 50.

    `tolerance` is the error that the answer may have, relative to the gold.

    >>> same_quantity(Fraction(1), find_unit("m"), Fraction(100), find_unit("cm"))
    True
    """
    if NO_UNIT in (gold_unit, unit):
        if _near(gold, answer, tolerance):
            return True
        if PERCENT in (gold_unit, unit):
            return _near(gold, answer / 100, tolerance) if unit == PERCENT else _near(gold / 100, answer, tolerance)
        return False
    return same_dimension(gold_unit, unit) and _near(gold * gold_unit.factor, answer * unit.factor, tolerance)


def _near(gold: Fraction, answer: Fraction, tolerance: Fraction) -> bool:
    return gold == answer or (tolerance > 0 and abs(gold - answer) <= tolerance * abs(gold))


def same_dimension(gold: Unit, answer: Unit) -> bool:
    """True if the two measure the same; one may say more exactly what it counts ("circles", "red circles").

    A bare ¥ may be yen or yuan, which differ.
    """
    one, other = gold.dimension, answer.dimension
    if "¥" in (one, other):
        return {one, other} <= {"¥", "yen", "yuan"}
    if is_standard(gold) or is_standard(answer):
        return one == other
    return one == other or one.endswith(" " + other) or other.endswith(" " + one)


# Numbers ---------------------------------------------------------------------------------------------------------

_INTEGER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[1-9][0-9]{0,2}(?: [0-9]{3})+(?![0-9/])|[0-9]+)"
_FRACTION = (
    rf"(?:\\frac\s*\{{\s*(?P<top_sign>[-+]?)\s*(?P<top>{_INTEGER})\s*\}}\s*\{{\s*(?P<bottom>{_INTEGER})\s*\}}"
    r"|(?P<slash_top>[0-9,]+)\s*/\s*(?P<slash_bottom>[0-9,]+))"
)
_MONEY = r"US\$|[$€£¥₹₩]"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s*(?P<money>{_MONEY})?\s*(?P<inner_sign>-?)(?:"
    rf"(?P<whole>{_INTEGER})(?:\s+(?:and\s+)?|\s*(?=\\frac)){_FRACTION}"
    rf"|{_FRACTION.replace('?P<', '?P<only_')}"
    rf"|(?P<before>{_INTEGER})?\.(?P<fixed>[0-9]*)\\(?:overline|bar|dot)\s*\{{?(?P<repeat>[0-9]+)\}}?"
    rf"|(?P<comma>[0-9]{{1,3}}(?:\.[0-9]{{3}})+,[0-9]+|[0-9]+,[0-9]{{1,2}}(?=\s*(?:[€£₹%°]|(?:cm|mm|km|kg|ml|m|g|l|euros?)\b)))"
    rf"|(?P<decimal>{_INTEGER}?\.[0-9]+|{_INTEGER}\.?)"
    rf"(?:\s*(?:\\times|\\cdot|[x*])\s*10\s*\^\s*\{{?\s*(?P<power>[-+]?[0-9]{{1,2}})(?:\s*\}})?|[eE](?P<e>[-+]?[0-9]{{1,2}}))?"
    rf")(?P<unit>(?![0-9/^.,\\]).*)"
)
PLAIN_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?", re.ASCII)
_SMALL = {
    word: i
    for i, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split()
    )
}
_TENS = dict(zip("twenty thirty forty fifty sixty seventy eighty ninety".split(), range(20, 100, 10)))
_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "quadrillion": 10**15}
_SETS = {
    "dozen": 12,
    "score": 20,
    "gross": 144,
    "lakh": 10**5,
    "crore": 10**7,
    "pair": 2,
    "couple": 2,
    "bn": 10**9,
    "mn": 10**6,
}
_PARTS = {
    word: n
    for n, word in enumerate("half third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split(), 2)
} | {"quarter": 4, "halve": 2, "hundredth": 100, "thousandth": 1000, "millionth": 10**6, "twentieth": 20}
_ORDINALS = re.compile(r"([0-9]+) ?(?:st|nd|rd|th)")
_WHOLE_PHRASES: dict[str, int | Fraction] = {
    "none": 0,
    "a single one": 1,
    "a pair": 2,
    "a couple": 2,
    "half": Fraction(1, 2),
    "nil": 0,
}
_COMPOUND = re.compile(r"([0-9.,]+) ?([a-zA-Z]+)\.?(?:,? and |, | |)(?=[0-9])|([0-9.,]+) ?([a-zA-Z]+)\.?$")
_FEET = re.compile(r"([0-9]+) ?(?:'|ft|feet|foot) ?([0-9]+(?:\.[0-9]+)?) ?(?:\"|''|in|inches)?")
_CHINESE_DIGITS = dict(zip("零〇一二两三四五六七八九", (0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9)))
_CHINESE_UNITS = {
    **dict.fromkeys("个 只 条 本 人 名 位 张 件 朵 棵 辆 块 支 枝 头 匹 座 间 种 次 页 颗 根 片 把 杯 双".split(), ""),
    **{
        "厘米": "cm",
        "毫米": "mm",
        "分米": "dm",
        "米": "m",
        "千米": "km",
        "公里": "km",
        "克": "g",
        "千克": "kg",
        "公斤": "kg",
    },
    **{
        "平方厘米": "cm^2",
        "平方米": "m^2",
        "平方分米": "dm^2",
        "立方厘米": "cm^3",
        "立方米": "m^3",
        "升": "l",
        "毫升": "ml",
    },
    **{
        "度": "°",
        "岁": "years",
        "年": "years",
        "月": "months",
        "天": "days",
        "小时": "hours",
        "分钟": "min",
        "秒": "s",
    },
    **{"元": "yuan", "美元": "$", "日元": "yen", "": ""},
}
_CHINESE = re.compile(
    r"(?:一?共有?|总共|有)?([0-9]+(?:\.[0-9]+)?|[零〇一二两三四五六七八九十百千]+)([万亿]?) ?([^0-9 ]{0,4})"
)


def is_number_word(word: str) -> bool:
    """True for `two`, `twenty`, `hundred`, `million`, `dozen`, `tenths`, …"""
    word = word.lower()
    forms = (word, word[:-1] if word.endswith("s") else word, singular(word))
    if word in ("third", "second", "quarter", "quarters", "score", "couple", "pairs", "pair"):
        return word not in ("second",)
    return any(f in _SMALL or f in _TENS or f in _LARGE or f in _SETS or f in _PARTS or f == "hundred" for f in forms)


def read_number(text: str) -> Quantity | None:
    """The number and unit that a clean answer is, or `None`.

    Takes integers with or without thousands separators, decimals, repeating decimals, fractions, mixed numbers,
    powers of ten, percent, money, units, two units (`2 h 30 min`), number words and Chinese numbers.
    """
    if len(text) > MAX_NUMBER_CHARS:
        return None
    if PLAIN_NUMBER.fullmatch(text):
        return Quantity(Fraction(text), NO_UNIT)
    text = re.sub(r"^(?:negative|minus) (?=[0-9.])", "-", text)
    match = _NUMBER.fullmatch(text)
    if match is None:
        return _in_words(text) or _chinese(text) or _feet(text)
    value = _value(match)
    negative = (match["sign"] == "-") != (match["inner_sign"] == "-")
    if value is None:
        return None
    following = match["unit"]
    spelled = _following_words(following) if value is not None else None
    if spelled is not None:
        factor, addend, following = spelled
        value = value * factor + addend
    unit = unit_after(following, value, match["money"])
    if unit is None:
        return _compound(text) or _feet(text) or _chinese(text)
    return Quantity(-value if negative else value, unit)


def unit_after(following: str, value: Fraction = Fraction(2), money: str | None = None) -> Unit | None:
    """The unit after a number; `None` where that is none, where a noun is not in the plural, or letters run on."""
    if money:
        return find_unit(money.removeprefix("US")) if following.strip().lower() in ("", "dollars", "euros") else None
    unit = find_unit(following)
    if unit is None or unit == NO_UNIT or is_standard(unit):
        return None if re.fullmatch(r"[A-Z]", following) and following not in ("N", "J", "W", "V") else unit
    last = unit.dimension and re.sub(_TRAILING, "", following.strip(" .").lower()).rpartition(" ")[2]
    is_plural = last in _PLURALS or (last.endswith("s") and singular(last) != last)
    return unit if following[:1] == " " and (is_plural or abs(value) == 1) else None


def _following_words(text: str) -> tuple[int | Fraction, Fraction, str] | None:
    """`million`, `dozen`, `tenths` or `and a half` after a number in digits: factor, addend and what follows."""
    match = re.match(r"[ -](?:(and a half)|([a-z]+?)s?)(?=$|[ .])(.*)", text, re.IGNORECASE)
    if match is None:
        return None
    if match[1]:
        return 1, Fraction(1, 2), match[3]
    word = match[2].lower()
    if factor := _LARGE.get(word) or _SETS.get(word) or (100 if word == "hundred" else 0):
        return factor, Fraction(0), match[3]
    return (Fraction(1, _PARTS[word]), Fraction(0), match[3]) if word in _PARTS else None


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
    if match["comma"]:
        return Fraction(match["comma"].replace(".", "").replace(",", "."))
    power = int(match["power"] or match["e"] or 0)
    if abs(power) > MAX_POWER_OF_TEN:
        return None
    return Fraction(match["decimal"].replace(",", "").replace(" ", "").rstrip(".")) * Fraction(10) ** power


def _quotient(top: str, bottom: str) -> Fraction | None:
    if not re.fullmatch(_INTEGER, top) or not re.fullmatch(_INTEGER, bottom):
        return None
    below = _int(bottom)
    return Fraction(_int(top), below) if below else None


def _int(digits: str) -> int:
    return int(re.sub("[, ]", "", digits))


def _in_words(text: str) -> Quantity | None:
    """`four`, `twenty-four red circles`, `three quarters`, `two and a half`, `three point one four`, `half`."""
    lower = text.lower()
    if lower in _WHOLE_PHRASES:
        return Quantity(Fraction(_WHOLE_PHRASES[lower]), NO_UNIT)
    words = re.findall(r"[a-z]+|[^a-z ]", lower.replace("-", " "))
    sign = -1 if words[:1] in (["minus"], ["negative"]) else 1
    words = words[1:] if sign < 0 else words
    value, num_words = _spelled(words)
    if value is None:
        return None
    rest = words[num_words:]
    if any(map(is_number_word, rest)) or rest[:1] == ["and"]:
        return None
    match = re.fullmatch(rf"(?:[a-z]+[ -]+){{{num_words - 1 + (sign < 0)}}}[a-z]+(.*)", lower)
    following = match[1] if match else None
    unit = unit_after(following, value) if following is not None else None
    if unit is not None and following and following[:1] not in (" ", ""):
        return None
    return Quantity(sign * value, unit) if unit is not None else None


def _spelled(words: list[str]) -> tuple[Fraction | None, int]:
    """The number that the first words spell, and how many words it takes."""
    total, part, i, has_digit = Fraction(0), Fraction(0), 0, False
    if words[:1] in (["a"], ["an"]) and len(words) > 1:
        if words[1] in _PARTS and words[1] != "second":
            return Fraction(1, _PARTS[words[1]]), 2
        if words[1] not in _SETS and words[1] not in _LARGE and words[1] != "hundred":
            return None, 0
        part, i, has_digit = Fraction(1), 1, True
    while i < len(words):
        word = words[i]
        bare = word[:-1] if word.endswith("s") and word not in _SMALL else word
        if word in _TENS and part % 100 == 0:
            part += _TENS[word]
            if i + 1 < len(words) and 0 < _SMALL.get(words[i + 1], 0) < 10:
                part += _SMALL[words[i + 1]]
                i += 1
        elif word in _SMALL and part % 100 == 0 and (not has_digit or part or total):
            part += _SMALL[word]
        elif bare == "hundred" and 0 < part < 100:
            part *= 100
        elif has_digit and (factor := _LARGE.get(bare) or _SETS.get(bare)) and part:
            total, part = total + part * factor, Fraction(0)
        elif has_digit and part and bare in _PARTS:
            return total + part / _PARTS[bare], i + 1
        elif has_digit and word == "point" and i + 1 < len(words) and _SMALL.get(words[i + 1], 10) < 10:
            digits = ""
            while i + 1 < len(words) and _SMALL.get(words[i + 1], 10) < 10:
                digits, i = digits + str(_SMALL[words[i + 1]]), i + 1
            return total + part + Fraction(int(digits), 10 ** len(digits)), i + 1
        elif has_digit and word == "and" and words[i + 1 : i + 3] == ["a", "half"]:
            return total + part + Fraction(1, 2), i + 3
        elif has_digit and word == "and" and i + 2 < len(words) and words[i + 1] in _SMALL:
            name = words[i + 2][:-1] if words[i + 2].endswith("s") else words[i + 2]
            if name in _PARTS:
                return total + part + Fraction(_SMALL[words[i + 1]], _PARTS[name]), i + 3
            if part % 100 or not part + total:
                break
        elif (
            has_digit
            and word == "and"
            and i + 1 < len(words)
            and part
            and part % 100 == 0
            and words[i + 1] in _SMALL | _TENS
        ):
            pass
        else:
            break
        has_digit, i = True, i + 1
    return (total + part, i) if has_digit else (None, 0)


def _compound(text: str) -> Quantity | None:
    """`2 h 30 min`, `1 m 20 cm`: units of one dimension, each smaller than the one before."""
    total, position = Fraction(0), 0
    units: list[Unit] = []
    while position < len(text):
        match = _COMPOUND.match(text, position)
        if match is None or len(units) > 3:
            return None
        number, unit = _plain(match[1] or match[3]), find_unit(match[2] or match[4])
        if number is None or not unit or unit == NO_UNIT or not is_standard(unit):
            return None
        if units and (units[-1].dimension != unit.dimension or units[-1].factor <= unit.factor):
            return None
        units.append(unit)
        total, position = total + number * unit.factor, match.end()
    return Quantity(total / units[-1].factor, units[-1]) if len(units) > 1 else None


def _feet(text: str) -> Quantity | None:
    match = _FEET.fullmatch(text)
    inch = find_unit("in")
    if match is None or inch is None:
        return None
    return Quantity(int(match[1]) * 12 + Fraction(match[2]), inch)


def _plain(digits: str) -> Fraction | None:
    return Fraction(digits.replace(",", "")) if re.fullmatch(rf"{_INTEGER}|{_INTEGER}?\.[0-9]+", digits) else None


def _chinese(text: str) -> Quantity | None:
    """`十二`, `三十五个`, `7个`, `12厘米`, `3万`."""
    match = _CHINESE.fullmatch(text)
    if match is None or match[3] not in _CHINESE_UNITS:
        return None
    value = Fraction(match[1]) if match[1][0].isdigit() else _chinese_value(match[1])
    unit = find_unit(_CHINESE_UNITS[match[3]])
    if value is None or unit is None:
        return None
    return Quantity(value * {"": 1, "万": 10**4, "亿": 10**8}[match[2]], unit)


def _chinese_value(text: str) -> Fraction | None:
    total, digit = 0, None
    for c in text:
        if c in "十百千":
            total += (1 if digit is None else digit) * {"十": 10, "百": 100, "千": 1000}[c]
            digit = None
        elif digit is not None and digit != 0:
            return None
        else:
            digit = _CHINESE_DIGITS[c]
    return Fraction(total + (digit or 0))
