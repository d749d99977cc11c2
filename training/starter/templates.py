"""The questions of the starter problems: for each kind of picture, what is asked, how to reason, and the answer."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

KINDS = ("digits", "bars", "shapes", "figures")
LETTERS = "ABCD"


@dataclass(frozen=True)
class Question:
    """A question about known values, the reasoning that solves it, and its answer."""

    text: str
    reasoning: str
    answer: str
    hidden: int | None = None
    """Which label of a figure shows a question mark."""
    rivals: tuple[str, ...] = ()
    """Three answers to draw wrong options from, where the wording itself says something about the right one."""


@dataclass(frozen=True)
class Template:
    """One way to ask about one kind of picture."""

    name: str
    kind: str
    ask: Callable[[tuple, random.Random], Question]
    sizes: tuple[int, ...] = ()
    """How many digits, bars or groups of shapes the picture has."""
    figure: str = ""
    fits: Callable[[tuple], bool] = lambda values: True


def _listing(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def _number(value: Fraction | int) -> str:
    """A whole number or a decimal (halves only)."""
    value = Fraction(value)
    return str(value.numerator) if value.denominator == 1 else f"{float(value):g}"


def _sum_steps(numbers: list[int]) -> str:
    steps, total = [], numbers[0]
    for number in numbers[1:]:
        steps.append(f"{total} + {number} = {total + number}.")
        total += number
    return " ".join(steps)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def choose(options: Sequence[str], answer: str) -> tuple[str, str]:
    """The letter of `answer` among lettered options, and the reasoning: each is read until one fits."""
    place = options.index(answer)
    read = " ".join(f"{letter} is {option}." for letter, option in zip(LETTERS, options[: place + 1]))
    return LETTERS[place], f"{read} That is choice {LETTERS[place]}."


def lettered(question: str, options: Sequence[str]) -> str:
    """The question with its options, one a line."""
    return f"{question}\nChoices:\n" + "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options))


# Handwritten digits


def _digits_read(digits: tuple) -> str:
    return f"The digits are {_listing([str(d) for d in digits])}."


def _digits_sum(digits: tuple, rng: random.Random) -> Question:
    text = rng.choice(["What is the sum of the handwritten digits?", "Add the handwritten digits. What do you get?"])
    return Question(text, f"{_digits_read(digits)} {_sum_steps(list(digits))}", str(sum(digits)))


def _digits_difference(digits: tuple, rng: random.Random) -> Question:
    high, low = max(digits), min(digits)
    text = rng.choice(
        [
            "Subtract the smaller digit from the larger one. What is left?",
            "What is the difference of the two handwritten digits?",
        ]
    )
    return Question(text, f"{_digits_read(digits)} {high} - {low} = {high - low}.", str(high - low))


def _digits_largest(digits: tuple, rng: random.Random) -> Question:
    word, pick = rng.choice([("largest", max), ("smallest", min)])
    text = f"Which of the handwritten digits is the {word}?"
    rivals = tuple(str(pick(rng.sample(range(10), len(digits)))) for _ in range(3))
    answer = str(pick(digits))
    return Question(text, f"{_digits_read(digits)} The {word} is {answer}.", answer, rivals=rivals)


# Bar charts


def _two_bars(heights: tuple, rng: random.Random) -> tuple[str, int, str, int]:
    first, second = rng.sample(range(len(heights)), 2)
    return "ABCD"[first], heights[first], "ABCD"[second], heights[second]


def _bars_read(heights: tuple, rng: random.Random) -> Question:
    i = rng.randrange(len(heights))
    text = rng.choice([f"What is the value of bar {'ABCD'[i]}?", f"How high is bar {'ABCD'[i]}?"])
    return Question(text, f"Bar {'ABCD'[i]} is {heights[i]}.", str(heights[i]))


def _bars_sum(heights: tuple, rng: random.Random) -> Question:
    a, x, b, y = _two_bars(heights, rng)
    text = rng.choice([f"What do bars {a} and {b} add up to?", f"What is the sum of bars {a} and {b}?"])
    return Question(text, f"Bar {a} is {x}. Bar {b} is {y}. {x} + {y} = {x + y}.", str(x + y))


def _bars_difference(heights: tuple, rng: random.Random) -> Question:
    a, x, b, y = _two_bars(heights, rng)
    if x < y:
        a, x, b, y = b, y, a, x
    text = rng.choice([f"How much higher is bar {a} than bar {b}?", f"By how much is bar {a} above bar {b}?"])
    return Question(text, f"Bar {a} is {x}. Bar {b} is {y}. {x} - {y} = {x - y}.", str(x - y))


def _bars_average(heights: tuple, rng: random.Random) -> Question:
    a, x, b, y = _two_bars(heights, rng)
    answer = _number(Fraction(x + y, 2))
    text = f"What is the average of bars {a} and {b}?"
    return Question(text, f"Bar {a} is {x}. Bar {b} is {y}. {x} + {y} = {x + y}. {x + y} / 2 = {answer}.", answer)


# Coloured shapes


def _name(group: tuple) -> str:
    return f"{group[0]} {group[1]}"


def _shapes_count(groups: tuple, rng: random.Random) -> Question:
    group = rng.choice(groups)
    text = rng.choice([f"How many {_name(group)}s are there?", f"Count the {_name(group)}s."])
    return Question(text, f"There {'is' if group[2] == 1 else 'are'} {_plural(group[2], _name(group))}.", str(group[2]))


def _shapes_pair(groups: tuple, rng: random.Random) -> tuple[tuple, tuple, str]:
    one, two = rng.sample(groups, 2)
    read = f"There {'is' if one[2] == 1 else 'are'} {_plural(one[2], _name(one))} and {_plural(two[2], _name(two))}."
    return one, two, read


def _shapes_sum(groups: tuple, rng: random.Random) -> Question:
    one, two, read = _shapes_pair(groups, rng)
    text = f"How many {_name(one)}s and {_name(two)}s are there together?"
    return Question(text, f"{read} {one[2]} + {two[2]} = {one[2] + two[2]}.", str(one[2] + two[2]))


def _shapes_more(groups: tuple, rng: random.Random) -> Question:
    one, two, read = _shapes_pair(groups, rng)
    if one[2] < two[2]:
        one, two = two, one
        read = f"There are {_plural(one[2], _name(one))} and {_plural(two[2], _name(two))}."
    text = f"How many more {_name(one)}s than {_name(two)}s are there?"
    return Question(text, f"{read} {one[2]} - {two[2]} = {one[2] - two[2]}.", str(one[2] - two[2]))


def _shapes_fraction(groups: tuple, rng: random.Random) -> Question:
    counts = [group[2] for group in groups]
    total = sum(counts)
    group = rng.choice([g for g in groups if math.gcd(g[2], total) == 1])
    read = f"There {'is' if counts[0] == 1 else 'are'} {_listing([_plural(g[2], _name(g)) for g in groups])}."
    text = f"What fraction of the shapes are {_name(group)}s?"
    return Question(text, f"{read} {_sum_steps(counts)} The fraction is {group[2]}/{total}.", f"{group[2]}/{total}")


def _has_plain_fraction(groups: tuple) -> bool:
    total = sum(group[2] for group in groups)
    return any(math.gcd(group[2], total) == 1 for group in groups)


# Rectangles and triangles


def _rectangle_perimeter(values: tuple, rng: random.Random) -> Question:
    _, a, b = values
    return Question(
        "What is the perimeter of the rectangle?",
        f"The sides are {a} and {b}. {a} + {b} = {a + b}. 2 × {a + b} = {2 * (a + b)}.",
        str(2 * (a + b)),
    )


def _rectangle_area(values: tuple, rng: random.Random) -> Question:
    _, a, b = values
    return Question(
        "What is the area of the rectangle?", f"The sides are {a} and {b}. {a} × {b} = {a * b}.", str(a * b)
    )


def _rectangle_missing(values: tuple, rng: random.Random) -> Question:
    hidden = rng.randrange(2)
    known, answer = values[2 - hidden], values[1 + hidden]
    half = known + answer
    possible = range(max(2, half - 12), min(12, half - 2) + 1)
    return Question(
        f"The perimeter of the rectangle is {2 * half}. How long is the side marked with a question mark?",
        f"The known side is {known}. {2 * half} / 2 = {half}. {half} - {known} = {answer}.",
        str(answer),
        hidden,
        tuple(str(rng.choice(possible)) for _ in range(3)),
    )


def _triangle_area(values: tuple, rng: random.Random) -> Question:
    _, a, b = values
    answer = _number(Fraction(a * b, 2))
    return Question(
        "What is the area of the right triangle?",
        f"The legs are {a} and {b}. {a} × {b} = {a * b}. {a * b} / 2 = {answer}.",
        answer,
    )


def _triangle_perimeter(values: tuple, rng: random.Random) -> Question:
    sides = list(values[1:])
    read = f"The sides are {_listing([str(s) for s in sides])}."
    return Question("What is the perimeter of the triangle?", f"{read} {_sum_steps(sides)}", str(sum(sides)))


def _triangle_angle(values: tuple, rng: random.Random) -> Question:
    hidden = rng.randrange(3)
    a, b = (v for i, v in enumerate(values[1:]) if i != hidden)
    answer = values[1 + hidden]
    return Question(
        "How many degrees has the angle marked with a question mark?",
        f"The known angles are {a} and {b}. {a} + {b} = {a + b}. 180 - {a + b} = {answer}.",
        str(answer),
        hidden,
    )


def _is_triangle(values: tuple) -> bool:
    short, middle, long = sorted(values[1:])
    return short + middle > long


TEMPLATES: tuple[Template, ...] = (
    Template("digits-sum", "digits", _digits_sum, sizes=(2, 3)),
    Template("digits-difference", "digits", _digits_difference, sizes=(2,)),
    Template("digits-largest", "digits", _digits_largest, sizes=(2, 3), fits=lambda v: len(set(v)) == len(v)),
    Template("bars-read", "bars", _bars_read, sizes=(3, 4)),
    Template("bars-sum", "bars", _bars_sum, sizes=(3, 4)),
    Template("bars-difference", "bars", _bars_difference, sizes=(3, 4)),
    Template("bars-average", "bars", _bars_average, sizes=(3, 4)),
    Template("shapes-count", "shapes", _shapes_count, sizes=(2, 3)),
    Template("shapes-sum", "shapes", _shapes_sum, sizes=(2, 3)),
    Template("shapes-more", "shapes", _shapes_more, sizes=(2, 3)),
    Template("shapes-fraction", "shapes", _shapes_fraction, sizes=(2,), fits=_has_plain_fraction),
    Template("rectangle-perimeter", "figures", _rectangle_perimeter, figure="rectangle"),
    Template("rectangle-area", "figures", _rectangle_area, figure="rectangle"),
    Template("rectangle-missing-side", "figures", _rectangle_missing, figure="rectangle"),
    Template("triangle-area", "figures", _triangle_area, figure="right triangle"),
    Template("triangle-perimeter", "figures", _triangle_perimeter, figure="triangle sides", fits=_is_triangle),
    Template("triangle-missing-angle", "figures", _triangle_angle, figure="triangle angles", fits=lambda v: v[3] >= 20),
)
