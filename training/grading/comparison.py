"""Compares two clean answers, kind by kind; what only mathematics can decide is asked of `equal`.

    >>> compare("{1, 2}", "2 and 1", equal=lambda gold, answer, relation: gold == answer)
    (True, 'the same values')

The gold decides how: a choice letter is compared as a letter, a point in order, a set in any order.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from training.grading.answers import (
    Answer,
    Choice,
    Equality,
    Formula,
    Label,
    Ratio,
    Relation,
    Sequence,
    Values,
    Words,
)
from training.grading.cleaning import to_latex
from training.grading.parsing import choice_letter, parse, words
from training.grading.quantities import NO_UNIT, PERCENT, Quantity, Unit, read_number, same_dimension, same_quantity

Equal = Callable[[str, str, str], bool]
"""`equal(gold, answer, relation)` for two formulas in LaTeX; the relations are those of `math_worker.compare`."""

RULES: dict[type, tuple[str, str]] = {
    Choice: ("same choice", "different choice"),
    Quantity: ("equal numbers", "different numbers"),
    Formula: ("equal mathematics", "different mathematics"),
    Words: ("same words", "different words"),
    Label: ("names the same", "names something else"),
    Sequence: ("equal in order and brackets", "different in order, brackets or values"),
    Values: ("the same values", "not the same values"),
    Ratio: ("equal ratios", "different ratios"),
    Equality: ("the same equation", "a different equation"),
    Relation: ("the same relation", "a different relation"),
}
"""What a verdict calls agreement and disagreement with a gold of each kind."""
_TRUTHS = ("yes", "no", "true", "false")
_TRUTH = re.compile(rf"({'|'.join(_TRUTHS)})(?:\s*[,.;:!–—-]\s*(.*))?")


def compare(gold: str, answer: str, equal: Equal) -> tuple[bool, str]:
    """Whether two clean answers are the same, and the rule that decided, in words a user may read."""
    if not answer:
        return False, "no answer"
    if not gold:
        return False, "no expected answer"
    expected = parse(gold)
    agree, differ = RULES[type(expected)]
    if isinstance(expected, Choice):
        letter = _letter(answer)
        return letter == expected.letter, agree if letter == expected.letter else differ if letter else "not one choice"
    if words(gold) in _TRUTHS:
        truth = _truth(answer)
        return truth == words(gold), "same words" if truth == words(gold) else "different words"
    actual = parse(answer)
    in_words = isinstance(expected, Words | Label) and words(gold) and words(gold) == words(answer)
    if (gold == answer or in_words) and not isinstance(expected, Quantity):
        return True, agree if isinstance(expected, Label | Values | Sequence | Ratio) else "same words"
    if isinstance(actual, Values) and not isinstance(expected, Values | Sequence | Relation):
        return False, "several values where one is expected"
    same = _Comparison(equal).same(expected, actual)
    return same, agree if same else differ


def _letter(answer: str) -> str | None:
    """The one choice that an answer makes, also at the end of a sentence ("I choose B" is none, "It is B" is)."""
    actual = parse(answer)
    return choice_letter(answer) or (actual.letter if isinstance(actual, Choice) else None)


def _truth(answer: str) -> str | None:
    """`yes`, `no`, `true` or `false`, perhaps with an explanation after it that does not take it back."""
    actual = parse(answer)
    match = _TRUTH.fullmatch(words(answer)) or (_TRUTH.fullmatch(actual.text) if isinstance(actual, Words) else None)
    if match is None or re.search(r"\b(?:yes|no|true|false|or|maybe|wait|actually)\b", match[2] or ""):
        return None
    return match[1]


def same_label(gold: Label, answer: Label) -> bool:
    """Whether two names name one figure.

    `AB` and `BA` are one segment but two rays; an angle has its vertex in the middle; a triangle's corners stand in
    any order; a polygon's may start anywhere and run either way. What the figure is may be left out, not changed.
    """
    if gold.figure and answer.figure and gold.figure != answer.figure:
        return False
    one, other = gold.points, answer.points
    figures = {gold.figure, answer.figure}
    if one == other:
        return True
    if len(one) != len(other) or "ray" in figures:
        return False
    if "triangle" in figures:
        return set(one) == set(other)
    if len(one) <= 3:
        return one == other[::-1]
    turns = [other[i:] + other[:i] for i in range(len(other))]
    return one in turns or one[::-1] in turns


def same_name(gold: str, answer: str) -> bool:
    """Whether two names may mean one thing: `x` and `y` do not, `AB` and `BA` do; a name may be left out.

    Words ("perimeter", "Area of ABC") are not compared.
    """
    plain = [re.sub(r"^m(?=\\)|\\(?:angle|overline|triangle|measuredangle)|[{}]", "", name) for name in (gold, answer)]
    if not all(plain) or any(re.fullmatch(r"[A-Za-z]*[a-z]{2,}[A-Za-z]*", name) for name in plain):
        return True
    return plain[0] == plain[1] or (plain[0].isupper() and plain[0] == plain[1][::-1])


class _Comparison:
    """One comparison; `equal` may raise to end it."""

    def __init__(self, equal: Equal) -> None:
        self._equal = equal

    def same(self, gold: Answer, answer: Answer) -> bool:
        """Whether two read answers are the same."""
        match gold, answer:
            case (Equality(), _):
                return self._same_equality(gold, answer)
            case (_, Equality()):
                if isinstance(gold, Sequence) and not answer.name:
                    return False
                return all(self.same(gold, side) for side in answer.sides)
            case (Quantity(), Quantity()):
                return same_quantity(gold.value, gold.unit, answer.value, answer.unit)
            case (Quantity() | Formula(), Quantity() | Formula()):
                return self._same_mathematics(_text(gold), gold.unit, _text(answer), answer.unit)
            case (Ratio(), Ratio()):
                return self._same_ratio(gold.terms, answer.terms)
            case (Ratio(), Quantity() | Formula()) if len(gold.terms) == 2 and answer.unit == NO_UNIT:
                return self._same_ratio(gold.terms, (_text(answer), "1"))
            case (Quantity() | Formula(), Ratio()) if len(answer.terms) == 2 and gold.unit == NO_UNIT:
                return self._same_ratio((_text(gold), "1"), answer.terms)
            case (Sequence(), Sequence()):
                return self._same_sequence(gold, answer)
            case (Sequence(), Values()):
                return self._same_coordinates(gold, answer)
            case (Values(), Sequence()):
                return self._same_coordinates(answer, gold)
            case (Values(), Values()):
                return self._same_values(gold.items, answer.items)
            case (Relation(), Relation()):
                return self._same_relation(gold, answer)
            case (Label(), Label()):
                return same_label(gold, answer)
            case (Label(), Choice()):
                return gold.points == (answer.letter,)
            case (Formula(), Label()):
                return (gold.text,) == answer.points
            case (Words(), Words()):
                return gold.text == answer.text and (gold.lead == answer.lead or not (gold.lead and answer.lead))
            case (Choice(), Choice()):
                return gold == answer
        return False

    def _same_mathematics(self, gold: str, gold_unit: Unit, answer: str, unit: Unit) -> bool:
        if NO_UNIT not in (gold_unit, unit):
            if not same_dimension(gold_unit, unit):
                return False
            if gold_unit.factor != unit.factor:
                return self._equals(_scaled(gold, gold_unit.factor), _scaled(answer, unit.factor))
        elif gold_unit != unit and PERCENT in (gold_unit, unit) and not self._equals(gold, answer):
            hundredth = Fraction(1, 100)
            return self._equals(
                _scaled(gold, hundredth if gold_unit == PERCENT else Fraction(1)),
                _scaled(answer, hundredth if unit == PERCENT else Fraction(1)),
            )
        return self._equals(gold, answer)

    def _equals(self, gold: str, answer: str) -> bool:
        """Equal formulas: letter by letter (spaces and a plus in front apart), as numbers, or by mathematics."""
        numbers = read_number(gold), read_number(answer)
        if numbers[0] and numbers[1]:
            return numbers[0].value == numbers[1].value
        gold, answer = to_latex(gold), to_latex(answer)
        if re.sub(r"\s", "", gold).lstrip("+") == re.sub(r"\s", "", answer).lstrip("+"):
            return True
        return "\\infty" not in gold + answer and self._equal(gold, answer, "equal")

    def _same_equality(self, gold: Equality, answer: Answer) -> bool:
        """A gold `x = 24` or `12 + 12 = 24` is its last side; with a variable on each side it is an equation."""
        is_value = bool(gold.name) or not any(re.search("[A-Za-z]", text) for text in gold.texts)
        if not isinstance(answer, Equality):
            return is_value and self.same(gold.sides[-1], answer)
        if is_value and (answer.name or not gold.name) and same_name(gold.name, answer.name):
            return all(self.same(gold.sides[-1], side) for side in answer.sides)
        if gold.name and answer.name and all(isinstance(e.sides[-1], Quantity) for e in (gold, answer)):
            return False
        return self._same_equation(gold, answer)

    def _same_equation(self, gold: Equality, answer: Equality) -> bool:
        """Two equations of two sides, one a multiple of the other."""
        sides = [[text for text in (e.name, *e.texts) if text] for e in (gold, answer)]
        if any(len(pair) != 2 for pair in sides):
            return False
        expected, actual = (f"({left})-({right})" for left, right in sides)
        return self._equal(to_latex(expected), to_latex(actual), "multiple")

    def _same_relation(self, gold: Relation, answer: Relation) -> bool:
        if gold.operator != answer.operator:
            return False
        if gold.operator in ("\\parallel", "\\perp"):
            return self._same_values((parse(gold.left), parse(gold.right)), (parse(answer.left), parse(answer.right)))
        relation = "multiple" if gold.operator == "\\ne" else "positive multiple"
        expected, actual = (to_latex(f"({r.left})-({r.right})") for r in (gold, answer))
        return self._equal(expected, actual, relation)

    def _same_sequence(self, gold: Sequence, answer: Sequence) -> bool:
        """The same brackets (a vector's may be a point's), the same values in the same order."""
        round_ = {"\\langle": "(", "\\rangle": ")"}
        if any(round_.get(g, g) != round_.get(a, a) for g, a in zip(_ends(gold), _ends(answer))):
            return False
        if len(gold.items) != len(answer.items) or not same_name(gold.name, answer.name):
            return False
        return all(self.same(g, a) for g, a in zip(gold.items, answer.items))

    def _same_coordinates(self, point: Sequence, values: Values) -> bool:
        """A point and its coordinates by name, `x = 1, y = 2`, in the order of the alphabet."""
        names = [item.name for item in values.items if isinstance(item, Equality) and len(item.sides) == 1]
        if len(names) != len(values.items) or names != sorted(set(names)) or "" in names or _ends(point) != ("(", ")"):
            return False
        sides = [item.sides[0] for item in values.items if isinstance(item, Equality)]
        return len(sides) == len(point.items) and all(self.same(g, a) for g, a in zip(point.items, sides))

    def _same_values(self, gold: tuple[Answer, ...], answer: tuple[Answer, ...]) -> bool:
        """One to one in any order; in order where the gold says which is which (`x = 1, y = 2`) and the answer not."""
        if len(gold) != len(answer):
            return False
        names = [{item.name for item in side if isinstance(item, Equality)} for side in (gold, answer)]
        if len(names[0]) > 1 and not names[1]:
            return all(self.same(g, a) for g, a in zip(gold, answer))
        rest = list(answer)
        for expected in gold:  # being the same is transitive, so the first match is as good as any
            index = next((i for i, actual in enumerate(rest) if self.same(expected, actual)), None)
            if index is None:
                return False
            rest.pop(index)
        return True

    def _same_ratio(self, gold: tuple[str, ...], answer: tuple[str, ...]) -> bool:
        """Term by term, each product across: `a:b = c:d` where `ad = bc`."""
        if len(gold) != len(answer):
            return False
        numbers = [[read_number(term) for term in ratio] for ratio in (gold, answer)]
        if all(number and number.value for ratio in numbers for number in ratio):
            expected, actual = ([number.value for number in ratio if number] for ratio in numbers)
            return all(expected[0] * g == actual[0] * w for w, g in zip(expected, actual))
        pairs = zip(gold[1:], answer[1:])
        return all(self._equals(f"({gold[0]}) \\cdot ({g})", f"({answer[0]}) \\cdot ({w})") for w, g in pairs)


def _text(answer: Quantity | Formula) -> str:
    """An answer's mathematics without its unit, exactly."""
    if isinstance(answer, Formula):
        return answer.text
    top, bottom = answer.value.as_integer_ratio()
    return f"{top}" if bottom == 1 else f"{'-' if top < 0 else ''}\\frac{{{abs(top)}}}{{{bottom}}}"


def _scaled(text: str, factor: Fraction) -> str:
    return text if factor == 1 else f"({text}) \\cdot \\frac{{{factor.numerator}}}{{{factor.denominator}}}"


def _ends(sequence: Sequence) -> tuple[str, str]:
    return sequence.opening, sequence.closing
