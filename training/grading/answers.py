"""The kinds of answer, as plain data: `parsing` reads them, `comparison` compares them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from training.grading.quantities import NO_UNIT, Quantity, Unit


@dataclass(frozen=True)
class Choice:
    """A choice letter: `B`, `(b)`, `B. 24`."""

    letter: str
    text: str = ""
    """The option's text, where the answer gives it."""


@dataclass(frozen=True)
class Literal:
    """Text compared as it is written, never worked out: a date, a number in another base, a phone number, `5th`."""

    kind: str
    value: str


@dataclass(frozen=True)
class Time:
    """A time of day or a duration written `H:MM` or `H:MM:SS`."""

    seconds: int
    """As written, counted from 0:00."""
    half: str = ""
    """`am`, `pm`, or empty where the answer does not say."""


@dataclass(frozen=True)
class Range:
    """`10-15`, `10 to 15`; also a score."""

    low: Fraction
    high: Fraction
    unit: Unit
    is_spelled: bool = False
    """Written with `to`, which may mean a ratio."""


@dataclass(frozen=True)
class Size:
    """`2 × 3`, `5 cm by 7 cm`: lengths that are not multiplied out."""

    lengths: tuple[Quantity, ...]


@dataclass(frozen=True)
class Formula:
    """Mathematics that only math-verify can judge: `2\\sqrt{3}`, `x^2 + 1`."""

    text: str
    unit: Unit = NO_UNIT


@dataclass(frozen=True)
class Words:
    """Anything else; compared letter by letter."""

    text: str
    """Lower case, without articles and closing punctuation."""
    lead: str = ""
    """Of a sentence, what stands before its `is`; `text` is then what stands after."""


@dataclass(frozen=True)
class Label:
    """The name of a figure by its points: `AB`, `\\angle ABC`, `triangle ABC`."""

    figure: str
    """`segment`, `line`, `ray`, `angle`, `triangle`, …; empty where the answer does not say."""
    points: tuple[str, ...]


@dataclass(frozen=True)
class Sequence:
    """Values in order between brackets, in which order and brackets count: a point, a vector, an interval."""

    opening: str
    items: tuple[Answer, ...]
    closing: str
    name: str = ""
    """The variable of an inequality that was read as an interval, or the letter of a point `A(1, 2)`."""
    relation: tuple[str, str] | None = None
    """Its two sides, the smaller first, where the inequality has only two."""


@dataclass(frozen=True)
class Values:
    """Several values: a set, a list, "2 or 3"."""

    items: tuple[Answer, ...]
    is_ordered: bool = False
    """True for rankings and after `respectively`; else the values stand in any order."""


@dataclass(frozen=True)
class Labelled:
    """Values that belong to labels: `mean: 5, median: 6`, `(a) 5, (b) 7`."""

    items: tuple[tuple[str, Answer], ...]


@dataclass(frozen=True)
class Restated:
    """One value said twice: `5\\sqrt{3} ≈ 8.66`, `1/2 (0.5)`."""

    value: Answer
    again: str
    is_rounded: bool
    """True if `again` is a rounded decimal."""


@dataclass(frozen=True)
class Ratio:
    """`2:3`, `2 to 3`, `1:2:\\sqrt{3}`; two to five terms."""

    terms: tuple[str, ...]


@dataclass(frozen=True)
class Equality:
    """`x = 24`, `12 + 12 = 24`, `x^2 + y^2 = 25`: sides that are said to be equal."""

    name: str
    """The name on the left, without spaces (`x`, `AB`, `m\\angle ABC`); empty where no side is just a name."""
    sides: tuple[Answer, ...]
    texts: tuple[str, ...]
    """The sides as text, the name left out."""


@dataclass(frozen=True)
class Relation:
    """Two sides and `<`, `\\le`, `\\ne`, `\\parallel` or `\\perp` between them (`>` turned round)."""

    operator: str
    left: str
    right: str


Answer = (
    Choice
    | Quantity
    | Formula
    | Words
    | Label
    | Literal
    | Time
    | Range
    | Size
    | Sequence
    | Values
    | Labelled
    | Restated
    | Ratio
    | Equality
    | Relation
)
