"""The questions of the starter problems: for each kind of picture its questions, with reasoning and answer."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

KINDS = ("digits", "bars", "shapes", "figures")
LETTERS = "ABCD"


@dataclass(frozen=True)
class Question:
    """A question about known values, the reasoning that solves it, and its answer."""

    text: str
    reasoning: str
    answer: str
    hidden: int | None = None
    """The label of a figure that shows a question mark, by its index."""
    rivals: tuple[str, ...] = ()
    """Three answers to draw wrong options from, where the wording itself says something about the right one."""


@dataclass(frozen=True)
class Template:
    """One way to ask about one kind of picture."""

    name: str
    kind: str
    ask: Callable[[tuple, random.Random], Question]
    sizes: tuple[int, ...] = ()
    """Possible numbers of digits, bars or groups of shapes in the picture."""
    figure: str = ""
    fits: Callable[[tuple], bool] = lambda values: True


def choose(options: Sequence[str], answer: str) -> tuple[str, str]:
    """The letter of `answer` among lettered options, and the reasoning: each is read until one fits."""
    index = options.index(answer)
    read = " ".join(f"{letter} is {option}." for letter, option in zip(LETTERS, options[: index + 1]))
    return LETTERS[index], f"{read} That is choice {LETTERS[index]}."


def lettered(question: str, options: Sequence[str]) -> str:
    """The question with its options, one a line."""
    return f"{question}\nChoices:\n" + "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options))


def _listing(words: Sequence[object]) -> str:
    """`1, 2 and 3`; at least two."""
    return f"{', '.join(map(str, words[:-1]))} and {words[-1]}"


def _sum_steps(numbers: Sequence[int]) -> str:
    totals = [sum(numbers[: i + 1]) for i in range(len(numbers))]
    return " ".join(f"{total} + {number} = {total + number}." for total, number in zip(totals, numbers[1:]))


# Handwritten digits


def _digits_sum(digits: tuple, rng: random.Random) -> Question:
    text = rng.choice(["What is the sum of the handwritten digits?", "Add the handwritten digits. What do you get?"])
    return Question(text, f"The digits are {_listing(digits)}. {_sum_steps(digits)}", str(sum(digits)))


def _digits_difference(digits: tuple, rng: random.Random) -> Question:
    high, low = max(digits), min(digits)
    one = "Subtract the smaller digit from the larger one. What is left?"
    text = rng.choice([one, "What is the difference of the two handwritten digits?"])
    return Question(text, f"The digits are {_listing(digits)}. {high} - {low} = {high - low}.", str(high - low))


def _digits_largest(digits: tuple, rng: random.Random) -> Question:
    word, pick = rng.choice([("largest", max), ("smallest", min)])
    text = f"Which of the handwritten digits is the {word}?"
    rivals = tuple(str(pick(rng.sample(range(10), len(digits)))) for _ in range(3))
    answer = str(pick(digits))
    reasoning = f"The digits are {_listing(digits)}. The {word} is {answer}."
    return Question(text, reasoning, answer, rivals=rivals)


# Bar charts


def _bars_read(heights: tuple, rng: random.Random) -> Question:
    i = rng.randrange(len(heights))
    bar, height = LETTERS[i], heights[i]
    text = rng.choice([f"What is the value of bar {bar}?", f"How high is bar {bar}?"])
    return Question(text, f"Bar {bar} is {height}.", str(height))


def _two_bars(heights: tuple, rng: random.Random, is_higher_first: bool = False) -> tuple[str, int, str, int, str]:
    """Letter and height of one bar and of another, and a sentence for each."""
    (a, x), (b, y) = ((LETTERS[i], heights[i]) for i in rng.sample(range(len(heights)), 2))
    if is_higher_first and x < y:
        a, x, b, y = b, y, a, x
    return a, x, b, y, f"Bar {a} is {x}. Bar {b} is {y}."


def _bars_sum(heights: tuple, rng: random.Random) -> Question:
    a, x, b, y, read = _two_bars(heights, rng)
    text = rng.choice([f"What do bars {a} and {b} add up to?", f"What is the sum of bars {a} and {b}?"])
    return Question(text, f"{read} {x} + {y} = {x + y}.", str(x + y))


def _bars_difference(heights: tuple, rng: random.Random) -> Question:
    a, x, b, y, read = _two_bars(heights, rng, is_higher_first=True)
    text = rng.choice([f"How much higher is bar {a} than bar {b}?", f"By how much is bar {a} above bar {b}?"])
    return Question(text, f"{read} {x} - {y} = {x - y}.", str(x - y))


def _bars_average(heights: tuple, rng: random.Random) -> Question:
    a, x, b, y, read = _two_bars(heights, rng)
    total, answer = x + y, f"{(x + y) / 2:g}"
    text = f"What is the average of bars {a} and {b}?"
    return Question(text, f"{read} {x} + {y} = {total}. {total} / 2 = {answer}.", answer)


# Coloured shapes: groups of (colour, form, count)


def _name(group: tuple) -> str:
    return f"{group[0]} {group[1]}"


def _there_are(groups: Sequence[tuple]) -> str:
    counted = [f"{group[2]} {_name(group)}{'' if group[2] == 1 else 's'}" for group in groups]
    listing = _listing(counted) if len(counted) > 1 else counted[0]
    return f"There {'is' if groups[0][2] == 1 else 'are'} {listing}."


def _shapes_count(groups: tuple, rng: random.Random) -> Question:
    group = rng.choice(groups)
    text = rng.choice([f"How many {_name(group)}s are there?", f"Count the {_name(group)}s."])
    return Question(text, _there_are([group]), str(group[2]))


def _shapes_sum(groups: tuple, rng: random.Random) -> Question:
    one, two = pair = rng.sample(groups, 2)
    x, y = one[2], two[2]
    text = f"How many {_name(one)}s and {_name(two)}s are there together?"
    return Question(text, f"{_there_are(pair)} {x} + {y} = {x + y}.", str(x + y))


def _shapes_more(groups: tuple, rng: random.Random) -> Question:
    more, fewer = pair = sorted(rng.sample(groups, 2), key=lambda group: -group[2])
    x, y = more[2], fewer[2]
    text = f"How many more {_name(more)}s than {_name(fewer)}s are there?"
    return Question(text, f"{_there_are(pair)} {x} - {y} = {x - y}.", str(x - y))


def _shapes_fraction(groups: tuple, rng: random.Random) -> Question:
    counts = [group[2] for group in groups]
    group = rng.choice([g for g in groups if math.gcd(g[2], sum(counts)) == 1])
    answer = f"{group[2]}/{sum(counts)}"
    text = f"What fraction of the shapes are {_name(group)}s?"
    return Question(text, f"{_there_are(groups)} {_sum_steps(counts)} The fraction is {answer}.", answer)


def _has_plain_fraction(groups: tuple) -> bool:
    total = sum(group[2] for group in groups)
    return any(math.gcd(group[2], total) == 1 for group in groups)


# Rectangles and triangles: the figure's name, then the numbers at its sides or angles


def _rectangle_perimeter(values: tuple, rng: random.Random) -> Question:
    _, a, b = values
    reasoning = f"The sides are {a} and {b}. {a} + {b} = {a + b}. 2 × {a + b} = {2 * (a + b)}."
    return Question("What is the perimeter of the rectangle?", reasoning, str(2 * (a + b)))


def _rectangle_area(values: tuple, rng: random.Random) -> Question:
    _, a, b = values
    reasoning = f"The sides are {a} and {b}. {a} × {b} = {a * b}."
    return Question("What is the area of the rectangle?", reasoning, str(a * b))


def _rectangle_missing(values: tuple, rng: random.Random) -> Question:
    hidden = rng.randrange(2)
    known, answer = values[2 - hidden], values[1 + hidden]
    half = known + answer
    possible = range(max(2, half - 12), min(12, half - 2) + 1)
    text = f"The perimeter of the rectangle is {2 * half}. How long is the side marked with a question mark?"
    reasoning = f"The known side is {known}. {2 * half} / 2 = {half}. {half} - {known} = {answer}."
    return Question(text, reasoning, str(answer), hidden, tuple(str(rng.choice(possible)) for _ in range(3)))


def _triangle_area(values: tuple, rng: random.Random) -> Question:
    _, a, b = values
    answer = f"{a * b / 2:g}"
    reasoning = f"The legs are {a} and {b}. {a} × {b} = {a * b}. {a * b} / 2 = {answer}."
    return Question("What is the area of the right triangle?", reasoning, answer)


def _triangle_perimeter(values: tuple, rng: random.Random) -> Question:
    sides = values[1:]
    reasoning = f"The sides are {_listing(sides)}. {_sum_steps(sides)}"
    return Question("What is the perimeter of the triangle?", reasoning, str(sum(sides)))


def _triangle_angle(values: tuple, rng: random.Random) -> Question:
    hidden = rng.randrange(3)
    a, b = (v for i, v in enumerate(values[1:]) if i != hidden)
    answer = str(values[1 + hidden])
    reasoning = f"The known angles are {a} and {b}. {a} + {b} = {a + b}. 180 - {a + b} = {answer}."
    return Question("How many degrees has the angle marked with a question mark?", reasoning, answer, hidden)


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
