"""Reads a clean answer (`training.grading.cleaning.clean`) as one of the kinds of `training.grading.answers`.

    >>> parse("x = 2 or x = 3")  # doctest: +ELLIPSIS
    Values(items=(Equality(name='x', ...), Equality(name='x', ...)))

What is not certainly of a kind stays `Words`, which equal only themselves: a doubtful reading must not score.
"""

from __future__ import annotations

import re

from training.grading.answers import Answer, Choice, Equality, Formula, Label, Ratio, Relation, Sequence, Values, Words
from training.grading.quantities import NO_UNIT, find_unit, read_number

HEDGE = re.compile(
    r"(?<![\\a-z])(?:or|and|to|either|neither|maybe|perhaps|possibly|probably|not|about|approximately|approx|roughly|"
    r"around|nearly|almost|between|least|most|than|if)(?![a-z])|\\approx|\?",
    re.IGNORECASE,
)
"""What makes an answer less than one plain statement."""
_CHOICE = re.compile(
    r"(?:(?:the\s+)?(?:correct\s+|right\s+|final\s+)?(?:choice|option|answer|letter|point|figure|graph)\s*(?:is\s*)?:?\s*)?"
    r"(?:\(([A-Ha-h])\)|\[([A-Ha-h])\]|([A-Ha-h])(?=[.:)]|\s+[-–—]\s|$))[.:)]?(?:\s+[-–—]\s+|\s+|$)(.*)",
    re.IGNORECASE,
)
_OTHER_CHOICE = re.compile(
    r"\(?\b[A-H][.:)](?=\s|$)|(?:\b(?:or|and|no|wait|actually|also|maybe)\b|[,;/&])\s*\(?[A-H]\b"
)
_LEAD = re.compile(r"([^0-9=<>:;$]{1,160}?)\s+(?:is|are|equals|was|will be|measures)(?:\s+equal to)?\s*:?\s+(.+)")
_DENIAL = re.compile(r"\b(?:none|never|nothing|wrong|incorrect|false|doubt|unlike|isn't|cannot|can't)\b", re.IGNORECASE)
_LABELLED = re.compile(r"([A-Za-z][a-z]{2,}(?: [a-z]{2,}){0,4})\s*:\s*(.+)")
_LEADING = re.compile(r"(?:therefore|thus|hence|so|finally|then)\b,?\s+", re.IGNORECASE)
_NAME = (
    r"(?:m\s*)?(?:\\(?:angle|triangle|overline|measuredangle|sin|cos|tan)\s*)?"
    r"\{?(?!\\(?:pi|infty|sqrt|frac)(?![a-z]))(?:\\?[A-Za-z]{1,12})\}?"
    r"(?:_\{?[A-Za-z0-9]+\}?)?'{0,2}(?:\s*\((?:[A-Za-z0-9]|-[0-9])\))?"
)
_NAMES = re.compile(
    rf"{_NAME}(?:\s*[-+]\s*{_NAME}){{0,3}}|\([a-z](?:, ?[a-z]){{1,3}}\)|(?:[A-Za-z]{{2,}} ){{1,8}}[A-Za-z]+"
)
_NO_FORMULA = re.compile(
    r"\.\.|\\[lc]?dots|(?<![_0-9])[0-9]+\s+[0-9.]|[;:=<>\"@#]|!!|,(?![0-9]{3}(?![0-9]))|"
    r"\\(?:cong|sim|in|to|boxed)(?![a-z])"
)
_FUNCTIONS = re.compile(
    r"\\(?:begin|end)\{[a-z]+\}|\\[a-zA-Z]+|"
    r"(?<![a-z])(?:arc)?(?:sin|cos|tan|cot|sec|csc|log|ln|sqrt|exp|gcd|lcm)(?![a-z])"
)
_MATHEMATICAL = re.compile(r"[0-9+*/^|]|-\s*[a-zA-Z(]|\\[a-zA-Z]|(?:sin|cos|tan|log|ln|exp|sqrt)\s*\(")
_RATIO_WORDS = re.compile(r"([0-9]+) to ([0-9]+)")
_POINT = r"[A-Z](?:'{1,2}|_\{?[0-9]\}?)?"
_FIGURES = {
    **dict.fromkeys(["segment", "line segment", "side", "chord", "edge", "diagonal", "\\overline", "\\bar"], "segment"),
    **dict.fromkeys(["diameter", "radius", "hypotenuse", "leg"], "segment"),
    **dict.fromkeys(["line", "\\overleftrightarrow"], "line"),
    **dict.fromkeys(["ray", "\\overrightarrow"], "ray"),
    **dict.fromkeys(["vector", "\\vec"], "ray"),
    **dict.fromkeys(["arc", "\\widehat", "\\wideparen", "\\overset{\\frown}"], "arc"),
    **dict.fromkeys(["angle", "\\angle", "m\\angle", "m \\angle", "\\measuredangle"], "angle"),
    **dict.fromkeys(["triangle", "\\triangle", "\\Delta"], "triangle"),
    **dict.fromkeys(["point", "vertex"], "point"),
    **dict.fromkeys(["quadrilateral", "polygon", "pentagon", "hexagon"], "polygon"),
    **dict.fromkeys(["square", "rectangle", "rhombus", "kite", "parallelogram", "trapezoid", "trapezium"], "polygon"),
}
_LABEL = re.compile(
    rf"(?:((?i:{'|'.join(re.escape(f) for f in sorted(_FIGURES, key=len, reverse=True))}))\s*)?"
    rf"\{{?((?:{_POINT}){{1,8}}|[0-9])\}}?"
)
MAX_ITEMS = 16
"""A longer list is not compared."""


def parse(text: str) -> Answer:
    """The kind of a clean answer, and what it says."""
    text = _LEADING.sub("", text, count=1) if _LEADING.match(text) else text
    if re.fullmatch(r"[A-H]", text) or (len(text) > 1 and (choice_letter(text))):
        return Choice(choice_letter(text) or text)
    return (
        read_number(text)
        or read_label(text)
        or _sentence(text)
        or _list(text)
        or _related(text)
        or _bracketed(text)
        or _ratio(text)
        or _formula(text)
        or Words(words(text))
    )


def choice_letter(text: str) -> str | None:
    """The letter that an answer chooses, in any dress: `B`, `b`, `(B)`, `B. 24`, `Option B`; `None` if it is none.

    An answer that names a second choice ("A or B", "A. 24 B. 25") is none.
    """
    match = _CHOICE.fullmatch(_LEADING.sub("", text, count=1) if _LEADING.match(text) else text)
    if match is None:
        return None
    letter, rest = next(filter(None, match.groups()[:3])).upper(), match[4]
    if re.match(r"(?:or|and|not|nor)\b", rest) or _OTHER_CHOICE.search(rest):
        return None
    if re.match(r"[a-z] |[A-Z] [-–—] [A-Za-z]$", text):  # `a - 1` and `A - B` subtract
        return None
    return letter


def read_label(text: str) -> Label | None:
    """The name of a figure; capital letters that repeat (`SAS`) and Roman numerals name none."""
    match = _LABEL.fullmatch(text)
    if match is None:
        return None
    points = tuple(re.findall(rf"{_POINT}|[0-9]", match[2]))
    figure = _FIGURES.get(match[1]) or _FIGURES[match[1].lower()] if match[1] else ""
    if len(set(points)) < len(points) or (not figure and (len(points) < 2 or set(points) <= set("IVX"))):
        return None
    if points[0].isdigit() and figure not in ("angle", "line"):
        return None
    return Label(figure, points)


def words(text: str) -> str:
    """Words to compare: lower case, no article, no punctuation at the ends, hyphens as spaces."""
    text = text.lower().strip(" .,;:!\"'")
    return re.sub(r"\s+", " ", re.sub(r"^(?:the|an?)\s+", "", text).replace("-", " ")).strip()


def is_formula(text: str) -> bool:
    """True for what math-verify can judge: some mathematics in it, no words, no hedge, no two numbers side by side."""
    if HEDGE.search(text) or _NO_FORMULA.search(text) or ("&" in text and "\\begin" not in text):
        return False
    if re.search(r"[A-Za-z]{4}|[^\x00-\x7f°€£¥¢]", _FUNCTIONS.sub(" ", text)):
        return False
    return bool(_MATHEMATICAL.search(text) or re.fullmatch(r"[A-Za-z]", text))


def _sentence(text: str) -> Answer | None:
    """What a sentence says after its `is`, or after `Answer:`."""
    match = _LEAD.fullmatch(text) or _LABELLED.fullmatch(text)
    if match is None or not _is_plain_lead(match[1]):
        return None
    value = parse(match[2])
    return Words(value.text, words(match[1])) if isinstance(value, Words) else value


def _is_plain_lead(text: str) -> bool:
    """Whether what stands before an answer ("The sum of a and b") neither hedges nor denies it."""
    return not _DENIAL.search(text) and not HEDGE.search(re.sub(r"\b(?:and|to|between)\b", "", text))


def _list(text: str) -> Answer | None:
    """Several values; `±` makes two."""
    items = split_list(text)
    if len(items) == 1:
        if text.count("\\pm") != 1 or not is_formula(text.replace("=", " ").replace("\\pm", "+")):
            return None
        items = [re.sub(r"\\pm\s*", sign, text) for sign in "+-"]
    if len(items) > MAX_ITEMS:
        return Words(words(text))
    parsed = [parse(item) for item in items]
    flat = [i for item in parsed for i in (item.items if isinstance(item, Values) else (item,))]
    return Values(tuple(flat))


def _related(text: str) -> Answer | None:
    """Equalities and inequalities."""
    operators, sides = split_relation(text)
    if not operators or not all(sides):
        return None
    if set(operators) == {"="}:
        return _equality(sides)
    if operators == ["\\in"] and _NAMES.fullmatch(sides[0]):
        return parse(sides[1])
    turned = {">": "<", "\\ge": "\\le"}
    if all(operator in turned for operator in operators):
        sides, operators = sides[::-1], [turned[operator] for operator in operators[::-1]]
    if not set(operators) <= {"<", "\\le"}:
        known = len(operators) == 1 and operators[0] in ("\\ne", "\\parallel", "\\perp")
        return Relation(operators[0], *sides) if known else Words(words(text))
    return _interval(operators, sides) or (Relation(operators[0], *sides) if len(sides) == 2 else Words(words(text)))


def _equality(sides: list[str]) -> Answer:
    is_name = [bool(_NAMES.fullmatch(side)) and _is_plain_lead(side) for side in sides]
    if len(sides) == 2 and is_name == [False, True]:
        sides, is_name = sides[::-1], is_name[::-1]
    name = ""
    if is_name[0]:
        name, sides = re.sub(r"\s", "", sides[0]), sides[1:]
    return Equality(name, tuple(parse(side) for side in sides), tuple(sides))


def _interval(operators: list[str], sides: list[str]) -> Sequence | None:
    """`x > 3` and `1 < x \\le 2` as intervals of their variable."""
    places = [i for i, side in enumerate(sides) if re.fullmatch(r"\\?[A-Za-z]+", side) and side != "\\infty"]
    if len(places) != 1 or not 2 <= len(sides) <= 3 or (len(sides) == 3 and places != [1]):
        return None
    at = places[0]
    opening = ("[" if operators[at - 1] == "\\le" else "(") if at else "("
    closing = ("]" if operators[at] == "\\le" else ")") if at < len(operators) else ")"
    low, high = sides[at - 1] if at else "-\\infty", sides[at + 1] if at < len(operators) else "\\infty"
    return Sequence(opening, (parse(low), parse(high)), closing, sides[at])


def _bracketed(text: str) -> Answer | None:
    """A point, an interval, a set; one value in round brackets is that value."""
    with_name = re.fullmatch(r"[A-Z]'?\s?(\(.+\))", text)
    body = with_name[1] if with_name else text
    opening = next((mark for mark in ("\\langle", "\\{", "(", "[", "{") if body.startswith(mark)), None)
    closing = next((mark for mark in ("\\rangle", "\\}", ")", "]", "}") if body.endswith(mark)), None)
    if not opening or not closing or len(body) < len(opening) + len(closing):
        return None
    if closing_of(body) != len(body) - 1 and opening != "\\langle":
        return None
    inner = body[len(opening) : -len(closing)].strip()
    if not inner:
        return None
    items = split_top(inner, r"\s*[,;]\s*")
    if len(items) > MAX_ITEMS or not all(items):
        return Words(words(text))
    if opening in ("{", "\\{"):
        return _set(inner, items) if closing in ("}", "\\}") else None
    if len(items) == 1:
        return (
            parse(inner)
            if (opening, closing) == ("(", ")") and not with_name and not split_relation(inner)[0]
            else None
        )
    return Sequence(opening, tuple(map(parse, items)), closing)


def _set(inner: str, items: list[str]) -> Answer:
    """The elements of a set, or its condition (`{x | x > 3}`)."""
    condition = re.fullmatch(r"[a-z](?: ?\\in [^|]+?)? ?(?:\||:|\\mid) ?(.+)", inner)
    if condition:
        return parse(condition[1])
    return parse(items[0]) if len(items) == 1 else Values(tuple(map(parse, items)))


def _ratio(text: str) -> Ratio | None:
    match = _RATIO_WORDS.fullmatch(text)
    terms = list(match.groups()) if match else split_top(text, r"\s*:\s*")
    return Ratio(tuple(terms)) if 2 <= len(terms) <= 5 and all(t and is_formula(t) for t in terms) else None


def _formula(text: str) -> Formula | None:
    """Mathematics, its unit apart: `2\\sqrt{3} cm`, `36\\pi square units`, `2\\alpha°`."""
    if is_formula(text) and not re.search(r"[°€£¥¢$%]|[a-z] ?\^\{?[23]\}?$", text):
        shorter = re.fullmatch(r"(.*[0-9})i])\s+(mm|cm|dm|km|m|kg|mg|ft|mi|yd|ml|mph|min|hr)", text)
        if shorter and (shorter[2] != "m" or not re.search("[A-Za-z]", _FUNCTIONS.sub(" ", shorter[1]))):
            return Formula(shorter[1], find_unit(shorter[2]) or NO_UNIT)
        return Formula(text)
    money = re.fullmatch(r"([$€£¥])\s*(.+)|(.+?)\s*([€£¥¢%°])", text)
    if money:
        value, sign = (money[2], money[1]) if money[1] else (money[3], money[4])
        return Formula(value, find_unit(sign) or NO_UNIT) if is_formula(value) else None
    starts = [m.start() for m in re.finditer(r"\s(?=[A-Za-z]{1,12}\b)", text)]
    for start in starts:
        value, unit = text[:start].rstrip(), find_unit(text[start:])
        if unit and len(text[start:].strip()) > 1 and is_formula(value) and re.search(r"[0-9})]$|\\[a-z]+$", value):
            return Formula(value, unit)
    return Formula(text) if is_formula(text) else None


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
