"""Where rows come from: the starter problems, a Hub dataset, or files here. One way to read them all.

Each source knows its splits, their sizes and columns, and streams raw rows by position; nothing is decoded here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from inference.common.errors import UserError
from training.config.data_config import COLUMNS, REQUIRED, DataConfig
from training.data.clean_row import Refusal

Cells = Mapping[str, Any] | Refusal
"""A row under the dataset's own names, or why it cannot be read."""
IMAGE_NAMES = ("image", "file_name", "images")
"""Columns that hold the picture unless the mapping names another."""


@dataclass(frozen=True)
class RawRow:
    """A row as it came."""

    position: int
    """In its split."""
    cells: Cells
    root: Path | None = None
    """The only folder from which its picture may be read."""


class Source(Protocol):
    """A dataset whose rows can be streamed."""

    identity: str
    """Changes when the rows do: a commit, or a digest of the files."""
    revision: str | None
    """The commit of a Hub dataset."""
    names: list[str]
    """The splits there are."""
    sizes: dict[str, int]
    """The rows of each split that was opened."""

    def columns(self, split: str) -> list[str]:
        """The names of the columns of a split."""
        ...

    def rows(self, split: str, positions: Sequence[int], columns: Sequence[str]) -> Iterator[RawRow]:
        """The rows at increasing positions, one after the other, with these columns at least."""
        ...


def column_mapping(config: DataConfig, there: Sequence[str]) -> dict[str, str]:
    """Our names to the dataset's: as mapped, else the same; a `UserError` names the columns there are."""
    mapping = {}
    for name in COLUMNS:
        candidates = [config.columns[name]] if name in config.columns else [name]
        if name == "image" and name not in config.columns:
            candidates = list(IMAGE_NAMES)
        found = next((candidate for candidate in candidates if candidate in there), None)
        if found:
            mapping[name] = found
        elif name in REQUIRED or name in config.columns:
            raise UserError(
                f"The dataset {config.dataset} has no column {candidates[0]!r} for `{name}`; it has "
                f"{', '.join(map(str, list(there)[:40])) or 'none'}. Map one of them: "
                f'--columns "{{{name}: NAME}}" (`columns` under `data` in a file).'
            )
    return mapping


def cells_of(batch: Any, index: int) -> Cells:
    """One row of an Arrow record batch or table, pictures undecoded; text that is not UTF-8 is a refusal."""
    try:
        return {name: batch.column(name)[index].as_py() for name in batch.schema.names}
    except (ValueError, OverflowError) as error:  # Unicode errors are value errors, Arrow's too
        return Refusal("row unreadable", f"{type(error).__name__} in a cell")


def digest(parts: Sequence[bytes]) -> str:
    """32 hexadecimal digits of several pieces, each told apart from the next."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(len(part).to_bytes(8) + part)
    return found.hexdigest()


def no_such_split(config_name: str, split: str, names: Sequence[str]) -> UserError:
    """What to say when a split is not there."""
    return UserError(
        f"The dataset {config_name} has no split {split!r}; it has {', '.join(names) or 'none'}. "
        f"Name one of them: --split {names[0] if names else 'NAME'}."
    )
