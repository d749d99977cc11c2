"""Gives each row another row's picture, of about the same size: who answers as well as before has not looked.

>>> swap([(28, 28)] * 3, ["a", "b", "c"], seed=0)
[1, 2, 0]
"""

from __future__ import annotations

import io
import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from inference.common.errors import UserError


def swap(sizes: Sequence[tuple[int, int]], keys: Sequence[str], seed: int) -> list[int]:
    """For each row the index of the row whose picture it gets, each picture used as often as it was.

    `sizes` are width and height in pixels, `keys` are equal for equal pictures. No row gets a picture equal to its own.
    Pictures of the same size trade first, or else those of about as many pixels (within a factor of about 1.4). Raises
    `UserError` if more than half of the rows have one and the same picture.
    """
    classes: list[list[int]] = []
    waiting: list[int] = []
    for rows in _size_classes(sizes):
        waiting += rows
        if _can_trade(waiting, keys):
            classes.append(waiting)
            waiting = []
    while waiting and not _can_trade(waiting, keys):
        if not classes:
            raise UserError(
                f"pictures cannot be swapped: of {len(keys)} rows {Counter(keys).most_common(1)[0][1]} have the same "
                "picture; leave the swapped conditions out, or take other rows"
            )
        waiting += classes.pop()
    rng = random.Random(f"swap-{seed}")
    partners = [0] * len(keys)
    for rows in [*classes, waiting]:
        _trade(rows, keys, rng, partners)
    return partners


def sizes_and_keys(rows: Any) -> tuple[list[tuple[int, int]], list[str]]:
    """Of each row's picture the size, from its file's head, and a digest of its file."""
    import hashlib

    import datasets

    files = rows.select_columns(["image"]).cast_column("image", datasets.Image(decode=False))
    sizes, keys = [], []
    for row in files:
        content = row["image"]["bytes"] or Path(row["image"]["path"]).read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            sizes.append(picture.size)
        keys.append(hashlib.blake2b(content, digest_size=16).hexdigest())
    return sizes, keys


def _size_classes(sizes: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Rows by their picture's size, from small to large; a size that one row has alone is joined with its like."""
    counts = Counter(sizes)
    classes: dict[tuple, list[int]] = {}
    for row, (width, height) in enumerate(sizes):
        half_octave = round(2 * math.log2(width * height))
        alone = counts[width, height] == 1
        classes.setdefault((half_octave, *((0, 0) if alone else (width, height))), []).append(row)
    return [classes[key] for key in sorted(classes)]


def _can_trade(rows: Sequence[int], keys: Sequence[str]) -> bool:
    return bool(rows) and 2 * max(Counter(keys[row] for row in rows).values()) <= len(rows)


def _trade(rows: Sequence[int], keys: Sequence[str], rng: random.Random, partners: list[int]) -> None:
    """With equal pictures side by side, shifting all by the longest such run gives everyone another picture."""
    groups: dict[str, list[int]] = {}
    for row in rows:
        groups.setdefault(keys[row], []).append(row)
    blocks = list(groups.values())
    rng.shuffle(blocks)
    order = [row for block in blocks for row in block]
    shift = max(map(len, blocks), default=0)
    for place, row in enumerate(order):
        partners[row] = order[(place + shift) % len(order)]
