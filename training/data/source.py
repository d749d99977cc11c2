"""The interface of a source of rows, which `hub_source`, `local_source` and the starter problems implement.

A source knows its splits, their sizes and columns, and streams raw rows by position; it decodes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from inference.common.errors import UserError
from inference.common.settings import DEFAULT_LIMITS
from training.config.data_config import DataConfig
from training.data.formats import RowShape, recognise
from training.data.pictures import Folders, read_pictures
from training.data.refusals import Refusal
from training.data.shapes.cells import is_deep, light, num_chars, value_at
from training.data.shapes.class_labels import features_of, named

Cells = Mapping[str, object] | Refusal
"""A row under the dataset's own names, or the reason why it cannot be read."""
SAMPLE_ROWS = 20
"""The first rows of a split, from which its shape is told."""
SPREAD_ROWS = 200
"""Further rows, from all over the split, that are looked at for what the first ones leave empty."""
LIGHT_CHARS = 20_000
"""Of a column whose cells in the first rows are longer none is read of further rows, unless its file has rows whole."""
SEARCHED_ROWS = 20_000
"""Rows that are searched for a column which is mapped and which the first ones do not have."""
DECIDING_ROWS = 2_000
"""Rows of a split that are read at most to tell whether its golds count the options from 0 or from 1."""
MAX_COLUMNS = 2_000
"""Of a split, with those that the rows have which are looked at; more are refused."""
MAX_NAMED = 20
"""Splits that an error names; the others are counted."""
READERS = 8
"""Rows whose pictures are read at once for their groups."""


@dataclass(frozen=True)
class RawRow:
    """A row as it was read."""

    position: int
    """Index in its split."""
    cells: Cells
    folders: Folders | None = None
    """Those that its picture may be read from."""


class RowFile(Protocol):
    """The rows of one file."""

    def __len__(self) -> int: ...

    def columns(self) -> list[str]:
        """The names of its columns."""
        ...

    def rows(self, positions: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
        """The rows at increasing `positions`, with these columns at least."""
        ...


class Source(Protocol):
    """A dataset that streams its rows."""

    revision: str | None
    """The commit of a Hub dataset."""
    names: list[str]
    """The names of all splits."""
    sizes: dict[str, int]
    """Number of rows of each open split."""
    notes: list[str]
    """Which files are not read, and which are read as another thing than they say, in words."""

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
    columns = _few(config, source.columns(split))
    size = source.sizes[split]
    rows = list(islice(source.rows(split, range(min(SAMPLE_ROWS, size)), columns), SAMPLE_ROWS))
    sample = [raw.cells for raw in rows if not isinstance(raw.cells, Refusal)]
    if not config.is_starter:
        short = [name for name in columns if all(num_chars(row.get(name)) <= LIGHT_CHARS for row in sample)]
        sample += [light(cells) for cells in _readable(source, split, _spread(size, SPREAD_ROWS), short)]
    there = set(columns)  # one name may be there twice
    further = dict.fromkeys(name for cells in sample for name in cells if name not in there)
    columns = _few(config, [*columns, *further])
    for path in config.columns.values():
        for name in (part.strip().split(".")[0] for part in ([path] if path in columns else path.split("+"))):
            if name not in columns:
                searched = _readable(source, split, range(min(size, SEARCHED_ROWS)), [name])
                sample += [light(cells) for cells in islice((cells for cells in searched if name in cells), 1)]

    def more(names: Sequence[str]) -> Iterator[Mapping[str, object]]:
        return _readable(source, split, _spread(size, DECIDING_ROWS), names)

    shape = recognise(config, columns, sample, rows[0].folders if rows else None, more)
    return replace(shape, notes=(*shape.notes, *source.notes))


def _few(config: DataConfig, columns: list[str]) -> list[str]:
    """The columns. Raises `UserError` for more than `MAX_COLUMNS`."""
    if len(columns) > MAX_COLUMNS:
        raise UserError(
            f"The rows of {config.dataset} have {len(columns):,} columns; at most {MAX_COLUMNS:,} are read. Leave out "
            "those that no row needs, or put them into one column that holds an object."
        )
    return columns


def _spread(size: int, num: int) -> list[int]:
    """At most `num` positions behind the first rows, evenly apart, with the last."""
    behind = size - SAMPLE_ROWS
    return sorted({size - 1 - at * behind // min(num, behind) for at in range(min(num, behind))}) if behind > 0 else []


def _readable(
    source: Source, split: str, positions: Sequence[int], columns: Sequence[str]
) -> Iterator[Mapping[str, object]]:
    found = (raw.cells for raw in source.rows(split, positions, columns)) if positions else ()
    yield from (cells for cells in found if not isinstance(cells, Refusal))


def row_shapes(config: DataConfig, source: Source, splits: Sequence[str]) -> dict[str, RowShape]:
    """The shape of each split's rows. Where one leaves open what its golds are, another one's decides for it.

    Raises `UserError` as `row_shape` does.
    """
    shapes = {split: row_shape(config, source, split) for split in splits}
    clear = [
        shape for shape in shapes.values() if shape.options and shape.reading.num_golds and not shape.reading.rival
    ]
    for split, shape in shapes.items():
        same = [one for one in clear if (one.solution, one.options) == (shape.solution, shape.options)]
        if shape.reading.rival and same:
            doubts = tuple(doubt for doubt in shape.doubts if shape.reading.rival not in doubt)
            shapes[split] = replace(shape, reading=same[0].reading, doubts=doubts)
    return shapes


def group_keys(config: DataConfig, source: Source) -> dict[tuple[str, int], str]:
    """The group of each row of the open splits, by its cell in `group_by`, or for `image` by its pictures.

    Rows that share a picture are one group, and so are those that share one with another row of it. Pictures are equal
    if the contents of their files are. Raises `UserError` for a column that is missing.
    """
    assert config.group_by is not None
    if config.group_by == "image":
        return _groups_of_pictures(config, source)
    groups, is_there, first = {}, False, ""
    for split, size in source.sizes.items():
        columns, column = source.columns(split), config.group_by.split(".")[0]
        if column not in columns:
            raise UserError(
                f"group_by is {config.group_by}, and the dataset {config.dataset} has no such column; it has "
                f"{', '.join(columns[:40])}. Name one of them, or image."
            )
        for raw in source.rows(split, range(size), [column]):
            cells = {} if isinstance(raw.cells, Refusal) or is_deep(raw.cells) else raw.cells
            cell = value_at(cells, config.group_by)
            is_there |= cell is not None
            first = first or (repr(cells[column]) if column in cells else "")
            groups[split, raw.position] = digest([repr((cell,)).encode("utf-8", "surrogatepass")])
    if not is_there:
        raise UserError(
            f"group_by is {config.group_by}, and no row of {config.dataset} has a value there; the first {column!r} is "
            f"{first[:120] or 'empty'}. Name a column or a field that the rows have, or image."
        )
    return groups


def _groups_of_pictures(config: DataConfig, source: Source) -> dict[tuple[str, int], str]:
    first: dict[str, str] = {}  # by picture another one of its group, up to the one that stands for the group

    def group_of(key: str) -> str:
        while first.setdefault(key, key) != key:
            first[key] = first[first[key]]
            key = first[key]
        return key

    keys = {}
    with ThreadPoolExecutor(READERS) as pool:
        for split, size in source.sizes.items():
            shape = row_shape(config, source, split)
            rows = source.rows(split, range(size), list({column.split(".")[0] for column in shape.image}))
            while some := list(islice(rows, 2 * READERS)):
                for raw, pictures in zip(some, pool.map(partial(_digests, shape), some)):
                    keys[split, raw.position] = pictures[0]
                    for picture in pictures[1:]:
                        first[group_of(picture)] = group_of(pictures[0])
    return {key: group_of(picture) for key, picture in keys.items()}


def _digests(shape: RowShape, raw: RawRow) -> list[str]:
    """A digest of each picture of a row; one of the cell for a picture that cannot be read."""
    if isinstance(raw.cells, Refusal) or is_deep(raw.cells):
        return [digest([repr(raw.position).encode()])]
    cell = shape.pictures(raw.cells)
    try:
        found = [picture for picture in read_pictures(cell, raw.folders, DEFAULT_LIMITS)]
        return [digest([one if isinstance(one, bytes) else one.tobytes()]) for one in found]
    except Refusal:
        return [digest([repr(cell).encode("utf-8", "surrogatepass")])]


def cells_of(batch: pa.RecordBatch | pa.Table, index: int) -> Cells:
    """One row of an Arrow batch, its picture not decoded; text that is not UTF-8 is a refusal."""
    try:
        cells = {
            field.name: _cell(column[index].as_py(), field.type) for field, column in zip(batch.schema, batch.columns)
        }
        return named(cells, features_of(batch.schema.metadata))
    except (ValueError, OverflowError, RecursionError) as error:  # Unicode errors are value errors, Arrow's too
        return Refusal("row unreadable", f"{type(error).__name__} in a cell")


@lru_cache(maxsize=1024)
def _has_narrow_numbers(kind: pa.DataType) -> bool:
    """True for a type with numbers of 16 or 32 bits in it."""
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        return True
    return any(_has_narrow_numbers(kind.field(at).type) for at in range(kind.num_fields))


def _cell(value: Any, kind: pa.DataType) -> Any:
    """A cell whose narrow numbers are those that were written: 0.1, and not the 0.10000000149 that is held of it."""
    if value is None or not _has_narrow_numbers(kind):
        return value
    if pa.types.is_struct(kind):
        return {
            kind.field(at).name: _cell(value[kind.field(at).name], kind.field(at).type) for at in range(kind.num_fields)
        }
    if pa.types.is_map(kind):
        return [(_cell(key, kind.key_type), _cell(item, kind.item_type)) for key, item in value]
    if isinstance(value, list):
        return [_cell(item, kind.value_type) for item in value]
    narrow = np.float16 if pa.types.is_float16(kind) else np.float32
    return float(str(narrow(value))) if isinstance(value, float) else value


def digest(parts: Sequence[bytes]) -> str:
    """A digest of several pieces and of their borders, as 32 hexadecimal digits."""
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        total.update(len(part).to_bytes(8) + part)
    return total.hexdigest()


def no_such_split(config_name: str, split: str, names: Sequence[str]) -> UserError:
    """The error for a missing split."""
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return UserError(
        f"The dataset {config_name} has no split {split!r}; it has {', '.join(names[:MAX_NAMED]) or 'none'}{more}. "
        f"Name one of them: --split {names[0] if names else 'NAME'}."
    )
