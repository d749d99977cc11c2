"""The questions of the starter problems: for each kind of picture its questions, with reasoning and answer.

Every problem is reasoned about in three ways, all of them correct. `glance` states the answer. `short` writes the
calculation in one step. `careful` reads each part of the picture, calculates step by step, and checks the last step.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

KINDS = ("digits", "bars", "shapes", "figures")
LETTERS = "ABCDE"
WAYS = {"glance": "At a glance:", "short": "In short:", "careful": "Part by part."}
"""The first words of each way to think; they differ in their first token."""


@dataclass(frozen=True)
class Question:
    """A question about known values, two ways to calculate, and the answer."""

    text: str
    short: str
    careful: str
    """`{red circle}` stands for the number of red circles down to each row of the picture: `1 1 3 4`."""
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


def think(question: Question, rows: dict[str, str], options: Sequence[str]) -> tuple[dict[str, str], str]:
    """The thoughts of all `WAYS`, and the answer: the letter of the right one of `options`, if there are any.

    `rows` fills the names in `careful`.
    """
    answer, short, careful = question.answer, question.short, question.careful.format_map(rows)
    if options:
        index = options.index(answer)
        read = " ".join(f"{letter} is {option}." for letter, option in zip(LETTERS, options[: index + 1]))
        answer = LETTERS[index]
        short, careful = f"{short} That is {answer}.", f"{careful} {read} That is choice {answer}."
    thoughts = {"glance": f"{answer}.", "short": short, "careful": careful}
    return {way: f"{WAYS[way]} {thought}" for way, thought in thoughts.items()}, answer


def lettered(question: str, options: Sequence[str]) -> str:
    """The question with its options, one a line."""
    return f"{question}\nChoices:\n" + "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options))


def product(a: int, b: int) -> str:
    """`a × b` in steps, tens and ones of `b` apart; `a` has one digit."""
    tens, ones = b // 10 * 10, b % 10
    if not tens or not ones:
        return f"{a} × {b} = {a * b}."
    return f"{a} × {tens} = {a * tens}. {a} × {ones} = {a * ones}. {a * tens} + {a * ones} = {a * b}."


def _listing(words: Sequence[object]) -> str:
    """`1, 2 and 3`; at least two."""
    return f"{', '.join(map(str, words[:-1]))} and {words[-1]}"


def _sum(numbers: Sequence[int]) -> tuple[str, str]:
    """A sum in one step, and step by step with a check."""
    totals = [sum(numbers[: i + 1]) for i in range(len(numbers))]
    steps = " ".join(f"{total} + {number} = {total + number}." for total, number in zip(totals, numbers[1:]))
    check = f"Check: {totals[-1]} - {numbers[-1]} = {totals[-2]}."
    return f"{' + '.join(map(str, numbers))} = {totals[-1]}.", f"{steps} {check}"


def _difference(high: int, low: int) -> tuple[str, str]:
    step = f"{high} - {low} = {high - low}."
    return step, f"{step} Check: {low} + {high - low} = {high}."


# Handwritten digits


def _read_digits(digits: tuple) -> str:
    return " ".join(f"Digit {i} is {digit}." for i, digit in enumerate(digits, 1))


def _digits_sum(digits: tuple, rng: random.Random) -> Question:
    text = rng.choice(["What is the sum of the handwritten digits?", "Add the handwritten digits. What do you get?"])
    short, steps = _sum(digits)
    return Question(text, short, f"{_read_digits(digits)} {steps}", str(sum(digits)))


def _digits_difference(digits: tuple, rng: random.Random) -> Question:
    high, low = max(digits), min(digits)
    one = "Subtract the smallest digit from the largest one. What is left?"
    text = rng.choice([one, "What is the difference of the largest and the smallest handwritten digit?"])
    short, steps = _difference(high, low)
    return Question(text, short, f"{_read_digits(digits)} {steps}", str(high - low))


def _digits_largest(digits: tuple, rng: random.Random) -> Question:
    word, pick = rng.choice([("largest", max), ("smallest", min)])
    text = f"Which of the handwritten digits is the {word}?"
    rivals = tuple(str(pick(rng.sample(range(10), len(digits)))) for _ in range(3))
    answer = str(pick(digits))
    in_order = ", ".join(map(str, sorted(digits)))
    careful = f"{_read_digits(digits)} In order: {in_order}. The {word} is {answer}."
    return Question(text, f"the {word} is {answer}.", careful, answer, rivals=rivals)


# Bar charts


def _bars_read(heights: tuple, rng: random.Random) -> Question:
    i = rng.randrange(len(heights))
    bar, height = LETTERS[i], heights[i]
    text = rng.choice([f"What is the value of bar {bar}?", f"How high is bar {bar}?"])
    read = " ".join(f"Bar {letter} is {value}." for letter, value in zip(LETTERS, heights))
    return Question(text, f"bar {bar} is {height}.", f"{read} So bar {bar} is {height}.", str(height))


def _two_bars(heights: tuple, rng: random.Random, is_higher_first: bool = False) -> tuple[str, int, str, int, str]:
    """Letter and height of one bar and of another, and a sentence for each."""
    (a, x), (b, y) = ((LETTERS[i], heights[i]) for i in rng.sample(range(len(heights)), 2))
    if is_higher_first and x < y:
        a, x, b, y = b, y, a, x
    return a, x, b, y, f"Bar {a} is {x}. Bar {b} is {y}."


def _bars_sum(heights: tuple, rng: random.Random) -> Question:
    a, x, b, y, read = _two_bars(heights, rng)
    text = rng.choice([f"What do bars {a} and {b} add up to?", f"What is the sum of bars {a} and {b}?"])
    short, steps = _sum([x, y])
    return Question(text, short, f"{read} {steps}", str(x + y))


def _bars_difference(heights: tuple, rng: random.Random) -> Question:
    a, x, b, y, read = _two_bars(heights, rng, is_higher_first=True)
    text = rng.choice([f"How much higher is bar {a} than bar {b}?", f"By how much is bar {a} above bar {b}?"])
    short, steps = _difference(x, y)
    return Question(text, short, f"{read} {steps}", str(x - y))


def _bars_average(heights: tuple, rng: random.Random) -> Question:
    a, x, b, y, read = _two_bars(heights, rng)
    total, answer = x + y, f"{(x + y) / 2:g}"
    text = f"What is the average of bars {a} and {b}?"
    steps = f"{x} + {y} = {total}. {total} / 2 = {answer}. Check: 2 × {answer} = {total}."
    return Question(text, f"({x} + {y}) / 2 = {answer}.", f"{read} {steps}", answer)


# Coloured shapes: groups of (colour, form, count)


def _name(group: tuple) -> str:
    return f"{group[0]} {group[1]}"


def _count(group: tuple) -> str:
    """Counts a group row by row; the last number is how many there are."""
    name = _name(group)
    return f"Row by row, {name}s: {{{name}}}."


def _shapes_count(groups: tuple, rng: random.Random) -> Question:
    group = rng.choice(groups)
    name, count = _name(group), group[2]
    text = rng.choice([f"How many {name}s are there?", f"Count the {name}s."])
    counted = f"{count} {name}{'' if count == 1 else 's'}."
    return Question(text, counted, f"{_count(group)} So {counted}", str(count))


def _shapes_sum(groups: tuple, rng: random.Random) -> Question:
    one, two = rng.sample(groups, 2)
    text = f"How many {_name(one)}s and {_name(two)}s are there together?"
    short, steps = _sum([one[2], two[2]])
    return Question(text, short, f"{_count(one)} {_count(two)} {steps}", str(one[2] + two[2]))


def _shapes_more(groups: tuple, rng: random.Random) -> Question:
    more, fewer = sorted(rng.sample(groups, 2), key=lambda group: -group[2])
    text = f"How many more {_name(more)}s than {_name(fewer)}s are there?"
    short, steps = _difference(more[2], fewer[2])
    return Question(text, short, f"{_count(more)} {_count(fewer)} {steps}", str(more[2] - fewer[2]))


def _shapes_fraction(groups: tuple, rng: random.Random) -> Question:
    total = sum(group[2] for group in groups)
    group = rng.choice([g for g in groups if math.gcd(g[2], total) == 1])
    name, count = _name(group), group[2]
    ordered = [group, *(other for other in groups if other is not group)]
    _, steps = _sum([each[2] for each in ordered])
    careful = f"{' '.join(map(_count, ordered))} {steps} The {name}s are {count} of {total}, {count}/{total}."
    text = f"What fraction of the shapes are {name}s?"
    return Question(text, f"{count} of {total}, {count}/{total}.", careful, f"{count}/{total}")


def _has_plain_fraction(groups: tuple) -> bool:
    total = sum(group[2] for group in groups)
    return any(math.gcd(group[2], total) == 1 for group in groups)


# Rectangles and triangles: the figure's name, then the numbers at its sides or angles


def _rectangle_perimeter(values: tuple, rng: random.Random) -> Question:
    _, a, b = values
    half, answer = a + b, 2 * (a + b)
    careful = (
        f"The sides are {a} and {b}. {a} + {b} = {half}. {half} + {half} = {answer}. Check: {answer} / 2 = {half}."
    )
    return Question("What is the perimeter of the rectangle?", f"2 × ({a} + {b}) = {answer}.", careful, str(answer))


def _rectangle_area(values: tuple, rng: random.Random) -> Question:
    _, a, b = values
    small, large = sorted((a, b))
    careful = f"The sides are {a} and {b}. {product(small, large)} Check: {a * b} / {small} = {large}."
    return Question("What is the area of the rectangle?", f"{a} × {b} = {a * b}.", careful, str(a * b))


def _rectangle_missing(values: tuple, rng: random.Random) -> Question:
    hidden = rng.randrange(2)
    known, answer = values[2 - hidden], values[1 + hidden]
    half = known + answer
    rivals: list[str] = []
    while len(rivals) < 3:
        sides = rectangle_sides(rng, 39 if half <= 48 else 60)
        if sum(sides) == half:
            rivals.append(str(rng.choice(sides)))
    text = f"The perimeter of the rectangle is {2 * half}. How long is the side marked with a question mark?"
    short, steps = _difference(half, known)
    careful = f"The known side is {known}. {2 * half} / 2 = {half}. {steps}"
    return Question(text, f"{2 * half} / 2 - {known} = {answer}.", careful, str(answer), hidden, tuple(rivals))


def _triangle_area(values: tuple, rng: random.Random) -> Question:
    _, a, b = values
    small, large = sorted((a, b))
    twice, answer = a * b, f"{a * b / 2:g}"
    steps = f"{product(small, large)} {twice} / 2 = {answer}. Check: 2 × {answer} = {twice}."
    short = f"{a} × {b} / 2 = {answer}."
    return Question("What is the area of the right triangle?", short, f"The legs are {a} and {b}. {steps}", answer)


def _triangle_perimeter(values: tuple, rng: random.Random) -> Question:
    sides = values[1:]
    short, steps = _sum(sides)
    careful = f"The sides are {_listing(sides)}. {steps}"
    return Question("What is the perimeter of the triangle?", short, careful, str(sum(sides)))


def _triangle_angle(values: tuple, rng: random.Random) -> Question:
    hidden = rng.randrange(3)
    a, b = (v for i, v in enumerate(values[1:]) if i != hidden)
    answer = values[1 + hidden]
    _, steps = _difference(180, a + b)
    careful = f"The known angles are {a} and {b}. {a} + {b} = {a + b}. {steps}"
    text = "How many degrees has the angle marked with a question mark?"
    return Question(text, f"180 - {a} - {b} = {answer}.", careful, str(answer), hidden)


def rectangle_sides(rng: random.Random, longest: int = 39) -> tuple[int, int]:
    """Two sides, one of them of one digit, in any order."""
    sides = [rng.randint(2, 9), rng.randint(2, longest)]
    rng.shuffle(sides)
    return sides[0], sides[1]


def _is_triangle(values: tuple) -> bool:
    short, middle, long = sorted(values[1:])
    return short + middle > long


TEMPLATES: tuple[Template, ...] = (
    Template("digits-sum", "digits", _digits_sum, sizes=(2, 3, 4)),
    Template("digits-difference", "digits", _digits_difference, sizes=(2, 3)),
    Template("digits-largest", "digits", _digits_largest, sizes=(3, 4), fits=lambda v: len(set(v)) == len(v)),
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
