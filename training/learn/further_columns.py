"""Columns of a dataset's rows for a user's own reward function in the lab, as it gets them in training.

The record has the row's id, problem and solution; the other columns come from the copy of the dataset on this machine.
A function that names a column which is not here is refused in words; one that takes all as `**columns` goes on without
them, and a note says so.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.common.errors import UserError
from inference.common.files import Json
from training.config.run_config import RunConfig
from training.grading.rewards import Reward

if TYPE_CHECKING:
    from training.data.copied_rows import CopiedRows

GIVEN = frozenset("completions completion_ids prompts problem solution log_extra log_metric".split())
"""Parameters that the record alone fills."""
PICTURES = frozenset(("image", "images"))
"""Parameters that are filled only where a function names them: decoding takes time."""


class FurtherColumns:
    """The columns of the rows of one record, for the reward functions that are a user's own."""

    def __init__(
        self,
        home: Path,
        config: RunConfig,
        functions: Mapping[str, Reward],
        groups: Iterable[Json],
        note: Callable[[str], object],
    ) -> None:
        """Looks for the rows of the groups; without functions it looks for nothing.

        `note` gets in words what functions go without. Raises `UserError` for one that names a column which is not
        here.
        """
        self._rows: CopiedRows | None = None
        self._dataset = config.data.dataset
        self._trouble = ""
        """The reason why rows are missing, in words."""
        named = {name: parameters(function) - GIVEN for name, function in functions.items()}
        if not functions or config.data.is_starter and not any(named.values()):
            return  # the starter problems have no further columns
        ids = [row.get("row") for row in groups]
        known = {one for one in ids if isinstance(one, str)}
        if known:
            from training.data.copied_rows import CopiedRows  # takes a second, and only a user's own needs it

            self._rows = CopiedRows(home, config.data, known)
            self._trouble = self._rows.trouble
        if len(known) < len(set(map(str, ids))):
            self._trouble = "the record has no row ids, as older runs wrote it"
        where = f"the rows of {config.data.dataset} are not all on this machine ({self._trouble})"
        for name, columns in named.items():
            if "trainer_state" in columns:
                raise UserError(
                    f"the reward {name!r} names trainer_state, which no record has; it cannot be graded anew: leave it "
                    "out, or take the parameter out of it"
                )
            if self._trouble and columns:
                raise UserError(
                    f"the reward {name!r} names {', '.join(sorted(columns))}, and {where}; grade where the dataset is, "
                    "or leave the reward out"
                )
            if self._trouble:
                note(f"The reward {name} was graded without the dataset's further columns: {where}.")

    def given(self, function: Reward, rows: Sequence[tuple[Json, Json]], texts: Any) -> dict[str, Any]:
        """Columns for these groups and completions; `texts` is `training.learn.regrading.Texts`.

        Raises `UserError` where the function needs one that the rows do not have.
        """
        columns = texts.columns(rows) | {"log_extra": _nothing, "log_metric": _nothing}
        names = parameters(function)
        if "completion_ids" in names:
            columns["completion_ids"] = [texts.ids(one) for _, one in rows]
        else:
            del columns["completion_ids"]
        if self._rows is not None:
            columns |= self._of_rows(self._rows, names, rows, columns["problem"])
        if lacking := sorted(parameters(function, only_needed=True) - columns.keys()):
            raise UserError(
                f"the reward {function.__name__!r} names {', '.join(lacking)}, which the rows of {self._dataset} do "
                "not have; correct the name, give the parameter a default, or leave the reward out"
            )
        return columns

    @staticmethod
    def _of_rows(
        copied: CopiedRows, names: set[str], rows: Sequence[tuple[Json, Json]], problems: Sequence[str]
    ) -> dict[str, Any]:
        """The further columns, the problems as the dataset has them, and the pictures if they are named."""
        from training.data.copied_rows import with_columns

        found = with_columns([copied.cells(row.get("row")) for row, _ in rows])
        further = found[0].keys() - GIVEN if found else ()
        columns = {name: [cells.get(name) for cells in found] for name in sorted(further)}
        columns["problem"] = [cells.get("problem", own) for cells, own in zip(found, problems)]
        if names & PICTURES:
            pictures = {key: copied.pictures(key) for key in {str(row.get("row")) for row, _ in rows}}
            columns["images"] = [pictures[str(row.get("row"))] for row, _ in rows]
            columns["image"] = [of_row[0] if of_row else None for of_row in columns["images"]]
        return columns

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Explains, for the length of a call, a column that a function looks for and that is not here."""
        try:
            yield
        except UserError as error:
            if self._trouble and isinstance(error.__cause__, KeyError | TypeError):
                raise UserError(f"{error}. It had no further columns of the dataset: {self._trouble}") from error
            raise


def parameters(function: Reward, only_needed: bool = False) -> set[str]:
    """The names of a function's parameters, without those that take all; `only_needed`: those without a default."""
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    found = [one for one in inspect.signature(function).parameters.values() if one.kind not in kinds]
    return {one.name for one in found if not only_needed or one.default is one.empty}


def _nothing(*values: object) -> None:
    """Takes the place of TRL's logging functions."""
