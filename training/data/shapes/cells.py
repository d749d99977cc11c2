"""Columns by name, and the cells of a few rows that tell what a column holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence


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
