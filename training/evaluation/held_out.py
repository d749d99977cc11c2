"""Held-out rows: those of a dataset's test or validation role, which are never trained on.

    >>> held_out = load_held_out(None, "test", 8)
    >>> len(held_out.rows), held_out.about["dataset"]
    (8, 'starter')

Test rows are for the report. Choices (which checkpoint, promote or not) are made on validation rows.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from inference.common.errors import UserError
from inference.common.files import Json
from inference.prompt.format import THINK_PROMPT
from training.config.data_config import DataConfig
from training.data.benchmarks import benchmark_configs, load_benchmark
from training.data.dataset import Splits, load_rows
from training.data.pictures import picture_files, picture_sizes
from training.evaluation.statistics import Estimate, share
from training.grading.grader import gold_answer, grade_answer
from training.starter.problems import MULTIPLE_CHOICE_SHARE, PICTURE_VALUES, load_problems, sample_values
from training.starter.templates import TEMPLATES

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import ProcessorMixin

ROLES = ("test", "validation", "beyond")
"""`beyond` are starter problems with larger pictures than those that are trained on."""
STARTER_ROWS = 480
VALIDATION_SEED = 1_000_000
"""Added to the seed of the starter problems for validation, so that they are other ones."""


@dataclass(frozen=True)
class HeldOut:
    """Rows that were not trained on."""

    rows: Dataset
    """With `image`, `problem`, `solution`, and `kind` where the dataset has it."""
    about: Json
    baselines: dict[str, Estimate] = field(default_factory=dict)
    """Accuracy of answers that do not depend on the picture."""


def load_held_out(
    data: DataConfig | None,
    role: str,
    num_rows: int | None = None,
    seed: int = 0,
    processor: ProcessorMixin | None = None,
    splits: Splits | None = None,
    system_prompt: str = THINK_PROMPT,
) -> HeldOut:
    """The rows of a role, at most `num_rows`, drawn with `seed`.

    Without `data` they are starter problems drawn with `seed` (default: 480). With a `processor`, rows beyond the
    data's `max_prompt_tokens`, with `system_prompt`, are dropped. `splits` are the data's rows if they are loaded
    already. Raises `UserError` for another role and for a role without rows.
    """
    if role not in ROLES:
        raise UserError(f"--role is {role}: rows that were trained on show nothing; choose {' or '.join(ROLES)}")
    if num_rows is not None and num_rows < 1:
        raise UserError(f"the number of rows is {num_rows}; give at least 1")
    if data is None:
        split = "beyond" if role == "beyond" else "test"
        rows = load_problems(split, num_rows or STARTER_ROWS, seed + (VALIDATION_SEED if role == "validation" else 0))
        return HeldOut(rows, {"dataset": "starter", "role": role}, majority_baselines(rows))
    if role == "beyond":
        raise UserError("--role is beyond, which only the starter problems have; choose test or validation")
    splits = splits or load_rows(data, processor, system_prompt=system_prompt, progress=True)
    rows = splits.test if role == "test" else splits.validation
    if not len(rows):
        option = "--validation-rows" if role == "validation" else "--test-rows or --test-split"
        raise UserError(f"{data.dataset} has no {role} rows as it is split; give {option}, or another --role")
    rows = draw_rows(rows, num_rows, seed)
    name = Path(data.dataset).name if data.source_kind == "local" else data.dataset
    about = {"dataset": name, "revision": splits.about["revision"], "split": data.split, "role": role}
    if words := splits.dropped.words(role):
        about["dropped"] = words
    return HeldOut(rows, about, {"most frequent train answer of its kind": frequent_baseline(splits.train, rows)})


def load_benchmark_rows(name: str, num_rows: int | None = None, seed: int = 0, **settings: object) -> HeldOut:
    """The rows of a public benchmark (`training.data.benchmarks`), at most `num_rows`, drawn with `seed`."""
    rows, about = load_benchmark(benchmark_configs(name, **settings), progress=True)
    return HeldOut(draw_rows(rows, num_rows, seed), about | {"benchmark": name})


def draw_rows(rows: Dataset, num_rows: int | None, seed: int = 0) -> Dataset:
    """At most so many of the rows, in order, drawn with `seed`."""
    if num_rows is None or num_rows >= len(rows):
        return rows
    return rows.select(sorted(random.Random(f"rows-{seed}").sample(range(len(rows)), num_rows)))


def frequent_baseline(train: Dataset, rows: Dataset) -> Estimate:
    """Accuracy of always giving the most frequent train answer to a problem of this kind with this form of answer."""
    counts: dict[tuple[str | None, str], Counter[str]] = {}
    for key, gold in _keyed_golds(train):
        counts.setdefault(key, Counter())[gold] += 1
    frequent = {key: counted.most_common(1)[0][0] for key, counted in counts.items()}
    hits = [key in frequent and grade_answer(gold, frequent[key]).correct for key, gold in _keyed_golds(rows)]
    return share(hits)


def majority_baselines(rows: Dataset, num_samples: int = 400) -> dict[str, Estimate]:
    """Accuracy on starter rows of always giving the most frequent train answer.

    The first is by template; the second separates multiple choice, where every letter is as frequent.
    """
    frequent = {}
    rng = random.Random("majority")
    for template in TEMPLATES:
        answers = Counter(template.ask(sample_values(template, "train", rng), rng).answer for _ in range(num_samples))
        answer, count = answers.most_common(1)[0]
        is_open = (1 - MULTIPLE_CHOICE_SHARE) * count / num_samples > MULTIPLE_CHOICE_SHARE / 4
        frequent[template.name] = (answer if is_open else "A", answer)
    whole = [frequent[template][0] for template in rows["template"]]
    problems = zip(rows["template"], rows["problem"])
    apart = ["A" if "\nChoices:\n" in problem else frequent[template][1] for template, problem in problems]
    golds = [gold_answer(solution) for solution in rows["solution"]]
    by_template, by_form = ([grade_answer(g, a).correct for g, a in zip(golds, each)] for each in (whole, apart))
    return {"majority by template": share(by_template), "majority by template, choices apart": share(by_form)}


def clusters_of(rows: Dataset) -> list[int]:
    """For each row a number that it shares with the rows whose pictures show the same values, or are the same file."""
    if PICTURE_VALUES in rows.column_names:
        keys = rows[PICTURE_VALUES]
    else:
        keys = sizes_and_keys(rows)[1]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [numbers[key] for key in keys]


def rows_digest(rows: Dataset) -> str:
    """A digest of pictures, problems and solutions, in order."""
    return texts_digest(sizes_and_keys(rows)[1], rows["problem"], rows["solution"])


def texts_digest(*columns: Sequence[str]) -> str:
    """A digest of columns of equal length, row by row."""
    digest = hashlib.blake2b(digest_size=16)
    for text in itertools.chain.from_iterable(zip(*columns)):
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8) + content)
    return digest.hexdigest()


def sizes_and_keys(rows: Dataset) -> tuple[list[tuple[int, ...]], list[str]]:
    """The width and height of each of a row's pictures, from its file's head, and a digest of the files."""
    sizes, keys = [], []
    for files in picture_files(rows):
        sizes.append(picture_sizes(files))
        digests = [hashlib.blake2b(content, digest_size=16).digest() for content in files]
        key = digests[0] if len(files) == 1 else hashlib.blake2b(b"".join(digests), digest_size=16).digest()
        keys.append(key.hex())
    return sizes, keys


def swap(sizes: Sequence[tuple[int, ...]], keys: Sequence[str], seed: int) -> list[int]:
    """For each row the index of the row whose pictures it gets, those of each row used as often as they were.

    A model that answers as well with another row's pictures did not use them. `sizes` are width and height in pixels
    of each picture, `keys` are equal for equal pictures. No row gets pictures equal to its own. Pictures are swapped
    with as many of the same sizes, or else of about as many pixels (within a factor of about 1.4). Raises `UserError`
    if more than half of the rows have the same pictures.

    >>> swap([(28, 28)] * 3, ["a", "b", "c"], seed=0)
    [2, 0, 1]
    """
    classes: list[list[int]] = []
    waiting: list[int] = []
    for rows in _size_classes(sizes):
        waiting += rows
        if _can_swap(waiting, keys):
            classes.append(waiting)
            waiting = []
    while waiting and not _can_swap(waiting, keys):
        if not classes:
            raise UserError(
                f"pictures cannot be swapped: of {len(keys)} rows {Counter(keys).most_common(1)[0][1]} have the same "
                "picture; leave the swapped conditions and adapter-other out, or take other rows"
            )
        waiting += classes.pop()
    rng = random.Random(f"swap-{seed}")
    partners = [0] * len(keys)
    for rows in [*classes, waiting]:
        _swap_within(rows, keys, rng, partners)
    return partners


def _keyed_golds(rows: Dataset) -> list[tuple[tuple[str | None, str], str]]:
    golds = [gold_answer(solution) for solution in rows["solution"]]
    kinds = rows["kind"] if "kind" in rows.column_names else [None] * len(golds)
    return [((kind, _form(gold)), gold) for kind, gold in zip(kinds, golds)]


def _form(gold: str) -> str:
    """The form of an answer: a choice letter, a number, or words."""
    text = gold.strip().strip("$").strip()
    if re.fullmatch(r"\(?[A-Ha-h]\)?[.:]?", text):
        return "letter"
    return "number" if re.fullmatch(r"[-+]?[\d.,/ ]*\d[\d.,/ ]*", text) else "words"


def _size_classes(sizes: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Rows by number and sizes of their pictures, from small to large; a size of only one row joins similar ones."""
    counts = Counter(sizes)
    classes: dict[tuple[int, ...], list[int]] = {}
    for row, size in enumerate(sizes):
        pixels = sum(width * height for width, height in zip(size[::2], size[1::2]))
        half_octave = round(2 * math.log2(pixels))
        classes.setdefault((len(size), half_octave, *(size if counts[size] > 1 else ())), []).append(row)
    return [classes[key] for key in sorted(classes)]


def _can_swap(rows: Sequence[int], keys: Sequence[str]) -> bool:
    return bool(rows) and 2 * max(Counter(keys[row] for row in rows).values()) <= len(rows)


def _swap_within(rows: Sequence[int], keys: Sequence[str], rng: random.Random, partners: list[int]) -> None:
    """Sorts equal pictures side by side; shifting all by the longest block gives each row another picture."""
    groups: dict[str, list[int]] = {}
    for row in rows:
        groups.setdefault(keys[row], []).append(row)
    blocks = list(groups.values())
    rng.shuffle(blocks)
    order = [row for block in blocks for row in block]
    shift = max(map(len, blocks), default=0)
    for i, row in enumerate(order):
        partners[row] = order[(i + shift) % len(order)]
