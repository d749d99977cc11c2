"""Measures every row of a dataset: golds, sizes, repeated rows and leaks."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from inference.common.errors import UserError
from inference.common.files import Json
from training.audit.report import AuditReport, Example, Gold, Spread
from training.config.data_config import DataConfig
from training.data.dataset import PromptSize, PromptSizer, drop_long_prompts, prepare_rows
from training.data.pictures import MORE_IMAGES
from training.data.prepare import Prepared
from training.data.splits import ROLES
from training.evaluation.statistics import share
from training.grading.grader import check_gold, gold_answer, grade_many, options_of

if TYPE_CHECKING:
    from transformers import ProcessorMixin

MAX_GOLD_CHARS = 500
"""Characters of an unverified gold in the report."""
BATCH_ROWS = 256
"""Golds graded in one batch."""
WORKED_WORDS = 12
"""A gold with more words is taken for a worked solution."""
ALIKE_BITS = 6
"""Differing bits of 256 up to which two pictures count as looking alike."""
_LETTER = re.compile(r"(?:(?:choice|option)\s+)?\(?([A-J])\)?[.:]?", re.IGNORECASE)
"""A gold that is the letter of a choice, such as `B`, `(b)` or `Option B`."""
_BETWEEN_LETTERS = re.compile(r"(?:[\s,;&()\[\]]|\band\b)+")
Golds = dict[int, tuple[str, bool, str]]
"""By row: its gold, whether the grader finds it equal to itself, and the rule that decided."""


def audit(
    config: DataConfig,
    processor: ProcessorMixin | None = None,
    *,
    num_examples: int = 24,
    progress: bool = False,
) -> AuditReport:
    """Measures every row of the dataset; with a `processor` also the size of prompts.

    Raises `UserError` if the dataset cannot be read or no row is left.
    """
    prepared = prepare_rows(config, progress=progress)
    if processor is not None and config.max_prompt_tokens is not None:
        prepared = drop_long_prompts(prepared, processor, config.max_prompt_tokens, progress)
    used = [index for role in ROLES for index in prepared.roles[role]]
    if not used:
        raise UserError(f"No row of {config.dataset} is left to audit: {prepared.dropped}.")
    pictures = [name for name in ("image", MORE_IMAGES) if name in prepared.rows.column_names]
    facts = prepared.rows.remove_columns(pictures)
    rows = {index: row for index, row in zip(sorted(used), facts.select(sorted(used)))}
    sizer = PromptSizer(processor) if processor is not None else None
    prompts = {i: sizer.measure(r["problem"], *r["sizes"]) for i, r in rows.items()} if sizer else None
    golds = _grade_golds(rows, progress)
    outside = [i for i, (gold, _, _) in golds.items() if _is_outside(gold, rows[i]["problem"])]
    several = [i for i, (gold, _, _) in golds.items() if len(_letters_in(gold)) > 1]
    several = [i for i in several if _letters_in(golds[i][0]) <= {*options_of(rows[i]["problem"])}]
    settings = config.model_dump() | {"dataset": prepared.about["dataset"]}
    return AuditReport(
        about=prepared.about | {"split": config.split, "seed": config.seed, "config": settings},
        kept_rows={role: len(prepared.roles[role]) for role in ROLES},
        dropped=prepared.dropped,
        rules=dict(Counter(rule for _, _, rule in golds.values()).most_common()),
        verified=share([correct for _, correct, _ in golds.values()]),
        unverified=[Gold(rows[i]["row_id"], g[:MAX_GOLD_CHARS], rule) for i, (g, ok, rule) in golds.items() if not ok],
        letters=_letters(golds),
        letters_alone=sum(
            (_LETTER.fullmatch(gold.strip()) is not None or len(_letters_in(gold)) > 1)
            and not options_of(rows[i]["problem"])
            for i, (gold, _, _) in golds.items()
        ),
        num_outside=len(outside),
        outside=Gold(rows[outside[0]]["row_id"], golds[outside[0]][0][:MAX_GOLD_CHARS], "") if outside else None,
        num_several=len(several),
        several=Gold(rows[several[0]]["row_id"], golds[several[0]][0][:MAX_GOLD_CHARS], "") if several else None,
        earlier_turns=sum(row["earlier_turns"] > 0 for row in rows.values()),
        worked=sum(len(gold.split()) > WORKED_WORDS for gold, _, _ in golds.values()),
        majority=Counter(gold for gold, _, _ in golds.values()).most_common(1)[0],
        pictures=_picture_sizes(rows),
        num_scaled=sum(row["original_pixels"] > _pixels(row["sizes"]) for row in rows.values()),
        prompts=_prompt_sizes(prompts) if prompts else None,
        duplicates=_duplicates(prepared, rows),
        shared_pictures=_shared_pictures(prepared, rows),
        look_alikes=_look_alikes(prepared, rows),
        examples=[
            _example(prepared, index, role, golds[index], prompts[index].total if prompts else None)
            for role, index in _choose(prepared, golds, num_examples, config.seed)
        ],
    )


def _grade_golds(rows: Mapping[int, Json], progress: bool) -> Golds:
    """Each row's gold, true if the reward counts it as correct in a completion, and the rule that decided."""
    graded: Golds = {}
    indices = list(rows)
    with tqdm(total=len(rows), desc="grading golds", unit="row", disable=not progress, dynamic_ncols=True) as bar:
        for first in range(0, len(indices), BATCH_ROWS):
            batch = indices[first : first + BATCH_ROWS]
            golds = [gold_answer(rows[index]["solution"]) for index in batch]
            grades = [check_gold(rows[index]["solution"]) for index in batch]
            graded |= {i: (gold, g.correct, g.rule) for i, gold, g in zip(batch, golds, grades, strict=True)}
            bar.update(len(batch))
    return graded


def _is_outside(gold: str, problem: str) -> bool:
    """True if a gold is neither the letter nor the text of an option of its problem, nor several letters."""
    options = options_of(problem)
    if not options or _letters_in(gold) and _letters_in(gold) <= {*options}:
        return False
    letters = [f"<answer>{letter}</answer>" for letter in options]
    return not any(
        grade.correct for grade in grade_many([(gold, one) for one in letters], problems=[problem] * len(letters))
    )


def _letters_in(gold: str) -> set[str]:
    """The letters that a gold lists, as `A, C` does; none of another gold."""
    found = set(_BETWEEN_LETTERS.split(gold.strip(" ()[].:"))) - {""} if len(gold) < MAX_GOLD_CHARS else set()
    return found if all(re.fullmatch("[A-J]", part) for part in found) else set()


def _pixels(sizes: Sequence[int]) -> int:
    return sum(width * height for width, height in zip(sizes[::2], sizes[1::2]))


def _picture_sizes(rows: Mapping[int, Json]) -> dict[str, Spread]:
    sides = [row["sizes"] for row in rows.values()]
    sizes = [size for each in sides for size in zip(each[::2], each[1::2])]
    spreads = {name: Spread.of([size[at] for size in sizes]) for at, name in enumerate(("width", "height"))}
    spreads["pixels"] = Spread.of([width * height for width, height in sizes])
    if len(sizes) > len(rows):
        spreads["a row"] = Spread.of([len(each) // 2 for each in sides])
    return spreads | {"original pixels": Spread.of([row["original_pixels"] for row in rows.values()])}


def _prompt_sizes(prompts: Mapping[int, PromptSize]) -> dict[str, Spread]:
    parts = {"text": "text", "picture": "image", "prompt": "total"}
    return {name: Spread.of([getattr(size, part) for size in prompts.values()]) for name, part in parts.items()}


def _letters(golds: Golds) -> dict[str, int]:
    letters = Counter(match[1].upper() for gold, _, _ in golds.values() if (match := _LETTER.fullmatch(gold.strip())))
    return dict(sorted(letters.items()))


def _duplicates(prepared: Prepared, rows: Mapping[int, Json]) -> dict[str, int]:
    digests = {role: [rows[i]["row_digest"] for i in prepared.roles[role]] for role in ROLES}
    return {role: len(own) - len(set(own)) for role, own in digests.items()}


def _shared_pictures(prepared: Prepared, rows: Mapping[int, Json]) -> int:
    apart = {d for role in ("validation", "test") for i in prepared.roles[role] for d in _digests(rows[i])}
    return sum(not apart.isdisjoint(_digests(rows[i])) for i in prepared.roles["train"])


def _digests(row: Json) -> list[str]:
    return str(row["picture_digest"]).split()


def _look_alikes(prepared: Prepared, rows: Mapping[int, Json]) -> int:
    """Train rows none of whose pictures is in test, and one of which looks like one that is."""

    def bits(indices: Sequence[int]) -> np.ndarray:
        data = b"".join(bytes.fromhex(rows[i]["look"]) for i in indices)
        return np.unpackbits(np.frombuffer(data, np.uint8)).reshape(-1, 256).astype(np.float32)  # (pictures, 256)

    seen = {digest for i in prepared.roles["test"] for digest in _digests(rows[i])}
    train = [i for i in prepared.roles["train"] if seen.isdisjoint(_digests(rows[i]))]
    test = bits(prepared.roles["test"])
    if not train or not len(test):
        return 0
    found: set[int] = set()
    for first in range(0, len(train), BATCH_ROWS):
        batch = train[first : first + BATCH_ROWS]
        own, owners = bits(batch), [i for i in batch for _ in _digests(rows[i])]
        differing = own.sum(1, keepdims=True) + test.sum(1) - 2 * own @ test.T  # (N, M)
        found |= {owners[at] for at in np.flatnonzero(differing.min(1) <= ALIKE_BITS)}
    return len(found)


def _choose(prepared: Prepared, golds: Golds, num: int, seed: int) -> Iterator[tuple[str, int]]:
    """`num` rows, one for each rule of the grader in turn, so that golds of all kinds are shown."""
    by_rule: dict[str, list[tuple[str, int]]] = {}
    candidates = [(role, index) for role in ROLES for index in prepared.roles[role]]
    random.Random(f"examples-{seed}").shuffle(candidates)
    for role, index in candidates:
        by_rule.setdefault(golds[index][2], []).append((role, index))
    while num > 0 and by_rule:
        for rule in sorted(by_rule)[:num]:
            yield by_rule[rule].pop()
            num -= 1
            if not by_rule[rule]:
                del by_rule[rule]


def _example(prepared: Prepared, index: int, role: str, gold: tuple[str, bool, str], tokens: int | None) -> Example:
    row = prepared.rows[index]
    images = [row["image"], *row.get(MORE_IMAGES, ())]
    return Example(row["row_id"], role, row["problem"], gold[0], gold[2], images, tokens)
