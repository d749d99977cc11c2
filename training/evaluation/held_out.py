"""The rows of an evaluation: of a dataset's test or validation side, and never those that were trained on.

    >>> found = load_held_out(None, "test", 8)
    >>> len(found.rows), found.about["dataset"]
    (8, 'starter')

Test rows are for the report. Choices (which checkpoint, promote or not) are made on validation rows.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference.common.errors import UserError
from training.config.data_config import DataConfig
from training.data.dataset import load_rows
from training.evaluation.statistics import Estimate, share
from training.grading.grader import gold_answer, grade_answer
from training.grading.kinds import answer_kind
from training.starter.problems import MULTIPLE_CHOICE_SHARE, load_problems, sample_values
from training.starter.templates import TEMPLATES

ROLES = ("test", "validation")
STARTER_ROWS = 480
VALIDATION_SEED = 1_000_000
"""Added to the seed of the starter problems: another stream of held-out ones."""


@dataclass(frozen=True)
class HeldOut:
    """Rows nobody trained on."""

    rows: Any
    """A `datasets.Dataset` with `image`, `problem`, `solution`, and `kind` where the dataset has it."""
    about: dict[str, Any]
    baselines: dict[str, Estimate] = field(default_factory=dict)
    """Accuracy of answers that need no look at the picture."""


def load_held_out(
    data: DataConfig | None, role: str, num_rows: int | None = None, seed: int = 0, processor: Any = None
) -> HeldOut:
    """The rows of a role; of more than `num_rows`, so many drawn with `seed`.

    Without `data`, starter problems drawn with `seed` (480 unless said). With a `processor`, rows beyond the data's
    `max_prompt_tokens` are dropped. Raises `UserError` for another role and where there is no row.
    """
    if role not in ROLES:
        raise UserError(f"--role is {role}: rows that were trained on show nothing; choose {' or '.join(ROLES)}")
    if num_rows is not None and num_rows < 1:
        raise UserError(f"{num_rows} rows were asked for; give at least 1")
    if data is None:
        rows = load_problems("test", num_rows or STARTER_ROWS, seed + (VALIDATION_SEED if role == "validation" else 0))
        return HeldOut(rows, {"dataset": "starter", "role": role}, majority_baselines(rows))
    splits = load_rows(data, processor, progress=True)
    rows = getattr(splits, role)
    if not len(rows):
        option = "--validation-rows" if role == "validation" else "--test-rows or --test-split"
        raise UserError(f"{data.dataset} has no {role} rows as it is split; give {option}, or another --role")
    if num_rows is not None and num_rows < len(rows):
        rows = rows.select(sorted(random.Random(f"rows-{seed}").sample(range(len(rows)), num_rows)))
    name = Path(data.dataset).name if data.place == "local" else data.dataset
    about = {"dataset": name, "revision": splits.about["revision"], "split": data.split, "role": role}
    return HeldOut(rows, about, {"most frequent train answer of its kind": frequent_baseline(splits.train, rows)})


def frequent_baseline(train: Any, rows: Any) -> Estimate:
    """Accuracy of always giving the most frequent train answer to a problem of this kind with this kind of answer."""
    counts: dict[tuple, Counter[str]] = {}
    for key, gold in _keyed_golds(train):
        counts.setdefault(key, Counter())[gold] += 1
    frequent = {key: counted.most_common(1)[0][0] for key, counted in counts.items()}
    hits = [key in frequent and grade_answer(gold, frequent[key]).correct for key, gold in _keyed_golds(rows)]
    return share(hits)


def majority_baselines(rows: Any, num_samples: int = 400) -> dict[str, Estimate]:
    """Accuracy on starter rows of always giving the most frequent train answer: of each template, and of each
    template with multiple choice apart (there every letter is as frequent)."""
    frequent = {}
    rng = random.Random("majority")
    for template in TEMPLATES:
        answers = Counter(template.ask(sample_values(template, "train", rng), rng).answer for _ in range(num_samples))
        answer, count = answers.most_common(1)[0]
        is_open = (1 - MULTIPLE_CHOICE_SHARE) * count / num_samples > MULTIPLE_CHOICE_SHARE / 4
        frequent[template.name] = (answer if is_open else "A", answer)
    asked = list(zip(rows["template"], rows["problem"], rows["solution"]))
    whole = [frequent[template][0] for template, _, _ in asked]
    apart = ["A" if "\nChoices:\n" in problem else frequent[template][1] for template, problem, _ in asked]
    golds = [gold_answer(solution) for _, _, solution in asked]
    by_template, by_form = ([grade_answer(g, a).correct for g, a in zip(golds, given)] for given in (whole, apart))
    return {"majority by template": share(by_template), "majority by template, choices apart": share(by_form)}


def _keyed_golds(rows: Any) -> list[tuple[tuple, str]]:
    golds = [gold_answer(solution) for solution in rows["solution"]]
    kinds = rows["kind"] if "kind" in rows.column_names else [None] * len(golds)
    return [((kind, answer_kind(gold)), gold) for kind, gold in zip(kinds, golds)]
