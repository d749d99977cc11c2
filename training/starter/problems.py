"""The starter problems: pictures with questions, made by a seeded generator.

    >>> rows = load_problems("test", 8, seed=1)
    >>> rows.column_names[:5]
    ['image', 'problem', 'solution', 'original_question', 'original_answer']

Four kinds of picture, each with several question templates. What a picture shows (its values) decides by a hash
whether it belongs to train or to test, and the scans of handwriting are split too, so that the two sides share
neither a picture nor the values behind one. The values of a figure are what it is and its labels: a rectangle of 3 by 5
in test means that no rectangle of 3 by 5 is in train, whereas a right triangle of 3 and 5 is. The wrong options of a
multiple choice are drawn like its right one: without the picture there is nothing to choose by.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from training.starter.drawing import COLOURS, FORMS, Mark, digit_scans, draw_bars, draw_digits, draw_figure, draw_shapes
from training.starter.templates import KINDS, TEMPLATES, Question, Template, choose, lettered

SPLITS = ("train", "test")
_TEST_SHARE = 5
_FIGURE_BUCKET = {"rectangle": 0, "right triangle": 1, "triangle sides": 2, "triangle angles": 0}
"""Figures with the same two labels go to test by different buckets: 3 × 5 is tested on one, practised on the other."""
MULTIPLE_CHOICE_SHARE = 0.35


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
    reasoning: str
    answer: str
    values: tuple
    marks: list[Mark] = field(repr=False)

    def row(self) -> dict[str, Any]:
        """The columns of the Hub dataset, then `kind` and `template`."""
        names = ("image", "problem", "solution", "original_question", "original_answer", "kind", "template")
        return {name: getattr(self, name) for name in names}


def split_of(kind: str, values: tuple) -> str:
    """`train` or `test`, by what the picture shows, whatever the order it shows it in."""
    if kind in ("digits", "shapes"):
        key: tuple = tuple(sorted(values))
    elif kind == "figures":
        key = tuple(sorted(values[1:]))
    else:
        key = values
    bucket = int.from_bytes(hashlib.blake2b(repr((kind, key)).encode(), digest_size=4).digest()) % _TEST_SHARE
    return "test" if bucket == (_FIGURE_BUCKET[values[0]] if kind == "figures" else 0) else "train"


def sample_values(template: Template, split: str, rng: random.Random) -> tuple:
    """What a picture of this template shows, on this side of the split."""
    while True:
        values = _SAMPLERS[template.kind](template, rng)
        if split_of(template.kind, values) == split and template.fits(values):
            return values


def make_problem(rng: random.Random, split: str = "train", template: Template | None = None) -> Problem:
    """One problem; the template is drawn evenly over kinds, then over the kind's templates, unless given."""
    if template is None:
        kind = rng.choice(KINDS)
        template = rng.choice([t for t in TEMPLATES if t.kind == kind])
    values, asked, options = _ask(template, split, rng, rng.random() < MULTIPLE_CHOICE_SHARE)
    image, marks = draw(template.kind, values, asked, split, rng)
    problem, answer, reasoning = asked.text, asked.answer, asked.reasoning
    if options:
        problem = lettered(problem, options)
        answer, found = choose(options, asked.answer)
        reasoning = f"{reasoning} {found}"
    return Problem(
        image=image,
        problem=problem,
        solution=f"<think>{reasoning}</think>\n\n<answer>{answer}</answer>",
        original_question=asked.text,
        original_answer=asked.answer,
        kind=template.kind,
        template=template.name,
        reasoning=reasoning,
        answer=answer,
        values=values,
        marks=marks,
    )


def draw(kind: str, values: tuple, asked: Question, split: str, rng: random.Random) -> tuple[Image.Image, list[Mark]]:
    """The picture of `values`; scans of handwriting come from the split's own."""
    if kind == "digits":
        return draw_digits(values, tuple(_scan(digit, split, rng) for digit in values), rng)
    if kind == "bars":
        return draw_bars(values, rng)
    if kind == "shapes":
        return draw_shapes(values, rng)
    unit = "°" if values[0] == "triangle angles" else ""
    labels = tuple("?" if i == asked.hidden else f"{v}{unit}" for i, v in enumerate(values[1:]))
    # with one of two sides hidden, rectangles of both splits show the same label
    return draw_figure(values[0], labels, rng, apart=split == "test" and values[0] == "rectangle" and "?" in labels)


def iterate_problems(split: str, seed: int) -> Iterator[Problem]:
    """An endless stream of problems; the same seed gives the same ones."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; the starter problems have {' and '.join(SPLITS)}")
    rng = random.Random(f"{split}-{seed}")
    while True:
        yield make_problem(rng, split)


def load_problems(split: str, num_rows: int, seed: int = 0) -> Any:
    """`num_rows` problems as a `datasets.Dataset` with the Hub dataset's columns, `kind` and `template`."""
    import datasets

    if num_rows < 1:
        raise ValueError(f"num_rows is {num_rows}; ask for at least 1")
    stream = iterate_problems(split, seed)
    rows = [next(stream).row() for _ in range(num_rows)]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    features = datasets.Features({name: datasets.Value("string") for name in columns} | {"image": datasets.Image()})
    return datasets.Dataset.from_dict(columns, features=features)


def _ask(template: Template, split: str, rng: random.Random, choice: bool) -> tuple[tuple, Question, list[str]]:
    """What a picture shows, a question about it and, for multiple choice, four different options in random order.

    Four answers are drawn alike, and all again (the right one too) if two are the same: then none of them is likelier
    to be the right one than another, to a reader who knows the question but not the picture.
    """
    while True:
        values = sample_values(template, split, rng)
        asked = template.ask(values, rng)
        if not choice:
            return values, asked, []
        drawn = asked.rivals or tuple(template.ask(sample_values(template, split, rng), rng).answer for _ in range(3))
        options = [asked.answer, *drawn]
        if len(set(options)) == 4:
            rng.shuffle(options)
            return values, asked, options


def _scan(digit: int, split: str, rng: random.Random) -> int:
    targets = digit_scans()[1]
    wanted = 0 if split == "test" else 1
    return rng.choice([i for i in (targets == digit).nonzero()[0].tolist() if min(i % _TEST_SHARE, 1) == wanted])


def _sample_digits(template: Template, rng: random.Random) -> tuple:
    return tuple(rng.randint(0, 9) for _ in range(rng.choice(template.sizes)))


def _sample_bars(template: Template, rng: random.Random) -> tuple:
    return tuple(rng.randint(1, 9) for _ in range(rng.choice(template.sizes)))


def _sample_shapes(template: Template, rng: random.Random) -> tuple:
    size = rng.choice(template.sizes)
    colours, forms = rng.sample(list(COLOURS), size), rng.sample(FORMS, size)
    return tuple((colour, form, rng.randint(1, 4)) for colour, form in zip(colours, forms))


def _sample_figure(template: Template, rng: random.Random) -> tuple:
    if template.figure == "triangle angles":
        first, second = 5 * rng.randint(4, 24), 5 * rng.randint(4, 24)
        return (template.figure, first, second, 180 - first - second)
    count = 3 if template.figure == "triangle sides" else 2
    return (template.figure, *(rng.randint(2, 12) for _ in range(count)))


_SAMPLERS = {"digits": _sample_digits, "bars": _sample_bars, "shapes": _sample_shapes, "figures": _sample_figure}
