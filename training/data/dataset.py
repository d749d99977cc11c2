"""Any dataset to rows `image`, `problem`, `solution`: cleaned, split and filtered, what was dropped counted.

    >>> splits = load_rows(read_data_config(train_rows=8, test_rows=2))
    >>> splits.train.column_names[:3]
    ['image', 'problem', 'solution']

Train, validation and test share no picture with the same problem: equality is of the decoded pixels (after scaling to
`max_pixels`) and of the problem in one case, Unicode form and spacing. It is exact, so a picture that was compressed
anew or cropped passes for another one; a perceptual hash would catch it, and would also take different drawings of
one textbook figure for equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from tqdm import tqdm

from inference.common.errors import UserError
from inference.common.settings import load_settings
from training.config.data_config import DataConfig
from training.data.dropped import Drop, Dropped
from training.data.open_source import open_source
from training.data.prepare import FACTS, Prepared, prepare
from training.data.prompt_tokens import PromptSizer
from training.data.source import Source
from training.data.splits import ROLES, allot, splits_to_open


@dataclass(frozen=True)
class Splits:
    """The rows of a run. Pictures are RGB and decoded when a row is looked at, from a memory-mapped file."""

    train: Dataset
    validation: Dataset
    """For choosing: which checkpoint, promote or not."""
    test: Dataset
    """For the report only."""
    dropped: Dropped
    about: dict[str, Any]
    """`dataset`, `revision` (the commit of a Hub dataset), and the rows that each role was allotted and kept."""


def load_rows(
    config: DataConfig,
    processor: Any = None,
    *,
    source: Source | None = None,
    home: Path | None = None,
    progress: bool = False,
) -> Splits:
    """The rows that `config` names, as `datasets.Dataset`s with the columns `image`, `problem`, `solution`, `row_id`,
    and `original_question`, `original_answer` and `kind` where the dataset has them.

    With a `processor`, rows beyond `max_prompt_tokens` are dropped. `source` is the dataset where it is open already,
    and `home` is LOOKTHINK_HOME unless given. Raises `UserError` for a dataset that cannot be read, and where no train row is left.
    """
    prepared = prepare_rows(config, source=source, home=home, progress=progress)
    if processor is not None and config.max_prompt_tokens is not None:
        prepared = drop_long_prompts(prepared, processor, config.max_prompt_tokens, progress)
    if not prepared.roles["train"]:
        raise UserError(f"No row of {config.dataset} is left to train on: {prepared.dropped}.")
    rows = {role: prepared.role(role).remove_columns(list(FACTS)) for role in ROLES}
    kept = {role: len(rows[role]) for role in ROLES}
    return Splits(rows["train"], rows["validation"], rows["test"], prepared.dropped, prepared.about | {"kept": kept})


def prepare_rows(
    config: DataConfig, *, source: Source | None = None, home: Path | None = None, progress: bool = False
) -> Prepared:
    """The rows with what is known of each, before the limit on prompts: what the audit looks at."""
    source = source or open_source(config, splits_to_open(config))
    allotment = allot(config, source.sizes)
    return prepare(config, source, allotment, home or load_settings().home, progress)


def drop_long_prompts(prepared: Prepared, processor: Any, max_tokens: int, progress: bool = False) -> Prepared:
    """`prepared` less the rows whose prompt takes more than `max_tokens` with this processor."""
    sizer = PromptSizer(processor)
    facts = prepared.rows.remove_columns("image").select_columns(["problem", "width", "height", "row_id"])
    used = {index for indices in prepared.roles.values() for index in indices}
    long: dict[int, Drop] = {}
    for index, row in enumerate(tqdm(facts, desc="measuring prompts", unit="row", disable=not progress)):
        if index not in used:
            continue
        tokens = sizer.measure(row["problem"], row["width"], row["height"]).total
        if tokens > max_tokens:
            split, position, _ = row["row_id"].rsplit("-", 2)
            place = f"{split}[{int(position)}]"
            long[index] = Drop("train", place, "prompt too long", f"{tokens:,} tokens, {max_tokens:,} are allowed")
    drops = [
        Drop(role, long[index].place, long[index].reason, long[index].detail)
        for role, indices in prepared.roles.items()
        for index in indices
        if index in long
    ]
    roles = {role: [i for i in indices if i not in long] for role, indices in prepared.roles.items()}
    return Prepared(prepared.rows, roles, prepared.dropped.with_more(drops), prepared.about)
