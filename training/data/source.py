"""The interface of a source of rows, which `hub_source`, `local_source` and the starter problems implement.

A source knows its splits, their sizes and columns, and streams raw rows by position; it decodes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import pyarrow as pa

from inference.common.errors import UserError
from training.config.data_config import DataConfig
from training.data.formats import RowShape, recognise, value_at
from training.data.pictures import Folders
from training.data.refusals import Refusal

Cells = Mapping[str, object] | Refusal
"""A row under the dataset's own names, or the reason why it cannot be read."""
SAMPLE_ROWS = 20
"""Rows of a split from which its shape is told."""


@dataclass(frozen=True)
class RawRow:
    """A row as it was read."""

    position: int
    """Index in its split."""
    cells: Cells
    folders: Folders | None = None
    """Those that its picture may be read from."""


class Source(Protocol):
    """A dataset that streams its rows."""

    revision: str | None
    """The commit of a Hub dataset."""
    names: list[str]
    """The names of all splits."""
    sizes: dict[str, int]
    """Number of rows of each open split."""

    @property
    def identity(self) -> str:
        """A commit, or a digest of the files' content; it changes when the rows change."""
        ...

    def signature(self) -> str:
        """A text that is quickly told and changes when the rows may have changed."""
        ...

    def columns(self, split: str) -> list[str]:
        """The names of the columns of a split."""
        ...

    def rows(self, split: str, positions: Sequence[int], columns: Sequence[str]) -> Iterator[RawRow]:
        """Streams the rows at increasing positions, with these columns at least."""
        ...


def row_shape(config: DataConfig, source: Source, split: str) -> RowShape:
    """The shape of a split's rows, by its columns and its first rows.

    Raises `UserError`, which lists the columns, if a required or mapped one is missing.
    """
    columns = source.columns(split)
    first = range(min(SAMPLE_ROWS, source.sizes[split]))
    rows = [raw.cells for raw in islice(source.rows(split, first, columns), SAMPLE_ROWS)]
    return recognise(config, columns, [cells for cells in rows if not isinstance(cells, Refusal)])


def group_keys(config: DataConfig, source: Source) -> dict[tuple[str, int], str]:
    """The group of each row of the open splits: a digest of its cell in `group_by`, or of its pictures' cells.

    Pictures count as equal if their files, or the paths that name them, are. Raises `UserError` for a column that is
    missing.
    """
    assert config.group_by is not None
    groups = {}
    for split, size in source.sizes.items():
        columns = source.columns(split)
        paths = [config.group_by]
        if config.group_by == "image" and "image" not in columns:
            paths = list(row_shape(config, source, split).image)
        if missing := [path for path in paths if path.split(".")[0] not in columns]:
            raise UserError(
                f"group_by is {missing[0]}, and the dataset {config.dataset} has no such column; it has "
                f"{', '.join(columns[:40])}. Name one of them, or image."
            )
        for raw in source.rows(split, range(size), [path.split(".")[0] for path in paths]):
            cells = () if isinstance(raw.cells, Refusal) else tuple(value_at(raw.cells, path) for path in paths)
            groups[split, raw.position] = digest([repr(cells).encode("utf-8", "surrogatepass")])
    return groups


def cells_of(batch: pa.RecordBatch | pa.Table, index: int) -> Cells:
    """One row of an Arrow batch, its picture not decoded; text that is not UTF-8 is a refusal."""
    try:
        return {name: batch.column(name)[index].as_py() for name in batch.schema.names}
    except (ValueError, OverflowError) as error:  # Unicode errors are value errors, Arrow's too
        return Refusal("row unreadable", f"{type(error).__name__} in a cell")


def digest(parts: Sequence[bytes]) -> str:
    """A digest of several pieces and of their borders, as 32 hexadecimal digits."""
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        total.update(len(part).to_bytes(8) + part)
    return total.hexdigest()


def no_such_split(config_name: str, split: str, names: Sequence[str]) -> UserError:
    """The error for a missing split."""
    return UserError(
        f"The dataset {config_name} has no split {split!r}; it has {', '.join(names) or 'none'}. "
        f"Name one of them: --split {names[0] if names else 'NAME'}."
    )
