"""The grader: takes the answer out of a completion and compares it with the gold answer of the solution.

    >>> grade("<think>3 + 4 = 7.</think> <answer>7</answer>", "<think>It is 7.</think> <answer>7.0</answer>").correct
    True

The reward, the evaluation and the badge in the page all use it. Choice letters, numbers and words are compared
here; mathematics goes to math-verify in a worker process (`training.math_worker`). No torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from inference.format import TAGS, tagged_answers
from training.math_worker import MathTimeout, math_equal

MAX_ANSWER_CHARS = 400
"""A longer gold or answer is not compared as mathematics."""
MAX_NESTING = 12
"""Brackets deeper than this are not compared as mathematics."""
_TOLERANCE = Fraction(1, 10**6)
"""Relative difference below which two numbers are equal, unless both are whole."""

_INTEGER = r"\d{1,3}(?:,\d{3})+|\d+"
_DECIMAL = rf"(?:{_INTEGER})?\.\d+|(?:{_INTEGER})\.?"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s*(?:(?P<top>{_INTEGER})\s*/\s*(?P<bottom>{_INTEGER})|(?P<decimal>{_DECIMAL}))(?![\d/^])\s*(?P<unit>.*)"
)
_UNIT = re.compile(r"%|°|(?:[a-zµ]+\.?(?:\^?[23²³])?)(?:\s*/\s*[a-z]+|(?:\s+[a-z]+){1,2})?|[€$£]")
_CHOICE = re.compile(r"(?:(?:choice|option|answer)\s+)?\(?([A-H])(?:\)|[.:](?=\s|$)|$)(?:\s.*)?", re.DOTALL)
_ANSWER_IS = re.compile(r"\banswer(?: is|:)\s*:?\s*(.+)", re.IGNORECASE | re.DOTALL)
_LAST_VALUE = re.compile(rf"(?<![\w.])-?(?:(?:{_INTEGER})\s*/\s*\d+|(?:{_INTEGER})?\.\d+|(?:{_INTEGER}))|\b[A-H]\b")
_HEDGE = re.compile(r"(?<![\\a-z])(?:or|and|to|either|maybe|not)(?![a-z])", re.IGNORECASE)
_SEVERAL = re.compile(r"[$;|]|\\boxed")
"""What only an answer with several formulas in it still has after `_bare`, unless the gold has it too."""


@dataclass(frozen=True)
class Grade:
    """A verdict, with what was compared and the rule that decided, in words a user may read."""

    correct: bool
    gold: str
    answer: str
    rule: str


def grade(solution: str, completion: str) -> Grade:
    """Strict: the completion's answer must stand in its `<answer>` tags, once (or several times the same)."""
    gold = gold_answer(solution)
    answers = tagged_answers(completion)
    if not answers:
        return Grade(False, gold, "", "no answer in tags")
    if len(set(answers)) > 1:
        return Grade(False, gold, answers[-1], "several different answers")
    return grade_answer(gold, answers[0])


def grade_lenient(solution: str, completion: str) -> Grade:
    """As `grade`, of the last answer that the completion states, with tags or without."""
    return grade_answer(gold_answer(solution), last_answer(completion))


def grade_answer(gold: str, answer: str) -> Grade:
    """Compare two bare answers; the gold decides how: as a choice letter, a number, words, or mathematics.

    >>> grade_answer("1/2", "0.5")
    Grade(correct=True, gold='1/2', answer='0.5', rule='equal numbers')
    """
    correct, rule = _compare(_bare(gold), _bare(answer))
    return Grade(correct, gold.strip(), answer.strip(), rule)


def gold_answer(solution: str) -> str:
    """The gold answer: between the solution's last answer tags, else in its last `\\boxed{}`, else all of it."""
    tagged = tagged_answers(solution) or re.findall(r"<answer>(.*?)</answer>", solution, re.DOTALL)
    if tagged:
        return tagged[-1].strip()
    return boxed(solution) or solution.strip()


def last_answer(text: str) -> str:
    """The last answer that `text` states, or "" if it states none; tags are not required.

    >>> last_answer("There are 3 circles. 3 + 1 = 4.")
    '4'
    """
    tagged = tagged_answers(text)
    if tagged:
        return tagged[-1]
    scope = text.rpartition("</think>")[2].strip() or text
    scope = scope.rpartition("<answer>")[2]
    for tag in TAGS:
        scope = scope.replace(tag, " ")
    scope = scope.strip()
    stated = _ANSWER_IS.split(scope)
    if len(stated) > 1 and stated[-2].strip():
        scope = stated[-2].strip()
    if (inside := boxed(scope)) is not None:
        return inside
    scope = scope.rpartition("=")[2].strip() if "=" in scope else scope
    if len(scope.split()) <= 3:
        return scope.rstrip(".").strip()
    values = _LAST_VALUE.findall(scope)
    return values[-1] if values else scope


def boxed(text: str) -> str | None:
    """What stands in the last `\\boxed{…}` of `text`, braces balanced; `None` if there is none."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for i in range(start + len("\\boxed"), len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start + len("\\boxed{") : i].strip()
    return None


def _compare(gold: str, answer: str) -> tuple[bool, str]:
    """Whether two bare answers are the same, and the rule that decided."""
    if not answer:
        return False, "no answer"
    if not gold:
        return False, "no expected answer"
    if re.fullmatch("[A-H]", gold):
        letter = _choice(answer)
        return letter == gold, "same choice" if letter == gold else "different choice"
    wanted, given = _number(gold), _number(answer)
    if wanted and given:
        equal = _same_number(wanted, given)
        return equal, "equal numbers" if equal else "different numbers"
    if _words(gold) == _words(answer):
        return True, "same words"
    if not _is_mathematics(gold) or _HEDGE.search(answer) or set(_SEVERAL.findall(answer)) - set(gold):
        return False, "different answers"
    return _compare_mathematics(gold, answer)


def _compare_mathematics(gold: str, answer: str) -> tuple[bool, str]:
    """By math-verify. In a chain `12 + 12 = 24` every side must equal the gold, so that `23 = 24` does not pass."""
    for text in (gold, answer):
        if len(text) > MAX_ANSWER_CHARS or _nesting(text) > MAX_NESTING:
            return False, "too long to compare"
    sides = [answer] if "=" in gold else [side.strip() for side in answer.split("=")]
    sides = [side for i, side in enumerate(sides) if i or len(sides) == 1 or not re.fullmatch(r"[a-zA-Z ]+", side)]
    try:
        equal = all(math_equal(gold, side) for side in sides)
    except MathTimeout:
        return False, "took too long to compare"
    return equal, "equal mathematics" if equal else "different mathematics"


def _bare(text: str) -> str:
    """An answer without what only dresses it: dollar signs, `\\boxed`, `\\text`, LaTeX spacing, a final full stop."""
    text = text.strip()
    text = (boxed(text) if text.count("\\boxed{") == 1 else None) or text
    text = re.sub(r"\\\(|\\\)|\\\[|\\\]|\\left(?![a-z])|\\right(?![a-z])|\\[,;!]", "", text)
    text = re.sub(r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}", r" \1 ", text)
    text = re.sub(r"\\[dt]?frac\s*\{(\d+)\}\s*\{(\d+)\}", r" \1/\2 ", text)
    for dressed, plain in (("−", "-"), ("^\\circ", "°"), ("^{\\circ}", "°"), ("\\%", "%"), ("{,}", ",")):
        text = text.replace(dressed, plain)
    if len(text) > 1 and text[0] == text[-1] == "$":
        text = text.strip("$")
    text = re.sub(r"\s+", " ", text).strip().strip("*").strip()
    return text[:-1].rstrip() if text.endswith(".") and len(text) > 1 else text


def _choice(answer: str) -> str | None:
    """The letter an answer chooses: `B`, `b`, `(B)`, `B. 24`, `Option B`; `None` if it is none, or "A or B"."""
    answer = answer.upper() if len(answer.strip("().:")) == 1 else answer
    match = _CHOICE.fullmatch(re.sub(r"^(choice|option|answer)\b", lambda m: m[0].lower(), answer, flags=re.IGNORECASE))
    return match[1] if match and not _HEDGE.match(answer[match.end(1) :].strip()) else None


def _number(text: str) -> tuple[Fraction, str] | None:
    """The exact value and the unit of a number; `None` if `text` is not one number."""
    text = re.sub(r"^[a-zA-Z]\s*=\s*", "", text)
    text = re.sub(r"^([-+]?)\s*[€$£]\s*(?=\d)", r"\1", text)
    match = _NUMBER.fullmatch(text)
    if match is None or len(text) > 60:
        return None
    unit = match["unit"].strip().lower()
    if unit and not _UNIT.fullmatch(unit) or _HEDGE.search(unit):
        return None
    sign = -1 if match["sign"] == "-" else 1
    if match["decimal"]:
        return sign * Fraction(match["decimal"].replace(",", "").rstrip(".")), _unit_name(unit)
    top, bottom = (int(match[name].replace(",", "")) for name in ("top", "bottom"))
    return (sign * Fraction(top, bottom), _unit_name(unit)) if bottom else None


def _unit_name(unit: str) -> str:
    unit = unit.replace("^", "").replace("²", "2").replace("³", "3").rstrip(".")
    return "°" if unit in ("degree", "degrees", "deg") else unit


def _same_number(gold: tuple[Fraction, str], answer: tuple[Fraction, str]) -> bool:
    """Equal values; a unit may be left out or added, not changed; 50 % is 0.5 as well as 50."""
    (wanted, gold_unit), (given, unit) = gold, answer
    if _close(wanted, given):
        return not gold_unit or not unit or gold_unit == unit or _is_plural(gold_unit, unit)
    if (gold_unit == "%") != (unit == "%"):
        return _close(wanted / 100 if gold_unit == "%" else wanted, given / 100 if unit == "%" else given)
    return False


def _close(wanted: Fraction, given: Fraction) -> bool:
    if wanted.denominator == given.denominator == 1:
        return wanted == given
    return abs(wanted - given) <= _TOLERANCE * abs(wanted)


def _is_plural(one: str, other: str) -> bool:
    return one + "s" == other or other + "s" == one


def _words(text: str) -> str:
    """Words to compare: lower case, no article, no punctuation at the ends."""
    return re.sub(r"^(?:the|an?)\s+", "", text.lower().strip(" .,;:!?\"'")).strip()


def _is_mathematics(text: str) -> bool:
    """True for what math-verify can judge: it has a digit, an operator, a LaTeX command, or is one letter."""
    return bool(re.search(r"\d|[+*/=^√π<>]|\\[a-z]+", text)) or len(text) == 1


def _nesting(text: str) -> int:
    depth = deepest = 0
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        deepest = max(deepest, depth)
    return deepest
