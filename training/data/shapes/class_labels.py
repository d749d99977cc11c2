"""The names of classes, which datasets of the Hub keep apart from the numbers in their columns.

    features = features_of(schema.metadata)        # {"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    with_names(1, features["label"])               # 'dog'

A Parquet or Arrow file tells them in its schema, and a repository in its card (`features_of_card`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from training.data.refusals import Refusal

MAX_FEATURES_BYTES = 4_000_000
"""A longer description of columns is not read."""
MAX_CARD_BYTES = 1_000_000
"""Of the beginning of a card, in which its description of columns stands."""
MAX_CARD_FEATURES = 10_000
_HEADER = re.compile(r"\s*---[ \t]*\n(.*?)\n---", re.DOTALL)


def features_of(metadata: Mapping[bytes, bytes] | None) -> Mapping[str, Any]:
    """The columns with classes in them, as the schema of a file describes them; none of a file that describes none."""
    return _parsed((metadata or {}).get(b"huggingface", b""))


@lru_cache(maxsize=64)
def _parsed(text: bytes) -> Mapping[str, Any]:
    if not text or len(text) > MAX_FEATURES_BYTES or b"ClassLabel" not in text:
        return {}
    try:
        found = json.loads(text)["info"]["features"]
        return {str(name): one for name, one in found.items() if has_classes(one)}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):  # of another program
        return {}


def features_of_card(card: Path, subset: str | None = None) -> Mapping[str, Any]:
    """The columns with classes in them, as `dataset_info` of a README describes them for a subset or the only one."""
    try:
        with card.open("rb") as file:
            header = _HEADER.match(file.read(MAX_CARD_BYTES).decode("utf-8-sig", "replace").replace("\r\n", "\n"))
        if header is None or "class_label" not in header[1]:
            return {}
        infos = yaml.safe_load(header[1]).get("dataset_info")
        infos = [info for info in (infos if isinstance(infos, list) else [infos]) if isinstance(info, dict)]
        if len(infos) > 1:
            infos = [info for info in infos if info.get("config_name") == (subset or "default")]
        num = count()
        found = {name: feature for info in infos for name, feature in _described(info.get("features"), num)}
        return {name: feature for name, feature in found.items() if has_classes(feature)}
    except (OSError, yaml.YAMLError, ValueError, AttributeError, RecursionError):  # no card, or one of nobody's form
        return {}


def _described(columns: Any, num: Iterator[int]) -> Iterator[tuple[str, Any]]:
    """Name and feature of each column that a card describes; `num` counts them, since YAML can repeat lists."""
    for column in columns if isinstance(columns, list) else ():
        if next(num) > MAX_CARD_FEATURES:
            raise ValueError("too many columns")
        if not isinstance(column, dict):
            continue
        kind = column.get("dtype")
        of_list = column.get("sequence", column.get("list"))
        if isinstance(kind, dict):
            yield str(column.get("name")), _class_label(kind)
        elif isinstance(of_list, dict):
            yield str(column.get("name")), {"feature": _class_label(of_list)}
        else:
            yield str(column.get("name")), dict(_described(of_list or column.get("struct"), num))


def _class_label(kind: dict[str, Any]) -> Any:
    names = (kind.get("class_label") or {}).get("names")
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names, key=int)]
    return {"_type": "ClassLabel", "names": names} if isinstance(names, list) else None


def has_classes(feature: Any) -> bool:
    """True for the description of a column with the names of classes in it."""
    if isinstance(feature, Mapping):
        return feature.get("_type") == "ClassLabel" or any(map(has_classes, feature.values()))
    return isinstance(feature, list) and any(map(has_classes, feature))


def with_names(value: Any, feature: Any) -> Any:
    """A cell with the names of its classes instead of their numbers; -1 is none. Raises `Refusal` for other numbers."""
    if isinstance(feature, list):
        return with_names(value, {"feature": feature[0] if feature else None})
    if value is None or not isinstance(feature, Mapping):
        return value
    if feature.get("_type") == "ClassLabel" and isinstance(names := feature.get("names"), list):
        if isinstance(value, list):
            return [with_names(one, feature) for one in value]
        if isinstance(value, str) and value not in names and re.fullmatch(r"-?\d{1,9}", value):
            value = int(value)  # of a table, whose cells are text
        if not isinstance(value, int):
            return value
        if not -1 <= value < len(names):
            raise Refusal("row unreadable", f"it is of the class {value}, and {len(names)} classes have names")
        return str(names[value]) if value >= 0 else None
    if isinstance(value, list):
        return [with_names(one, feature.get("feature")) for one in value]
    inside = feature.get("feature")
    inner: Mapping[str, Any] = inside if isinstance(inside, Mapping) else feature
    if isinstance(value, Mapping):
        return {name: with_names(one, inner.get(name)) for name, one in value.items()}
    return value


def named(cells: Any, features: Mapping[str, Any]) -> Any:
    """The cells of a row with the names of their classes; a `Refusal` for a class without a name."""
    if not features or isinstance(cells, Refusal):
        return cells
    try:
        return {name: with_names(cell, features.get(name)) for name, cell in cells.items()}
    except Refusal as refusal:
        return refusal
