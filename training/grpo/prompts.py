"""A run's rows as its trainer takes them: conversations with a picture, which is decoded once for each group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from datasets import Dataset, Image

from inference.prompt.format import build_messages, neutralise


def prompts(rows: Dataset, markers: Iterable[str]) -> Dataset:
    """Rows as TRL wants them: `prompt` (plain messages, to which TRL adds the picture), `image`, `solution`."""

    def row(problem: str) -> dict[str, Any]:
        messages = build_messages(neutralise(problem, markers))
        return {"prompt": [{"role": m["role"], "content": m["content"][-1]["text"]} for m in messages]}

    unneeded = [name for name in rows.column_names if name not in ("image", "solution")]
    return rows.map(row, input_columns=["problem"], remove_columns=unneeded)


def decode_pictures(rows: Sequence[dict[str, Any]], group_size: int, first: int) -> list[dict[str, Any]]:
    """Copies of a step's rows with the picture decoded, once for each group; `first` is the first row's number among
    those of all processes."""
    decoded: list[dict[str, Any]] = []
    for i, row in enumerate(rows):
        is_new = not i or (first + i) % group_size == 0
        picture = Image().decode_example(row["image"]) if is_new else decoded[-1]["image"]
        decoded.append(row | {"image": picture})
    return decoded
