"""The interface of a source of rows, which `hub_source`, `local_source` and the starter problems implement.

A source knows its splits, their sizes and columns, and streams raw rows by position; it decodes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from inference.common.errors import UserError
from training.config.data_config import COLUMNS, REQUIRED, DataConfig
from training.data.clean_row import Refusal

Cells = Mapping[str, object] | Refusal
"""A row under the dataset's own names, or the reason why it cannot be read."""
IMAGE_NAMES = ("image", "file_name", "images")
"""Names of the picture's column unless the mapping names another."""


@dataclass(frozen=True)
class RawRow:
    """A row as it was read."""

    position: int
    """Index in its split."""
    cells: Cells
    root: Path | None = None
    """The only folder that its picture may be read from."""


class Source(Protocol):
    """A dataset that streams its rows."""

    identity: str
    """A commit or a digest of the files; it changes when the rows change."""
    revision: str | None
    """The commit of a Hub dataset."""
    names: list[str]
    """The names of all splits."""
    sizes: dict[str, int]
    """Number of rows of each open split."""

    def columns(self, split: str) -> list[str]:
        """The names of the columns of a split."""
        ...

    def rows(self, split: str, positions: Sequence[int], columns: Sequence[str]) -> Iterator[RawRow]:
        """Streams the rows at increasing positions, with these columns at least."""
        ...


def column_mapping(config: DataConfig, columns: Sequence[str]) -> dict[str, str]:
    """The dataset's name of each of our columns: as mapped, else the same.

    Raises `UserError`, which lists the columns, if a required or mapped one is missing.
    """
    mapping = {}
    for name in COLUMNS:
        candidates = [config.columns[name]] if name in config.columns else [name]
        if name == "image" and name not in config.columns:
            candidates = list(IMAGE_NAMES)
        column = next((candidate for candidate in candidates if candidate in columns), None)
        if column:
            mapping[name] = column
        elif name in REQUIRED or name in config.columns:
            raise UserError(
                f"The dataset {config.dataset} has no column {candidates[0]!r} for `{name}`; it has "
                f"{', '.join(map(str, list(columns)[:40])) or 'none'}. Map one of them: "
                f'--columns "{{{name}: NAME}}" (`columns` under `data` in a file).'
            )
    return mapping


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
