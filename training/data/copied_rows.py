"""Rows that a run had, by their ids, from the prepared copies of its dataset; and what reward functions get of a row.

    rows = CopiedRows(home, config.data, {"train-000017-9f2c4e1a"})
    with_columns([rows.cells("train-000017-9f2c4e1a")])         # problem, solution and the dataset's further columns

Nothing is fetched: of a dataset on the Hub only a copy that a run has made here is read; one on this machine is
prepared again where its copy is gone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from PIL import Image

from inference.common.errors import UserError
from inference.common.files import read_json
from training.config.data_config import DataConfig
from training.data.dataset import prepare_rows
from training.data.pictures import MORE_IMAGES
from training.data.prepare import OTHERS, read_part, shown_name
from training.data.prepared_copies import ABOUT, copies
from training.grading.reward_loading import RESERVED

Row = dict[str, Any]
"""A row of the dataset, by column."""
ROW_ID = "row_id"
_CELLS = ("problem", "solution", OTHERS)


def with_columns(rows: Sequence[Row]) -> list[Row]:
    """Copies of rows with the dataset's other columns, which reward functions get; `None` where a row has none.

    A column does not take the name of a parameter of ours or of TRL's. The row's id is none of them.
    """
    others: list[Row] = [json.loads(row.get(OTHERS) or "{}") for row in rows]
    names = {name for each in others for name in each} - RESERVED
    plain = [{name: value for name, value in row.items() if name not in (OTHERS, ROW_ID)} for row in rows]
    return [{name: each.get(name) for name in sorted(names)} | row for row, each in zip(plain, others)]


class CopiedRows:
    """The rows with these ids, as far as they are on this machine."""

    def __init__(self, home: Path, config: DataConfig, row_ids: Collection[str]) -> None:
        """Looks for them in all copies of the dataset's name; an id has a digest of the row."""
        self._home, self._config = home, config
        self._wanted = set(row_ids)
        self._places: dict[str, tuple[Dataset, int]] = {}
        self.trouble = ""
        """The reason why rows are missing, in words."""
        self._look()
        if self.missing and config.source_kind != "hub":
            try:
                prepare_rows(config, home=home, progress=True)
                self._look()
            except UserError as error:
                self.trouble = str(error)
        if self.missing and not self.trouble:
            kind = "no run has prepared it here" if config.source_kind == "hub" else "it has changed since"
            self.trouble = f"{len(self.missing):,} of {len(self._wanted):,} rows are not among those of this machine"
            self.trouble += f", as {kind}" if not self._places else ""

    @property
    def missing(self) -> set[str]:
        """The ids without a row."""
        return self._wanted - self._places.keys()

    def cells(self, row_id: object) -> Row:
        """`problem`, `solution` and the further columns of a row, for `with_columns`; empty where it is missing."""
        rows, at = self._places.get(str(row_id), (None, 0))
        if rows is None:
            return {}
        return dict(rows.select_columns([name for name in _CELLS if name in rows.column_names])[at])

    def pictures(self, row_id: object) -> list[Image.Image]:
        """The pictures of a row, decoded; empty where it is missing."""
        rows, at = self._places.get(str(row_id), (None, 0))
        if rows is None:
            return []
        columns = [name for name in ("image", MORE_IMAGES) if name in rows.column_names]
        row = rows.select_columns(columns)[at]
        return [row["image"], *(row.get(MORE_IMAGES) or ())]

    def _look(self) -> None:
        name = shown_name(self._config)
        for copy in copies(self._home):
            if copy.dataset != name or not self.missing:
                continue
            about = read_json(copy.folder / ABOUT) or {}
            for number in range(int(about.get("parts") or 0)):
                part = read_part(copy.folder, number)
                for at, row_id in enumerate(part.rows[ROW_ID] if part else ()):
                    if part and row_id in self._wanted:
                        self._places.setdefault(row_id, (part.rows, at))
