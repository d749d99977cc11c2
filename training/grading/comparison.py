r"""Compares two clean answers, kind by kind; what only mathematics can decide is asked of `equal`.

    >>> compare("{1, 2}", "2 and 1", equal=lambda gold, answer, relation: gold == answer)
    (True, 'the same values')

The gold decides how: a choice letter is compared as a letter, a point in order, a set in any order, a date or a time as
it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from fractions import Fraction

from training.grading.answers import (
    Answer,
    Choice,
    Equality,
    Formula,
    Label,
    Labelled,
    Literal,
    Range,
    Ratio,
    Relation,
    Restated,
    Sequence,
    Size,
    Time,
    Values,
    Words,
)
from training.grading.cleaning import to_latex
from training.grading.parsing import bare, choice_letter, is_plain_lead, parse, read_choice, words
from training.grading.quantities import (
    NO_UNIT,
    PERCENT,
    Quantity,
    Unit,
    read_number,
    same_dimension,
    same_quantity,
    singular,
)

Equal = Callable[[str, str, str], bool]
"""`equal(gold, answer, relation)` for two formulas in LaTeX; the relations are those of `math_worker.compare`."""

RULES: dict[type, tuple[str, str]] = {
    Choice: ("same choice", "different choice"),
    Quantity: ("equal numbers", "different numbers"),
    Formula: ("equal mathematics", "different mathematics"),
    Words: ("same words", "different words"),
    Label: ("names the same", "names something else"),
    Literal: ("the same as written", "not the same as written"),
    Time: ("the same time", "a different time"),
    Range: ("the same range", "a different range"),
    Size: ("the same size", "a different size"),
    Sequence: ("equal in order and brackets", "different in order, brackets or values"),
    Values: ("the same values", "not the same values"),
    Labelled: ("the same values by label", "different values or labels"),
    Restated: ("equal numbers", "different numbers"),
    Ratio: ("equal ratios", "different ratios"),
    Equality: ("the same equation", "a different equation"),
    Relation: ("the same relation", "a different relation"),
}
"""What a verdict calls agreement and disagreement with a gold of each kind."""
TRUTHS = {"yes": True, "true": True, "no": False, "false": False, "是": True, "是的": True, "对": True, "否": False}
_TRUTH_WORDS = {**TRUTHS, "nope": False, "yeah": True, "yep": True, "correct": True, "not true": False, "不是": False}
_TRUTH = re.compile(
    rf"({'|'.join(sorted(_TRUTH_WORDS, key=len, reverse=True))})"
    r"(?:(?:\s*[,.;:!–—-]|\s(?=because|since|they|it|the)\b)\s*(.*))?"
)
_NO_TRUTH = re.compile(r"\b(?:yes|no|true|false|or|maybe|wait|actually|but|nope|wrong|kidding)\b")
_SPELLINGS = {
    "grey": "gray",
    "colour": "color",
    "centre": "center",
    "metre": "meter",
    "litre": "liter",
    "fibre": "fiber",
    "favourite": "favorite",
    "neighbour": "neighbor",
    "aeroplane": "airplane",
    "tyre": "tire",
    "catalogue": "catalog",
    "side angle side": "sas",
    "side side side": "sss",
    "angle side angle": "asa",
    "angle angle side": "aas",
    "angle angle": "aa",
    "hypotenuse leg": "hl",
    "no solutions": "no solution",
    "empty set": "no solution",
    "\\emptyset": "no solution",
    "\\varnothing": "no solution",
    "all reals": "all real numbers",
    "all real number": "all real numbers",
    "\\mathbb{r}": "all real numbers",
    "cannot be determine": "cannot be determined",
}
_SPELLING = re.compile("|".join(rf"\b{word}" for word in _SPELLINGS if word.isalpha() and len(word) > 3))
_CORRESPONDENCES = ("\\cong", "\\sim")


def compare(
    gold: str,
    answer: str,
    equal: Equal,
    options: Mapping[str, str] | None = None,
    is_ratio: bool = False,
    tolerance: Fraction = Fraction(0),
) -> tuple[bool, str]:
    """True if two clean answers are the same, and the rule that decided, in words a user may read.

    `options` are the problem's options by letter, if it has any; `is_ratio` says that it asks for a ratio; `tolerance`
    is the relative error that a number may have.
    """
    if not answer:
        return False, "no answer"
    if not gold:
        return False, "no expected answer"
    expected = _parse_gold(gold, is_ratio)
    agree, differ = RULES[type(expected)]
    comparison = _Comparison(equal, is_ratio, tolerance)
    by_letter = _by_letter(gold, expected, answer, options or {}, _Comparison(equal, is_ratio))
    if by_letter is not None:
        return by_letter
    if words(gold) in TRUTHS:
        truth = _truth(answer)
        return truth is TRUTHS[words(gold)], "same words" if truth is TRUTHS[words(gold)] else "different words"
    actual = parse(answer, is_ratio)
    in_words = isinstance(expected, Words | Label) and words(gold) and words(gold) == words(answer)
    if (gold == answer or in_words) and not isinstance(expected, Quantity):
        return True, agree if isinstance(expected, Label | Values | Sequence | Ratio) else "same words"
    if isinstance(actual, Values) and not isinstance(expected, Values | Sequence | Relation | Labelled):
        again = re.split(r"\s+or\s+", answer)
        if len(again) == 2 and again[0] != again[1] and all(comparison.same(expected, item) for item in actual.items):
            return True, agree
        return False, "several values where one is expected"
    same = comparison.same(expected, actual) and not _is_or_for_and(gold, answer, expected)
    return same, agree if same else differ


def _by_letter(
    gold: str, expected: Answer, answer: str, options: Mapping[str, str], comparison: _Comparison
) -> tuple[bool, str] | None:
    """The verdict where the gold is a choice, or the text of one of the problem's options; else `None`."""
    agree, differ = RULES[Choice]
    if isinstance(expected, Formula) and re.fullmatch(r"[a-j]", expected.text) and expected.text.upper() in options:
        expected = Choice(expected.text.upper())
    if (
        isinstance(expected, Choice)
        and re.fullmatch(r"[A-Za-z]\. [A-Za-z]{3,}", gold)
        and expected.letter not in options
    ):
        choice = read_choice(bare(answer))  # `E. coli` is a name
        same = choice is not None and (choice.letter, words(choice.text)) == (expected.letter, words(expected.text))
        return same, agree if same else differ
    if isinstance(expected, Formula) and re.fullmatch(r"[a-h]", expected.text):
        choice = read_choice(bare(answer)) or (Choice(answer.upper()) if re.fullmatch(r"[a-z]", answer) else None)
        if choice and (choice.text or not re.fullmatch(r"[A-Z]", answer)):
            return choice.letter == expected.text.upper(), agree if choice.letter == expected.text.upper() else differ
    if isinstance(expected, Choice):
        if expected.letter in ("T", "F") and len(gold) == 1 and words(answer) in ("true", "false"):
            same = words(answer) == {"T": "true", "F": "false"}[expected.letter]
            return same, agree if same else differ
        letter, text = _letter(answer)
        if letter is None and (match := re.fullmatch(r"\(?([A-Z])[).:]\s*(.+)", answer)):
            is_option = match[1] in options and canonical_words(options[match[1]]) == canonical_words(match[2])
            letter = match[1] if is_option else None
        if letter is None and options:
            letter = _option_letter(answer, options, comparison)
        text_of_gold = expected.text or options.get(expected.letter, "")
        if letter == expected.letter and text and text_of_gold and not comparison.same_texts(text_of_gold, text):
            return False, "the letter is right, its text is another option's"
        return letter == expected.letter, agree if letter == expected.letter else differ if letter else "not one choice"
    choice = read_choice(bare(answer))
    if re.fullmatch(r"[a-j]", answer) and answer.upper() in options and answer not in options.values():
        choice = Choice(answer.upper())
    if choice is None or isinstance(expected, Label | Labelled | Equality):
        return None
    if choice.letter in options and (len(options) > 1):
        text_of_choice = options[choice.letter]
        same = comparison.same_texts(gold, text_of_choice) and (
            not choice.text or comparison.same_texts(gold, choice.text)
        )
        return same, agree if same else differ
    if choice.text and not re.fullmatch(r"[A-Za-z],? .*", answer):
        same = comparison.same_texts(gold, choice.text)
        return same, RULES[type(expected)][0 if same else 1]
    return None


def _letter(answer: str) -> tuple[str | None, str]:
    """The one choice that an answer makes, also at the end of a sentence ("I choose B" is none, "It is B" is)."""
    choice = read_choice(bare(answer))
    if choice is None and re.fullmatch(r"[a-z]", answer):
        return answer.upper(), ""
    if choice is None:
        actual = parse(answer)
        choice = actual if isinstance(actual, Choice) else None
        if isinstance(actual, Label) and actual.figure == "point" and len(actual.points) == 1:
            return actual.points[0], ""
    return (choice.letter, choice.text) if choice else (choice_letter(answer), "")


def _option_letter(answer: str, options: Mapping[str, str], comparison: _Comparison) -> str | None:
    """The letter of the one option whose text the answer is."""
    letters = [letter for letter, text in options.items() if comparison.same_texts(text, answer)]
    return letters[0] if len(letters) == 1 else None


def _truth(answer: str) -> bool | None:
    """The yes or no of an answer, perhaps with an explanation after it that does not take it back."""
    actual = parse(answer)
    text = words(answer)
    match = _TRUTH.fullmatch(text) or (_TRUTH.fullmatch(actual.text) if isinstance(actual, Words) else None)
    if match is None or _NO_TRUTH.search(match[2] or ""):
        return None
    if isinstance(actual, Words) and actual.lead and not is_plain_lead(actual.lead):
        return None
    return _TRUTH_WORDS[match[1]]


def canonical_words(text: str) -> str:
    """Words to compare whatever the spelling: one spelling of English, the last word in the singular."""
    text = words(text)
    text = _SPELLING.sub(lambda match: _SPELLINGS[match[0]], text)
    text = re.sub(r"(?<=[a-z]) ones?$|^quadrant (?=[iv]+$)", "", text)
    text = _SPELLINGS.get(text, text)
    first, _, last = text.rpartition(" ")
    return re.sub(r"[\s_]", "", f"{first} {singular(last)}")


def same_label(gold: Label, answer: Label) -> bool:
    """True if two names name one figure.

    `AB` and `BA` are one segment but two rays; an angle has its vertex in the middle; a triangle's corners stand in
    any order; a polygon's may start anywhere and run either way. The kind of figure may be left out, not changed. Three
    letters or more with no kind of figure may be an order, so they are only equal as written.
    """
    if gold.figure and answer.figure and gold.figure != answer.figure:
        return False
    one, other = gold.points, answer.points
    figures = {gold.figure, answer.figure}
    if one == other:
        return True
    if len(one) != len(other) or "ray" in figures or (figures == {""} and len(one) > 2):
        return False
    if "triangle" in figures:
        return set(one) == set(other)
    if len(one) <= 3:
        return one == other[::-1]
    turns = [other[i:] + other[:i] for i in range(len(other))]
    return one in turns or one[::-1] in turns


def _same_figure(gold: Answer, answer: Answer) -> bool:
    """True for two names of one figure; a point may be written as a choice letter."""
    if isinstance(gold, Label) and isinstance(answer, Choice):
        return gold.points == (answer.letter,)
    return isinstance(gold, Label) and isinstance(answer, Label) and same_label(gold, answer)


def same_name(gold: str, answer: str) -> bool:
    """True if two names may mean one thing: `x` and `y` do not, `AB` and `BA` do; a name may be left out.

    Words ("perimeter", "Area of ABC") are not compared.
    """
    plain = [
        re.sub(r"^m(?=\\)|\\(?:angle|overline|triangle|measuredangle|[lr]vert)|[{}|]", "", name)
        for name in (gold, answer)
    ]
    if not all(plain) or any(re.fullmatch(r"[A-Za-z]*[a-z]{2,}[A-Za-z]*", name) for name in plain):
        return True
    return plain[0] == plain[1] or (plain[0].isupper() and plain[0] == plain[1][::-1])


class _Comparison:
    """One comparison; `equal` may raise to end it."""

    def __init__(self, equal: Equal, is_ratio: bool = False, tolerance: Fraction = Fraction(0)) -> None:
        self._equal = equal
        self._tolerance = tolerance
        self._is_ratio = is_ratio

    def same_texts(self, gold: str, answer: str) -> bool:
        """True if two clean texts, such as those of options, are the same answer."""
        if canonical_words(gold) == canonical_words(answer):
            return True
        expected, actual = _parse_gold(gold, self._is_ratio), parse(answer, self._is_ratio)
        is_other = isinstance(actual, Values) and not isinstance(expected, Values | Sequence)
        is_other |= _is_or_for_and(gold, answer, expected)
        return not is_other and not isinstance(expected, Choice) and self.same(expected, actual)

    def same(self, gold: Answer, answer: Answer) -> bool:
        """True if two read answers are the same."""
        match gold, answer:
            case (Restated(), _):
                return self.same(gold.value, answer)
            case (_, Restated()):
                return self.same(gold, answer.value) and self._says_again(gold, answer)
            case (Equality(), _):
                return self._same_equality(gold, answer)
            case (_, Equality()):
                if isinstance(gold, Sequence | Labelled | Range | Size | Literal) and not answer.name:
                    return False
                if isinstance(gold, Sequence) and not same_name(gold.name, answer.name):
                    return False
                return all(self.same(gold, side) for side in answer.sides)
            case (Quantity() | Formula() | Ratio(), _):
                return self._same_number(gold, answer)
            case (Sequence() | Labelled() | Values(), _):
                return self._same_collection(gold, answer)
            case (Label(), _) | (_, Label()):
                return _same_figure(gold, answer)
            case (Literal(), Literal()):
                return gold == answer
            case (Time(), Time()):
                return _same_time(gold, answer)
            case (Range(), Range()):
                return _same_range(gold, answer)
            case (Size(), Size()):
                return _same_size(gold, answer)
            case (Relation(), Relation()):
                return self._same_relation(gold, answer)
            case (Words(), Words()):
                is_same_lead = gold.lead == answer.lead or not (gold.lead and answer.lead)
                return canonical_words(gold.text) == canonical_words(answer.text) and is_same_lead and bool(gold.text)
            case (Choice(), Choice()):
                return gold.letter == answer.letter
        return False

    def _same_number(self, gold: Quantity | Formula | Ratio, answer: Answer) -> bool:
        """True if a number, a formula or a ratio is the same as an answer of any kind."""
        match gold, answer:
            case (Quantity(), Quantity()):
                return same_quantity(gold.value, gold.unit, answer.value, answer.unit, self._tolerance)
            case (Quantity() | Formula(), Quantity() | Formula()):
                return self._same_mathematics(_text(gold), gold.unit, _text(answer), answer.unit)
            case (Ratio(), Range()) if answer.is_spelled:
                return self._same_ratio(gold.terms, (str(answer.low), str(answer.high)))
            case (Ratio(), Ratio()):
                return self._same_ratio(gold.terms, answer.terms)
            case (Ratio(), Quantity() | Formula()) if len(gold.terms) == 2 and answer.unit == NO_UNIT:
                return self._same_ratio(gold.terms, (_text(answer), "1"))
            case (Quantity() | Formula(), Ratio()) if len(answer.terms) == 2 and gold.unit == NO_UNIT:
                return self._same_ratio((_text(gold), "1"), answer.terms)
            case (Formula(), Label()):
                return (gold.text,) == answer.points
        return False

    def _same_collection(self, gold: Sequence | Labelled | Values, answer: Answer) -> bool:
        """True if several values are the same as an answer of any kind."""
        match gold, answer:
            case (Sequence(), Sequence()):
                return self._same_sequence(gold, answer)
            case (Sequence(), Relation()):
                return self._same_inequality(gold, answer)
            case (Sequence(), Labelled()):
                return self._same_coordinates(gold, answer)
            case (Labelled(), Sequence()):
                return self._same_coordinates(answer, gold)
            case (Labelled(), Labelled()):
                return self._same_labelled(gold, answer)
            case (Labelled(), Values()) if _are_variables(gold) and not answer.is_ordered:
                return self._same_in_order([value for _, value in gold.items], answer.items)
            case (Values(), Labelled()) if _are_roots(answer):
                return self._same_values(gold.items, tuple(value for _, value in answer.items))
            case (Values(), Values()):
                if gold.is_ordered:
                    return self._same_in_order(gold.items, answer.items)
                groups = _groups(gold), _groups(answer)
                if groups[0]:
                    return self._same_values(*groups)
                if _num_units(gold) > 1 and _num_units(answer) == 0:
                    return False
                return self._same_values(gold.items, answer.items)
        return False

    def _same_in_order(self, gold: Collection[Answer], answer: Collection[Answer]) -> bool:
        return len(gold) == len(answer) and all(self.same(g, a) for g, a in zip(gold, answer))

    def _says_again(self, gold: Answer, answer: Restated) -> bool:
        """True if what an answer says again is the gold too: rounded, or the same."""
        number = read_number(answer.again)
        if number is None:
            return False
        if (
            not answer.is_rounded
            or isinstance(gold, Quantity)
            and same_quantity(gold.value, gold.unit, number.value, number.unit)
        ):
            return self.same(gold, number)
        places = len(answer.again.partition(".")[2].split(" ")[0])
        gap = Fraction(1, 10 ** min(places, 30))
        if isinstance(gold, Quantity):
            return abs(gold.value - number.value) < gap
        return isinstance(gold, Formula) and self._equal(to_latex(gold.text), _text(number), f"within {places}")

    def _same_mathematics(self, gold: str, gold_unit: Unit, answer: str, unit: Unit) -> bool:
        if {gold_unit.dimension, unit.dimension} == {"°", "rad"}:
            gold, answer = (
                f"({t}) \\cdot \\frac{{\\pi}}{{180}}" if u.dimension == "°" else t
                for t, u in ((gold, gold_unit), (answer, unit))
            )
            return self._equals(gold, answer)
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
        if isinstance(answer, Sequence) and not same_name(gold.name, answer.name):
            return False
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
        if gold.operator in _CORRESPONDENCES:
            return _same_correspondence(gold, answer)
        relation = "multiple" if gold.operator == "\\ne" else "positive multiple"
        expected, actual = (to_latex(f"({r.left})-({r.right})") for r in (gold, answer))
        return self._equal(expected, actual, relation)

    def _same_inequality(self, gold: Sequence, answer: Relation) -> bool:
        """A solved inequality with terms moved across (`x - 3 > 0`), not one still to be divided (`2x > 6`)."""
        operator = "\\le" if "[" in _ends(gold) or "]" in _ends(gold) else "<"
        if gold.relation is None or answer.operator != operator:
            return False
        expected, actual = to_latex("({})-({})".format(*gold.relation)), to_latex(f"({answer.left})-({answer.right})")
        return self._equal(expected, actual, "equal")

    def _same_sequence(self, gold: Sequence, answer: Sequence) -> bool:
        """The same brackets (a vector's are a point's), the same values in the same order."""
        if (
            _ends(gold) != _ends(answer)
            or len(gold.items) != len(answer.items)
            or not same_name(gold.name, answer.name)
        ):
            return False
        return all(self.same(g, a) for g, a in zip(gold.items, answer.items))

    def _same_coordinates(self, point: Sequence, values: Labelled) -> bool:
        """A point and its coordinates by name, `x = 1, y = 2`, in the order of the alphabet."""
        if not _are_variables(values) or _ends(point) != ("(", ")") or len(values.items) != len(point.items):
            return False
        return all(self.same(g, a) for g, (_, a) in zip(point.items, values.items))

    def _same_labelled(self, gold: Labelled, answer: Labelled) -> bool:
        """The same labels with the same values, in any order."""
        values = dict(answer.items)
        if len(gold.items) != len(answer.items) or {key.lower() for key, _ in gold.items} != {
            k.lower() for k in values
        }:
            return False
        lower = {key.lower(): value for key, value in answer.items}
        return all(self.same(value, values.get(key, lower[key.lower()])) for key, value in gold.items)

    def _same_values(self, gold: tuple[Answer, ...], answer: tuple[Answer, ...]) -> bool:
        """One to one in any order."""
        if len(gold) != len(answer):
            return False
        rest = list(answer)
        for expected in gold:  # being the same is transitive, so the first match is as good as any
            index = next((i for i, actual in enumerate(rest) if self.same(expected, actual)), None)
            if index is None:
                return False
            rest.pop(index)
        return True

    def _same_ratio(self, gold: tuple[str, ...], answer: tuple[str, ...]) -> bool:
        """Term by term, each product across: `a:b = c:d` where `ad = bc`; a ratio with a zero is only itself."""
        if len(gold) != len(answer):
            return False
        numbers = [[read_number(term) for term in ratio] for ratio in (gold, answer)]
        if all(number for ratio in numbers for number in ratio):
            expected, actual = ([number.value for number in ratio if number] for ratio in numbers)
            if not all((*expected, *actual)):
                return expected == actual
            return all(expected[0] * g == actual[0] * w for w, g in zip(expected, actual))
        if any(self._equals(term, "0") for ratio in (gold, answer) for term in ratio):
            return gold == answer
        pairs = zip(gold[1:], answer[1:])
        return all(self._equals(f"({gold[0]}) \\cdot ({g})", f"({answer[0]}) \\cdot ({w})") for w, g in pairs)


def _same_time(gold: Time, answer: Time) -> bool:
    """One time of day; `am` and `pm` may be left out or added, and the clock may have 24 hours."""
    if not gold.half and not answer.half:
        return gold.seconds == answer.seconds
    if (gold.half and answer.half) or max(gold.seconds, answer.seconds) >= 13 * 3600:
        return _seconds_of_day(gold) == _seconds_of_day(answer)
    return gold.seconds == answer.seconds


def _seconds_of_day(time: Time) -> int:
    hours = time.seconds // 3600
    if not time.half:
        return time.seconds
    return time.seconds % 3600 + (hours % 12 + (12 if time.half == "pm" else 0)) * 3600


def _same_range(gold: Range, answer: Range) -> bool:
    ends = ((gold.low, answer.low), (gold.high, answer.high))
    return all(same_quantity(g, gold.unit, a, answer.unit) for g, a in ends)


def _same_size(gold: Size, answer: Size) -> bool:
    """The same lengths: in any order where both have units, else as written (a matrix has rows by columns)."""
    if len(gold.lengths) != len(answer.lengths):
        return False

    def same(one: tuple[Quantity, ...], other: tuple[Quantity, ...]) -> bool:
        return all(same_quantity(g.value, g.unit, a.value, a.unit) for g, a in zip(one, other))

    if same(gold.lengths, answer.lengths):
        return True
    has_units = all(length.unit != NO_UNIT for length in (*gold.lengths, *answer.lengths))
    ordered = [tuple(sorted(s.lengths, key=lambda q: q.value * q.unit.factor)) for s in (gold, answer)]
    return has_units and same(*ordered)


def _same_correspondence(gold: Relation, answer: Relation) -> bool:
    """Two congruences of triangles that pair the same corners: ABC ≅ DEF is BAC ≅ EDF."""
    figures = [[parse(side) for side in (r.left, r.right)] for r in (gold, answer)]
    pairs = []
    for left, right in figures:
        if not (isinstance(left, Label) and isinstance(right, Label)) or len(left.points) != len(right.points):
            return False
        pairs.append({frozenset(pair) for pair in zip(left.points, right.points)})
    return pairs[0] == pairs[1]


def _are_variables(values: Labelled) -> bool:
    """True if the labels are variables in the order of the alphabet, so that the values may stand without them."""
    keys = [key for key, _ in values.items]
    return all(re.fullmatch(r"[a-z]", key) for key in keys) and keys == sorted(keys) and keys[0] >= "m"


def _groups(values: Values) -> tuple[Labelled, ...]:
    """The solutions in `x = 1, y = 2 or x = 3, y = 4`: a name that comes again begins one; empty for one variable."""
    groups: list[dict[str, Answer]] = [{}]
    for item in values.items:
        if not isinstance(item, Equality) or not item.name:
            return ()
        if item.name in groups[-1]:
            groups.append({})
        groups[-1][item.name] = item
    return tuple(Labelled(tuple(group.items())) for group in groups) if len(groups[0]) > 1 else ()


def _parse_gold(gold: str, is_ratio: bool) -> Answer:
    """A gold; `none` is a word, though as an answer it may say 0."""
    return Words("none") if words(gold) == "none" else parse(gold, is_ratio)


def _is_or_for_and(gold: str, answer: str, expected: Answer) -> bool:
    """True if an answer leaves open (`I or II`) which of the names and words of its gold hold (`I and II`)."""
    is_named = isinstance(expected, Values) and all(isinstance(item, Words | Label | Choice) for item in expected.items)
    return is_named and bool(re.search(r"\bor\b", answer)) and not re.search(r"\bor\b", gold)


def _num_units(values: Values) -> int:
    """The number of different units or nouns of the values: `7 apples and 8 oranges` has two, which are labels."""
    return len({item.unit.dimension for item in values.items if isinstance(item, Quantity)} - {""})


def _are_roots(values: Labelled) -> bool:
    """True if the labels are one variable with indices, `x_1 = 2, x_2 = 3`."""
    return len({key[0] for key, _ in values.items}) == 1 and all(
        re.fullmatch(r"[a-z]_?[0-9]", key) for key, _ in values.items
    )


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
