"""The starter problems: pictures with questions, made by a seeded generator.

    >>> rows = load_problems("test", 8, seed=1)
    >>> rows.column_names[:5]
    ['image', 'problem', 'solution', 'original_question', 'original_answer']

There are four kinds of picture, each with several question templates. A hash of the values that a picture shows, in
any order, puts it into train or test, and the scans of handwriting are split too, so that the splits share neither a
picture nor the values behind one: a rectangle of 3 by 5 in test means that no figure of 3 and 5 is in train. The split
`beyond` has pictures that are larger than those of train: five digits or bars, more shapes, longer sides. The wrong
options of a multiple choice are drawn like its right one: without the picture nothing favours one of them.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PIL import Image

from training.starter.drawing import (
    COLOURS,
    FORMS,
    Drawing,
    Mark,
    digit_scans,
    draw_bars,
    draw_digits,
    draw_figure,
    draw_shapes,
)
from training.starter.templates import KINDS, TEMPLATES, Question, Template, lettered, rectangle_sides, think

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("train", "test", "beyond")
MULTIPLE_CHOICE_SHARE = 0.35
_TEST_SHARE = 5
"""One in so many pictures, and scans of each digit, belongs to test."""
PICTURE_VALUES = "picture_values"
"""The column with what a picture shows, the same for pictures that are on one side for it."""
_COLUMNS = ("image", "problem", "solution", "original_question", "original_answer", "kind", "template", PICTURE_VALUES)


@dataclass(frozen=True)
class Problem:
    """One row, with what the generator knows of it."""

    image: Image.Image
    problem: str
    solution: str
    original_question: str
    original_answer: str
    kind: str
    template: str
    thoughts: dict[str, str]
    """The reasoning in each of `templates.WAYS`."""
    answer: str
    values: tuple
    marks: list[Mark] = field(repr=False)

    @property
    def picture_values(self) -> str:
        """The values in the picture as text, whatever their order and the figure."""
        return repr(_key(self.kind, self.values))

    def row(self) -> dict[str, Image.Image | str]:
        """The columns of the Hub dataset, then `kind`, `template` and `picture_values`."""
        return {name: getattr(self, name) for name in _COLUMNS}


def split_of(kind: str, values: tuple) -> str:
    """`train` or `test`, by the values in the picture, whatever their order, and whatever the figure."""
    key = repr(_key(kind, values)).encode()
    return "train" if int.from_bytes(hashlib.blake2b(key, digest_size=4).digest()) % _TEST_SHARE else "test"


def _key(kind: str, values: tuple) -> tuple[str, tuple]:
    """Equal for pictures that are on one side: the values in any order, of a figure whatever it is."""
    return kind, tuple(sorted(values[1:] if kind == "figures" else values))


def sample_values(template: Template, split: str, rng: random.Random) -> tuple:
    """The values of one picture of this template and split; those of `beyond` are on the side of `test`, too."""
    side = "train" if split == "train" else "test"
    draw_values = _larger_values if split == "beyond" else _any_values
    while True:
        values = draw_values(template, rng)
        if split_of(template.kind, values) == side and template.fits(values):
            return values


def make_problem(rng: random.Random, split: str = "train", template: Template | None = None) -> Problem:
    """One problem; the template is drawn evenly over kinds, then over the kind's templates, unless given."""
    if template is None:
        kind = rng.choice(KINDS)
        template = rng.choice([t for t in TEMPLATES if t.kind == kind])
    values, question, options = _ask(template, split, rng, rng.random() < MULTIPLE_CHOICE_SHARE)
    image, marks = draw(template.kind, values, question, split, rng)
    rows = _counts_by_row(marks) if template.kind == "shapes" else {}
    thoughts, answer = think(question, rows, options)
    problem = lettered(question.text, options) if options else question.text
    return Problem(
        image=image,
        problem=problem,
        solution=f"<think>{thoughts['careful']}</think>\n\n<answer>{answer}</answer>",
        original_question=question.text,
        original_answer=question.answer,
        kind=template.kind,
        template=template.name,
        thoughts=thoughts,
        answer=answer,
        values=values,
        marks=marks,
    )


def draw(kind: str, values: tuple, question: Question, split: str, rng: random.Random) -> Drawing:
    """The picture of `values`; the scans of handwriting are of the same split."""
    if kind == "digits":
        return draw_digits(values, tuple(_scan(digit, split, rng) for digit in values), rng)
    if kind == "bars":
        return draw_bars(values, rng)
    if kind == "shapes":
        return draw_shapes(values, rng)
    figure, *numbers = values
    unit = "°" if figure == "triangle angles" else ""
    labels = tuple("?" if i == question.hidden else f"{n}{unit}" for i, n in enumerate(numbers))
    # with one of two sides hidden, rectangles of both splits show the same label
    return draw_figure(figure, labels, rng, is_apart=split != "train" and figure == "rectangle" and "?" in labels)


def iterate_problems(split: str, seed: int) -> Iterator[Problem]:
    """An endless stream of problems; the same seed gives the same ones. Raises `ValueError` for an unknown split."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; the starter problems have {' and '.join(SPLITS)}")
    rng = random.Random(f"{split}-{seed}")
    while True:
        yield make_problem(rng, split)


def load_problems(split: str, num_rows: int, seed: int = 0) -> Dataset:
    """`num_rows` problems as a `datasets.Dataset` with the columns of `Problem.row`."""
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageColumn

    if num_rows < 1:
        raise ValueError(f"num_rows is {num_rows}; ask for at least 1")
    stream = iterate_problems(split, seed)
    rows = [next(stream).row() for _ in range(num_rows)]
    features = Features({name: Value("string") for name in _COLUMNS} | {"image": ImageColumn()})
    return Dataset.from_dict({name: [row[name] for row in rows] for name in _COLUMNS}, features=features)


def _ask(template: Template, split: str, rng: random.Random, is_choice: bool) -> tuple[tuple, Question, list[str]]:
    """The values of a picture, a question about it and, for multiple choice, four different options in random order.

    Four answers are drawn alike, and all again (the right one too) if two are the same: then none of them is likelier
    to be the right one than another, to a reader who knows the question but not the picture.
    """
    while True:
        values = sample_values(template, split, rng)
        question = template.ask(values, rng)
        if not is_choice:
            return values, question, []
        others = (template.ask(sample_values(template, split, rng), rng).answer for _ in range(3))
        options = [question.answer, *(question.rivals or others)]
        if len(set(options)) == 4:
            rng.shuffle(options)
            return values, question, options


def _scan(digit: int, split: str, rng: random.Random) -> int:
    indices = (digit_scans()[1] == digit).nonzero()[0].tolist()
    return rng.choice([i for i in indices if (i % _TEST_SHARE == 0) == (split != "train")])


def _counts_by_row(marks: list[Mark]) -> dict[str, str]:
    """For each kind of shape, how many there are down to each of the four rows: `1 1 3 4`."""
    rows = {name: [int(4 * mark.y) for mark in marks if mark.label == name] for name in {mark.label for mark in marks}}
    return {name: " ".join(str(sum(row <= i for row in rows[name])) for i in range(4)) for name in rows}


def _any_values(template: Template, rng: random.Random) -> tuple:
    if template.figure == "triangle angles":
        first, second = 2 * rng.randint(10, 60), 2 * rng.randint(10, 60)
        return template.figure, first, second, 180 - first - second
    if template.figure == "triangle sides":
        return template.figure, *(rng.randint(3, 29) for _ in range(3))
    if template.figure:
        return template.figure, *rectangle_sides(rng)
    size = rng.choice(template.sizes)
    if template.kind == "shapes":
        return _groups(rng, size, 1, 7 if size == 2 else 5)
    return tuple(rng.randint(0 if template.kind == "digits" else 1, 9) for _ in range(size))


def _larger_values(template: Template, rng: random.Random) -> tuple:
    """Five digits or bars, three groups of shapes in a fraction, else a group of eight to ten, longer sides."""
    if template.figure == "triangle angles":
        first, second = rng.randrange(21, 120, 2), rng.randrange(21, 120, 2)
        return template.figure, first, second, 180 - first - second
    if template.figure == "triangle sides":
        return template.figure, *(rng.randint(30, 60) for _ in range(3))
    if template.figure:
        sides = [rng.randint(2, 9), rng.randint(40, 60)]
        rng.shuffle(sides)
        return template.figure, *sides
    if template.name == "shapes-fraction":
        return _groups(rng, 3, 1, 5)
    if template.kind == "shapes":
        one, other = _groups(rng, 2, 1, 6)
        groups = [(*one[:2], rng.randint(8, 10)), other]
        rng.shuffle(groups)
        return tuple(groups)
    return tuple(rng.randint(0 if template.kind == "digits" else 1, 9) for _ in range(5))


def _groups(rng: random.Random, size: int, fewest: int, most: int) -> tuple[tuple[str, str, int], ...]:
    """Groups of shapes, each with a colour, a form and a count of its own."""
    colours, forms = rng.sample(list(COLOURS), size), rng.sample(FORMS, size)
    return tuple((colour, form, rng.randint(fewest, most)) for colour, form in zip(colours, forms))
