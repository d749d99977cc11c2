"""The errors for columns that a row needs and that are not there, or in other rows than the rest.

raise NoColumn(config, "problem", "problem", ["image", "qa"], sample)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inference.common.errors import UserError
from training.config.data_config import DataConfig
from training.data.shapes.answer_columns import SOLUTION_NAMES
from training.data.shapes.cells import first_named, is_empty, value_at
from training.data.shapes.image_columns import IMAGE_NAMES
from training.data.shapes.problems import PROBLEM_NAMES

_NAMES = {"image": IMAGE_NAMES, "problem": PROBLEM_NAMES, "solution": SOLUTION_NAMES}


class NoColumn(UserError):
    """A column that a row needs is not there; `words` say so without a remedy."""

    def __init__(
        self,
        config: DataConfig,
        ours: str,
        theirs: str,
        columns: Sequence[str],
        sample: Sequence[Mapping[str, object]] = (),
    ) -> None:
        has = ", ".join(map(str, list(columns)[:40])) or "none"
        self.words = f"has no column {theirs!r} for `{ours}`; it has {has}."
        remedy = f'Map one of them: --columns "{{{ours}: NAME}}" (`columns` under `data` in a file), or write it into '
        remedy += f"the rows.{_found_inside(ours, columns, sample)}"
        super().__init__(f"The dataset {config.dataset} {self.words} {remedy}")


def _found_inside(ours: str, columns: Sequence[str], sample: Sequence[Mapping[str, object]]) -> str:
    """A sentence on the column that lies in the cells of another one, or several times in each; empty if none does."""
    names = _NAMES.get(ours, ())
    for name in columns:
        cell = next((one for row in sample if not is_empty(one := value_at(row, name))), None)
        is_list = isinstance(cell, list)
        inner = cell[0] if isinstance(cell, list) else cell
        found = first_named(names, list(map(str, inner)), ()) if isinstance(inner, Mapping) else None
        if is_list and (found or name.strip().lower().removesuffix("s") in names):
            return f" {name!r} has several in a row: write a row for each."
        if found:
            return f" It may lie in {name!r}: {{{ours}: {name}.{found}}}."
    return ""


def check_together(config: DataConfig, problem: str, solution: str, sample: Sequence[Mapping[str, object]]) -> None:
    """Raises `UserError` where some rows have the problem and others the answer, as in the two files of VQAv2."""
    found = {tuple(not is_empty(value_at(row, name)) for name in (problem, solution)) for row in sample}
    if {(True, False), (False, True)} <= found and (True, True) not in found:
        raise UserError(
            f"No row of {config.dataset} that was looked at has both {problem!r} and {solution!r}: the problems stand "
            "in one file and their answers in another. Join them by what both have, as with pandas: "
            "problems.merge(answers, on='question_id').to_json('train.jsonl', orient='records', lines=True)."
        )
