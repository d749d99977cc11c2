"""The kinds of answer, as plain data: `parsing` reads them, `comparison` compares them."""

from __future__ import annotations

from dataclasses import dataclass

from training.grading.quantities import NO_UNIT, Quantity, Unit


@dataclass(frozen=True)
class Choice:
    """A choice letter: `B`, `(b)`, `B. 24`."""

    letter: str


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
    """The variable of an inequality that was read as an interval."""


@dataclass(frozen=True)
class Values:
    """Several values, in any order: a set, a list, "2 or 3"."""

    items: tuple[Answer, ...]


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


Answer = Choice | Quantity | Formula | Words | Label | Sequence | Values | Ratio | Equality | Relation
