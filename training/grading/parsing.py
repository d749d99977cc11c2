r"""Reads a clean answer (`training.grading.cleaning.clean`) as one of the kinds of `training.grading.answers`.

    >>> parse("x = 2 or x = 3")  # doctest: +ELLIPSIS
    Values(items=(Equality(name='x', ...), Equality(name='x', ...)), ...)

What is not certainly of a kind stays `Words`, which equal only themselves: a doubtful reading must not score.
"""

from __future__ import annotations

import re
from functools import lru_cache

from training.grading.answers import (
    Answer,
    Choice,
    Equality,
    Formula,
    Label,
    Labelled,
    Ratio,
    Relation,
    Restated,
    Sequence,
    Values,
    Words,
)
from training.grading.quantities import NO_UNIT, find_unit, read_number, unit_after
from training.grading.surface import read_surface

HEDGE = re.compile(
    r"(?<![\\a-z])(?:or|and|to|either|neither|maybe|perhaps|possibly|probably|not|about|approximately|approx|roughly|"
    r"around|nearly|almost|between|least|most|than|if|oder|und|nicht|pas|non|anti|pseudo|no)(?![a-z])|\\approx|\?",
    re.IGNORECASE,
)
"""What makes an answer less than one plain statement."""
_RETRACTION = re.compile(
    r"\b(?:answer|answers|option|choice|choose|pick|pass|wrong|incorrect|correct|right\?|kidding|joking|wait|actually|instead|"
    r"sorry|nope|maybe|perhaps|could|might|either|or|rather|alternatively|otherwise|but|no|guess|unsure|not sure|"
    r"isn't|wasn't|doubt|unless|ignore|except)\b|\?",
    re.IGNORECASE,
)
"""What an explanation after an answer may not say: it would take the answer back."""
_OPTION_LETTER = (
    r"(?:(?:the\s+)?(?:correct\s+|right\s+|final\s+|best\s+)*(?:choice|option|answer|letter)\s*(?:is\s*)?:?\s*)?"
    r"(?:\(([A-Za-z])\)|\[([A-Za-z])\]|([A-Za-z]))"
)
_CHOICE = re.compile(rf"{_OPTION_LETTER}[.:)]?", re.IGNORECASE)
_CHOICE_WITH_TEXT = re.compile(
    r"(?:(?:the\s+)?(?:correct\s+|right\s+|final\s+|best\s+)*(?:choice|option|answer|letter)\s*(?:is\s*)?:?\s*)?"
    r"(?:\(([A-Za-z])\)[.:]?\s*|\[([A-Za-z])\]\s*|([A-Za-z])(?:[.:]\s+|[)、]\s*|\s*,\s+|\s+[-–—]\s+|\s+(?=\()))(.+)",
    re.IGNORECASE,
)
_OTHER_CHOICE = re.compile(
    r"(?:^|[;,:/&|?!.[]|\b(?:or|and|not|no|is|be|choose|pick|option|choice|answer|actually|wait|kidding|also|maybe|"
    r"but|unless|except|if|then|than)\b,?)"
    r"\s*[(\[]?[A-H][)\]]?(?=[\s.,;:!?)\]]|$)(?!\s*=)|\b[A-H][.:)](?=\s|$)"
    r"|(?<![A-Za-z.])[a-h][.:)](?=\s+\S)|[(\[][A-Za-z][)\]]"
)
_LEADING = re.compile(
    r"(?:(?:therefore|thus|hence|so|finally|then|overall|in (?:total|all|conclusion|summary))\b,?\s+"
    r"|(?:we|i|you) (?:get|have|find|obtain|count(?:ed)?|see)(?: that)?:?\s+"
    r"|(?:this|which|it) (?:gives|equals|yields)\s+|(?:equals|->|=>|=)\s*|(?:it|that)'s\s+|step [0-9]+:\s+"
    r"|(?:故|应|因此|所以)?选项?\s*[:：]?\s*|\\(?:right|Right)arrow\s*"
    r"|(?:since|because|as)\b[^;?!]{1,80}?,\s*(?=(?:the|our|my)\s+(?:final\s+|correct\s+)?answer\b)"
    r"|there (?:is|are)\s+(?=[0-9a-z])|(?:a |the )?total of\s+(?=[0-9])"
    r"|(?:the\s+|my\s+|our\s+)?(?:(?:final|correct|right|best)\s+)*(?:answer|ans|result|solution)\.?"
    r"(?:\s*(?:is|=|:|should be|must be|would be|equals)\s*:?|\s+(?=[-+$(\\]?[0-9]))\s*"
    r"|(?:the\s+)?(?:(?:correct|right|best)\s+)(?:option|choice)\s+is\s*:?\s*"
    r"|(?:所以|因此|故)?(?:正确)?(?:答案|结果)(?:是|为|:|：)\s*)",
    re.IGNORECASE,
)
_TAILS = re.compile(
    r"\s*(?:,?\s+exactly|\s+is\s+(?:the\s+)?(?:(?:final|correct|right)\s+)*(?:answer|option|choice|correct|right))$",
    re.IGNORECASE,
)
_EXPLANATION = re.compile(
    r"(?P<value>.+?)(?:(?:(?:[,;.]|\s-)?\s+\(?(?:because|since)\b|[,;]\s+as\b(?! well| opposed))(?P<cause>.+)"
    r"|\.\s+(?P<sentence>[A-Z][a-z]*\s.+))",
    re.DOTALL,
)
_ROUNDED = re.compile(
    r"(?P<value>.+?)\s*(?:,?\s*(?:\\approx|\\simeq|≈)|,?\s+(?:or\s+|which is\s+|i\.e\.,?\s+)?"
    r"(?:about|approximately|approx\.?|roughly))\s*(?P<again>.+)"
)
_IN_BRACKETS = re.compile(r"(?P<value>.*[^\s+*/^=<>(,;:-])\s+\((?P<again>[^()]+)\)")
_SENTENCE = re.compile(
    r"([^0-9=<>:;$]{1,160}?(?:\s[A-Z0-9]{1,4})?)\s+(?:is|are|equals|was|will be|measures)(?:\s+equal to)?\s*:?\s+(.+)"
)
_SHORT_SUBJECT = re.compile(
    r"(?:\\?[A-Za-z]{1,8}|\\angle ?[A-Z0-9]{1,3}|[A-Z]{1,4})(?:_\{?[A-Za-z0-9]+\}?)?\s+(?:is|equals)\s+(.+)"
)
_DENIAL = re.compile(
    r"\b(?:none|never|nothing|wrong|incorrect|false|doubt|unlike|isn't|cannot|can't|without|except|had|would|could|might|"
    r"but|anything|all|other|excluding|if|aren't|wasn't|minus|plus|times)\b|n't\b",
    re.IGNORECASE,
)
_LABELLED = re.compile(r"([A-Za-z][a-z]{2,}(?: [a-z]{2,}){0,4})\s*:\s*(.+)")
_ENUMERATOR = re.compile(
    r"(?:^|(?<=[\s;,]))\(?([a-hA-H]|[1-9]|i{1,3}|iv|v)(?:\)[.:]?|[.:])\s+(?=\S)|(?:^|(?<=[\s;,]))\(([a-h1-9])\)\s*(?=\S)"
)
_ENUMERATIONS = (list("abcdefgh"), list("ABCDEFGH"), list("123456789"), ["i", "ii", "iii", "iv", "v"])
_PART = re.compile(r"(.{1,60}?)\s*(?:=|:(?!\s*[0-9]+\s*:)|\bis\b|\bare\b|\bequals\b)\s*(.+)", re.DOTALL)
_PART_LABEL = re.compile(
    r"(?=.*[A-Za-z\\])(?:\\?[A-Za-z]|[A-Za-z' ]"
    r"|(?<=[A-Za-z])-(?=[a-z]{2})|_\{?[A-Za-z0-9]+\}?|\\angle ?[0-9A-Z]+|[{}|()])+"
)
_NAME = (
    r"(?:m\s*)?(?:\\(?:angle|triangle|overline|measuredangle|sin|cos|tan|widehat|widetilde|vec|overrightarrow|Delta)\s*)?"
    r"\{?(?!\\(?:pi|infty|sqrt|frac|int|sum|prod|lim|Re|Im|neg|lnot|not|sim)(?![a-z]))"
    r"(?:\\?[A-Za-z]{1,16}|(?<=angle )[0-9]|(?<=angle)[0-9])\}?"
    r"(?:_\{?[A-Za-z0-9]+\}?|_\{?\s*(?:\\(?:triangle|text|Delta))?\s*\{?\s*[A-Za-z ]{1,20}\}?\s*\}?)?'{0,2}"
    r"(?:\s*\((?:[A-Za-z0-9]|-[0-9])\))?"
)
_NAMES = re.compile(
    rf"{_NAME}(?:\s*[-+/:]\s*{_NAME}){{0,3}}|\|\s*{_NAME}\s*\||\([a-z](?:, ?[a-z]){{1,3}}\)"
    r"|(?:[A-Za-z]{2,} ){1,8}[A-Za-z]+|(?:[A-Za-z]+ ){1,4}_\{?\s*\\?[A-Za-z ]+\}?"
    r"|\\frac\{[A-Z]{2}\}\{[A-Z]{2}\}|[A-Z] ?\\triangle ?[A-Z]{3}"
    r"|(?:[A-Za-z]+ ){1,4}\\triangle ?[A-Z]{3}|(?:sin|cos|tan) ?\\?[A-Za-z]+"
)
_NO_FORMULA = re.compile(
    r"\.\.|\\[lc]?dots|(?<![_0-9])[0-9]+\s+[0-9.]|[;:=<>\"@#]|!!|,(?![0-9]{3}(?![0-9]))|[^0-9A-Za-z)]!|[0-9]'|[0-9)}\]]\s*_"
)
_FUNCTIONS = re.compile(
    r"\\(?:begin|end)\{[a-z]+\}|\\[a-zA-Z]+|"
    r"(?<![a-z])(?:arc)?(?:sin|cos|tan|cot|sec|csc|log|ln|sqrt|exp|gcd|lcm)(?![a-z])"
)
_COMMANDS = re.compile(
    r"\\(?:frac|sqrt|pi|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|log|ln|exp|lg|cdot|times|div|binom|infty|"
    r"lfloor|rfloor|lceil|rceil|begin|end|pm|alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|"
    r"xi|rho|sigma|tau|phi|varphi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Sigma|Phi|Psi|Omega|overline|angle|triangle|ell|"
    r"mathbb|prime|hat|vec|bar|lvert|rvert|gcd|lcm|int|sum|prod|lim|to|dots)(?![a-zA-Z])|\\\\"
)
_WORKED_OUT = re.compile(r"\\(?:int|sum|prod|lim|to|dots|mathbb)(?![a-zA-Z])")
"""Commands that a gold may have and an answer may only repeat: nothing that runs long or is not yet worked out."""
_MATHEMATICAL = re.compile(r"[0-9+*/^|]|-\s*[a-zA-Z(]|\\[a-zA-Z]|(?:sin|cos|tan|log|ln|exp|sqrt)\s*\(")
_CODE = re.compile(r"(?<![a-z\\])(?:max|min|int|abs|mod|eval|print|str|len|sum|lim|not|odd)(?![a-z])", re.IGNORECASE)
_RATIO_WORDS = re.compile(r"([0-9.]+|[a-z]+) to ([0-9.]+|[a-z]+)", re.IGNORECASE)
_RATIO_LEAD = re.compile(r"(?:in )?(?:the )?(?:ratio|ratios)(?: of)?(?: is)?:? ", re.IGNORECASE)
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
    **dict.fromkeys(["circle", "\\odot"], "circle"),
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
MAX_DEPTH = 6
"""Answers within answers."""


@lru_cache(maxsize=4096)
def parse(text: str, is_ratio: bool = False, depth: int = 0) -> Answer:
    """The kind of a clean answer, and what it says; `is_ratio` says that the problem asks for a ratio."""
    text = bare(text)
    text = re.sub(
        r" is (parallel|perpendicular) to ", lambda m: {"pa": " \\parallel ", "pe": " \\perp "}[m[1][:2]], text
    )
    text = re.sub(r"^[a-z] ?\\in ?\\mathbb ?\{R\}[,;]?\s+(?=[a-z] ?(?:\\ne|<|>|\\le|\\ge))", "", text)
    if re.fullmatch(r"\\mathbb\{R\}|\( ?-\\infty ?, ?\+?\\infty ?\)", text):
        return Words("all real numbers")
    if depth > MAX_DEPTH:
        return Words(words(text))
    match = _CHOICE.fullmatch(text)
    if match and not re.fullmatch(r"[a-z]", text):
        return Choice(next(filter(None, match.groups())).upper())
    return (
        read_surface(text, is_ratio)
        or read_number(text)
        or read_label(text)
        or _explained(text, is_ratio, depth)
        or _labelled(text, depth)
        or read_choice(text)
        or _restated(text, is_ratio, depth)
        or _sentence(text, is_ratio, depth)
        or _vector(text, depth)
        or _list(text, depth)
        or _related(text, depth)
        or _bracketed(text, depth)
        or _ratio(text)
        or _formula(text)
        or Words(words(text))
    )


def bare(text: str) -> str:
    """An answer without what leads up to it (`The answer is`) and trails off (`is correct`)."""
    for _ in range(3):
        match = _LEADING.match(text)
        if match is None or match.end() == len(text):
            break
        text = text[match.end() :].lstrip()
    shorter = _TAILS.sub("", text)
    return shorter if shorter and not re.search(r"\bnot$", shorter) else text


def choice_letter(text: str) -> str | None:
    """The letter that an answer chooses, in any dress: `B`, `b`, `(B)`, `B. 24`, `Option B`; `None` if it is none.

    An answer that names a second choice ("A or B", "A. 24 B. 25") is none.
    """
    text = bare(text)
    choice = Choice(text.upper()) if re.fullmatch("[a-z]", text) else read_choice(text)
    return choice.letter if choice else None


def read_choice(text: str) -> Choice | None:
    """A choice letter, perhaps with its option's text, which may neither name another choice nor take it back."""
    match = _CHOICE.fullmatch(text)
    if match:
        return None if re.fullmatch("[a-z]", text) else Choice(next(filter(None, match.groups())).upper())
    match = _CHOICE_WITH_TEXT.fullmatch(text)
    if match is None:
        return None
    letter, rest = next(filter(None, match.groups()[:3])), match[4].strip()
    is_dressed = bool(match[1] or match[2]) or text[len(letter) : len(letter) + 1] in (".", ")", "、")
    if (not is_dressed and not re.match("[A-H]", letter)) or (not letter.isupper() and letter > "j"):
        return None
    if re.match(r"[a-z] ", text) and not is_dressed:  # `a - 1` subtracts
        return None
    if not is_dressed and re.match(r"\([^()]*,[^()]*\)$", rest):  # a point with its name
        return None
    if re.match(
        r"(?:or|and|not?|nor|is|was|are|vs|isn't)\b(?! enough| possible| given| sufficient| of)", rest, re.IGNORECASE
    ):
        if not re.fullmatch(r"no|not [a-z]+", rest, re.IGNORECASE) or not is_dressed or "not" == rest.lower():
            return None
    if _OTHER_CHOICE.search(rest) or re.search(
        r"\b(?:wrong|incorrect|kidding|wait|actually|instead|answer)\b|\?$", rest
    ):
        return None
    explanation = re.match(r"(?:,\s*)?(?:because|since|as)\b", rest)
    has_comma = rest.startswith((",", ";")) or text[match.start(4) - 2 : match.start(4)].strip() == ","
    rest = rest.lstrip(",; ")
    if has_comma and not explanation and " " not in rest:  # `A, purple` may be a list
        return None
    if explanation:
        return None if _RETRACTION.search(rest, explanation.end()) else Choice(letter.upper())
    rest = rest[1:-1].strip() if rest.startswith("(") and closing_of(rest) == len(rest) - 1 else rest
    return Choice(letter.upper(), rest.rstrip("."))


def read_label(text: str) -> Label | None:
    """The name of a figure; capital letters that repeat (`SAS`) and Roman numerals name none."""
    match = _LABEL.fullmatch(text)
    if match is None:
        return None
    points = tuple(re.findall(rf"{_POINT}|[0-9]", match[2]))
    figure = _FIGURES.get(match[1]) or _FIGURES.get(match[1].lower()) if match[1] else ""
    if figure is None:
        return None
    if len(set(points)) < len(points) or (not figure and (len(points) < 2 or set(points) <= set("IVX"))):
        return None
    if points[0].isdigit() and figure not in ("angle", "line"):
        return None
    return Label(figure, points)


def words(text: str) -> str:
    """Words to compare: lower case, no article, no punctuation at the ends, hyphens as spaces."""
    text = text.lower().strip(" .,;:!")
    text = text if re.search(r"[0-9][\"']+$", text) else text.strip(" .,;:!\"'")  # 5" are inches
    return re.sub(r"\s+", " ", re.sub(r"^(?:the|an?)\s+", "", text).replace("-", " ")).strip()


def is_formula(text: str) -> bool:
    """True for what math-verify can judge: some mathematics in it, no words, no hedge, no two numbers side by side."""
    if HEDGE.search(text) or _NO_FORMULA.search(text) or ("&" in text and "\\begin" not in text):
        return False
    if _CODE.search(text) or "\\" in _COMMANDS.sub("", text):
        return False
    if re.search(r"[A-Za-z]{4}|[^\x00-\x7f°€£¥¢]", _FUNCTIONS.sub(" ", text)):
        return False
    return bool(_MATHEMATICAL.search(text) or re.fullmatch(r"[A-Za-z]", text))


def is_plain_lead(text: str) -> bool:
    """True if what stands before an answer ("The sum of a and b") neither hedges nor denies it."""
    return not _DENIAL.search(text) and not HEDGE.search(re.sub(r"\b(?:and|to|between)\b", "", text))


def _explained(text: str, is_ratio: bool, depth: int) -> Answer | None:
    """A value and a reason after it, `7, because 3 + 4 = 7`, that does not take the value back."""
    match = _EXPLANATION.fullmatch(text)
    if match is None or not match["value"].strip(" (,"):
        return None
    sentence = match["sentence"]
    if _RETRACTION.search(match["cause"] or sentence):
        return None
    if sentence and (
        sentence.count(" ") < 2
        or re.match(r"(?:It|That|This(?! is because)|So|Or|And|Also|Thus|Hence|Therefore)\b", sentence)
    ):
        return None
    value = parse(match["value"].rstrip(" (,"), is_ratio, depth + 1)
    is_short = isinstance(value, Words) and len(value.text.split()) <= 3 and not sentence
    return value if is_short or not isinstance(value, Words | Values | Labelled | Label) else None


def _labelled(text: str, depth: int) -> Labelled | None:
    """Values with their labels: `(a) 5, (b) 7`, `mean: 5, median: 6`, `The area is 5 and the perimeter is 6`."""
    marks = [m for m in _ENUMERATOR.finditer(text)]
    keys = [(m[1] or m[2]) for m in marks]
    if len(keys) > 1 and marks[0].start() == 0 and any(sorted(keys) == each[: len(keys)] for each in _ENUMERATIONS):
        ends = [*(m.start() for m in marks[1:]), len(text)]
        values = [re.sub(r"[\s,;.]+(?:and)?$", "", text[m.end() : end].strip(" =")) for m, end in zip(marks, ends)]
        if all(values):
            return Labelled(tuple((key, parse(value, depth=depth + 1)) for key, value in zip(keys, values)))
    parts = split_list(text)
    matches = [_PART.fullmatch(part) for part in parts] if 1 < len(parts) <= MAX_ITEMS else [None]
    if not all(m and _PART_LABEL.fullmatch(m[1]) and is_plain_lead(m[1]) for m in matches):
        return None
    pairs = [(label_key(m[1]), m[2].strip()) for m in matches if m]
    if len({key for key, _ in pairs}) < len(pairs):
        return None
    return Labelled(tuple((key, parse(value, depth=depth + 1)) for key, value in pairs))


def label_key(label: str) -> str:
    """A label to compare: single letters keep their case, words do not."""
    label = re.sub(r"\\(?:text|mathrm|overline|angle|triangle)(?![a-z])|[{}\\]|^m(?=\\)", "", label)
    label = re.sub(r"\s+", " ", re.sub(r"^(?:the|an?)\s+", "", label.strip(), flags=re.IGNORECASE)).strip()
    return label if re.fullmatch(r"[A-Z]{1,3}|[A-Za-z]_?[A-Za-z0-9]?|[a-z]{3} [A-Z]", label) else label.lower()


def _restated(text: str, is_ratio: bool, depth: int) -> Answer | None:
    """One value said again: rounded (`5\\sqrt{3} ≈ 8.66`) or in brackets (`1/2 (0.5)`)."""
    match = _ROUNDED.fullmatch(text)
    if match and re.fullmatch(r"-?[0-9.,]+(?: ?[a-z%°^0-9]+)?", match["again"]) and read_number(match["again"]):
        return Restated(parse(match["value"], is_ratio, depth + 1), match["again"], True)
    match = _IN_BRACKETS.fullmatch(text)
    again = read_number(match["again"]) if match else None
    if (
        match is None
        or again is None
        or re.fullmatch(r"[a-zA-Z]|.*[A-Za-z]'?", match["value"])
        and not read_number(match["value"])
    ):
        return None
    return Restated(parse(match["value"], is_ratio, depth + 1), match["again"], "." in match["again"])


def _sentence(text: str, is_ratio: bool, depth: int) -> Answer | None:
    """The part of a sentence after its `is`, or after `Answer:`."""
    match = _SENTENCE.fullmatch(text) or _LABELLED.fullmatch(text)
    if match is None or not is_plain_lead(match[1]):
        return None
    value = parse(match[2], is_ratio, depth + 1)
    return Words(value.text, words(match[1])) if isinstance(value, Words) else value


def _list(text: str, depth: int) -> Answer | None:
    """Several values; `±` makes two; in order after `respectively` and in a list of three words or more."""
    shorter = re.sub(r",?\s+(?:respectively|\(?in (?:(?:this|that) )?order\)?)$", "", text)
    items = split_list(shorter)
    if len(items) == 1:
        if text.count("\\pm") != 1 or not is_formula(text.replace("=", " ").replace("\\pm", "+")):
            return None
        items = [re.sub(r"\\pm\s*", sign, text) for sign in "+-"]
    if len(items) > MAX_ITEMS:
        return Words(words(text))
    parsed = [parse(item, depth=depth + 1) for item in items]
    flat = [i for item in parsed for i in (item.items if isinstance(item, Values) else (item,))]
    is_ranking = (
        len(flat) > 2 and all(isinstance(item, Words) for item in flat) and not re.search(r"\band\b|\bor\b", text)
    )
    return Values(tuple(flat), shorter != text or is_ranking)


def _related(text: str, depth: int) -> Answer | None:
    """Equalities and inequalities."""
    text = re.sub(r"^[a-z] ?\\in ?\\mathbb ?\{R\}[,;]?\s+(?=[a-z] ?(?:\\ne|<|>|\\le|\\ge))", "", text)
    text = re.sub(
        r" is (parallel|perpendicular) to ", lambda m: {"pa": " \\parallel ", "pe": " \\perp "}[m[1][:2]], text
    )
    operators, sides = split_relation(text)
    if not operators or not all(sides):
        return None
    if set(operators) == {"="}:
        return _equality(sides, depth)
    if operators == ["\\in"] and _NAMES.fullmatch(sides[0]):
        return parse(sides[1], depth=depth + 1)
    turned = {">": "<", "\\ge": "\\le"}
    if all(operator in turned for operator in operators):
        sides, operators = sides[::-1], [turned[operator] for operator in operators[::-1]]
    if not set(operators) <= {"<", "\\le"}:
        known = len(operators) == 1 and operators[0] in ("\\ne", "\\parallel", "\\perp", "\\cong", "\\sim")
        return Relation(operators[0], *sides) if known else Words(words(text))
    interval = _interval(operators, sides, depth)
    return interval or (Relation(operators[0], *sides) if len(sides) == 2 else Words(words(text)))


def _equality(sides: list[str], depth: int) -> Answer:
    is_name = [bool(_NAMES.fullmatch(side)) and is_plain_lead(side) for side in sides]
    if len(sides) == 2 and is_name == [False, True]:
        sides, is_name = sides[::-1], is_name[::-1]
    name = ""
    if is_name[0]:
        name = re.sub(r"\s", "", sides[0])
        sides = [side for side, each in zip(sides, is_name) if not each] or sides[1:]
    return Equality(name, tuple(_side(side, depth) for side in sides), tuple(sides))


def _side(text: str, depth: int) -> Answer:
    """A side of an equality, in which `7 - 2` and `2 × 3` are worked out."""
    arithmetic = re.fullmatch(r"[0-9.,\s]+(?:(?:-|\\times)[0-9.,\s]+)+", text)
    return Formula(text) if arithmetic and not read_number(text) else parse(text, depth=depth + 1)


def _interval(operators: list[str], sides: list[str], depth: int) -> Sequence | None:
    """`x > 3` and `1 < x \\le 2` as intervals of their variable."""
    variables = [i for i, side in enumerate(sides) if re.fullmatch(r"\\?[A-Za-z]+", side) and side != "\\infty"]
    if len(variables) != 1 or not 2 <= len(sides) <= 3 or (len(sides) == 3 and variables != [1]):
        return None
    at = variables[0]
    opening = ("[" if operators[at - 1] == "\\le" else "(") if at else "("
    closing = ("]" if operators[at] == "\\le" else ")") if at < len(operators) else ")"
    low, high = sides[at - 1] if at else "-\\infty", sides[at + 1] if at < len(operators) else "\\infty"
    relation = (sides[0], sides[1]) if len(sides) == 2 else None
    ends = (parse(low, depth=depth + 1), parse(high, depth=depth + 1))
    return Sequence(opening, ends, closing, sides[at], relation)


def _vector(text: str, depth: int) -> Sequence | None:
    """A vector between angle brackets, or as a matrix of one row or column."""
    matrix = re.fullmatch(r"\\begin\{[bp]matrix\}(.+)\\end\{[bp]matrix\}", text)
    if matrix and ("&" in matrix[1]) != ("\\\\" in matrix[1]):
        items = re.split(r"&|\\\\", matrix[1])
    elif angles := re.fullmatch(r"\\langle(.+)\\rangle|<([^<>]+,[^<>]+)>", text):
        items = split_top(angles[1] or angles[2], r"\s*[,;]\s*")
    else:
        return None
    items = [item.strip() for item in items if item.strip()]
    return (
        Sequence("(", tuple(parse(item, depth=depth + 1) for item in items), ")")
        if 1 < len(items) <= MAX_ITEMS
        else None
    )


def _bracketed(text: str, depth: int) -> Answer | None:
    """A point, a vector, an interval, a set; one value in round or square brackets is that value."""
    text = re.sub(r"^(?:the )?(?:ordered pair|point) (?=\()", "", text)
    with_name = re.fullmatch(r"([A-Z]'?)\s?(\(.+\))", text)
    name, body = with_name.groups() if with_name else ("", text)
    opening = next((mark for mark in ("\\{", "(", "[", "{") if body.startswith(mark)), None)
    closing = next((mark for mark in ("\\}", ")", "]", "}") if body.endswith(mark)), None)
    if not opening or not closing or len(body) < len(opening) + len(closing):
        return None
    if closing_of(body) != len(body) - 1:
        return None
    inner = body[len(opening) : -len(closing)].strip()
    if not inner:
        return None
    items = split_top(inner, r"\s*[,;]\s*")
    if len(items) > MAX_ITEMS or not all(items):
        return Words(words(text))
    if opening in ("{", "\\{"):
        return _set(inner, items, depth) if closing in ("}", "\\}") else None
    if len(items) == 1:
        is_value = (opening, closing) in (("(", ")"), ("[", "]")) and not with_name and not split_relation(inner)[0]
        return parse(inner, depth=depth + 1) if is_value else None
    return Sequence(opening, tuple(parse(item, depth=depth + 1) for item in items), closing, name)


def _set(inner: str, items: list[str], depth: int) -> Answer:
    """The elements of a set, or its condition (`{x | x > 3}`)."""
    condition = re.fullmatch(r"[a-z](?: ?\\in [^|]+?)? ?(?:\||:|\\mid) ?(.+)", inner)
    if condition:
        return parse(condition[1], depth=depth + 1)
    parsed = tuple(parse(item, depth=depth + 1) for item in items)
    return parsed[0] if len(items) == 1 else Values(parsed)


def _ratio(text: str) -> Ratio | None:
    text = _RATIO_LEAD.sub("", text)
    match = _RATIO_WORDS.fullmatch(text)
    terms = list(match.groups()) if match else split_top(text, r"\s*:\s*")
    if match and not all(map(read_number, terms)):
        return None
    if match:
        terms = [str(number.value) for term in terms if (number := read_number(term)) and number.unit == NO_UNIT]
    return Ratio(tuple(terms)) if 2 <= len(terms) <= 5 and all(t and is_formula(t) for t in terms) else None


def _formula(text: str) -> Formula | None:
    """Mathematics, its unit apart: `2\\sqrt{3} cm`, `36\\pi square units`, `2\\alpha°`."""
    if re.fullmatch(r"[-+]? ?(?:\\infty|infinity)", text):
        return Formula(text.replace("infinity", "\\infty").replace(" ", ""))
    if is_formula(text) and not re.search(r"[°€£¥¢$%]|[a-z] ?\^?\{?[23]\}?$", text):
        shorter = re.fullmatch(r"(.*[0-9})i])\s*(mm|cm|dm|km|m|kg|mg|ft|mi|yd|ml|mph|min|hr|rad)", text)
        is_apart = shorter and text[shorter.end(1)] == " "
        if (
            shorter
            and (is_apart or shorter[2] != "mi")
            and (shorter[2] != "m" or not re.search("[A-Za-z]", _FUNCTIONS.sub(" ", shorter[1])))
        ):
            return Formula(shorter[1], find_unit(shorter[2]) or NO_UNIT)
        return Formula(text)
    money = re.fullmatch(r"([$€£¥])\s*(.+)|(.+?)\s*([€£¥¢%°])", text)
    if money:
        value, sign = (money[2], money[1]) if money[1] else (money[3], money[4])
        return Formula(value, find_unit(sign) or NO_UNIT) if is_formula(value) else None
    starts = [m.start() for m in re.finditer(r"\s(?=[A-Za-z]{1,12}\b)", text)]
    for start in starts:
        value, unit = text[:start].rstrip(), find_unit(text[start:])
        if (
            unit
            and len(text[start:].strip()) > 1
            and unit_after(text[start:])
            and is_formula(value)
            and re.search(r"[0-9})]$|\\[a-z]+$", value)
        ):
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
    """The index where the bracket that `text` begins with closes; -1 if it does not.

    Brackets need not match in kind: `[1, 2)` is one pair.
    """
    depth = 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if depth == 0 and c in ")]}":
            return i
    return -1


def _depths(text: str) -> list[int]:
    """The number of open brackets before each character, and at the end; never below 0."""
    depths, depth = [], 0
    for c in text:
        depths.append(depth)
        depth = max(0, depth + (c in "([{") - (c in ")]}"))
    return [*depths, depth]
