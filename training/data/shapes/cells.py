"""Columns by name, and the cells of a few rows that tell what a column holds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MAX_LIGHT_CHARS, MAX_LIGHT_ITEMS, MAX_LIGHT_DEPTH = 20_000, 100, 8
"""Of a cell that is only looked at."""
MAX_DEPTH = 64
"""Lists and mappings within one another in a row; a deeper row is refused."""


def value_at(row: Mapping[str, object], path: str) -> object:
    """The cell of a column, or what lies in it by names and numbers: `reward_model.ground_truth`, `images.0`."""
    if path in row:
        return row[path]
    value: object = row
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def is_there(path: str, columns: Sequence[str], sample: Sequence[Mapping[str, object]]) -> bool:
    return path in columns or any(value_at(row, path) is not None for row in sample)


def first_named(names: Sequence[str], columns: Sequence[str], sample: Sequence[Mapping[str, object]]) -> str | None:
    """The first of these names that is a column, whatever its case."""
    by_lower = {
        re.sub(r"[\s-]+", "_", column.strip().lower()).removesuffix(".txt"): column for column in reversed(columns)
    }
    found = (
        by_lower.get(name) or (name if "." in name and is_there(name, columns, sample) else None) for name in names
    )
    return next((name for name in found if name), None)


def holds(sample: Sequence[Mapping[str, object]], path: str, test: Callable[[object], object]) -> bool:
    """True if the first cell of that column that is not empty passes a test."""
    cells = (value_at(row, path) for row in sample)
    return bool(test(next((cell for cell in cells if not is_empty(cell)), None)))


def is_empty(cell: object) -> bool:
    return (
        cell is None
        or (isinstance(cell, str | bytes | list | dict) and not cell)
        or (isinstance(cell, Mapping) and not any(cell.values()))
    )


def is_deep(cell: object) -> bool:
    """True for more than `MAX_DEPTH` lists and mappings within one another."""
    inner: list[object] = [cell]
    for _ in range(MAX_DEPTH + 1):
        lists = [one.values() if isinstance(one, Mapping) else one for one in inner if isinstance(one, Mapping | list)]
        if not lists:
            return False
        inner = [one for each in lists for one in each]
    return True


def light(cell: Any, depth: int = MAX_LIGHT_DEPTH) -> Any:
    """A cell to look at: of bytes and of long texts their beginnings and a digest, so that equal ones stay equal."""
    if isinstance(cell, bytes) and len(cell) > 128:
        return cell[:64] + hashlib.blake2b(cell, digest_size=32).digest()
    if isinstance(cell, str) and len(cell) > MAX_LIGHT_CHARS:
        return cell[:100] + hashlib.blake2b(cell.encode("utf-8", "replace"), digest_size=32).hexdigest()
    if isinstance(cell, Mapping):
        return {name: light(one, depth - 1) for name, one in cell.items()} if depth else {}
    if isinstance(cell, list):
        return [light(one, depth - 1) for one in cell[:MAX_LIGHT_ITEMS]] if depth else []
    return cell


def num_chars(cell: object, depth: int = MAX_LIGHT_DEPTH) -> int:
    """The number of characters and bytes in a cell, in lists and mappings too."""
    if isinstance(cell, str | bytes):
        return len(cell)
    inner = cell.values() if isinstance(cell, Mapping) else cell if isinstance(cell, list | tuple) else ()
    return sum(num_chars(one, depth - 1) for one in inner) if depth else 0
