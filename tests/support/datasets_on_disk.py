"""Small datasets as people keep them: pictures with problems, as rows, JSONL, folders and Parquet shards."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import datasets
from PIL import Image


def picture(number: int, size: tuple[int, int] = (36, 30)) -> bytes:
    """A PNG that is different for each number."""
    image = Image.new("RGB", size, (number * 37 % 256, number * 91 % 256, number // 256))
    image.putpixel((number % size[0], number // size[0] % size[1]), (255, 255, 255))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def rows(num: int, first: int = 0) -> list[dict[str, Any]]:
    """Different rows in the Hub dataset's columns, their pictures as bytes."""
    return [
        {
            "image": {"bytes": picture(i), "path": None},
            "problem": f"What is {i} + 1?",
            "solution": f"<think>{i} + 1 = {i + 1}</think>\n\n<answer>{i + 1}</answer>",
            "original_question": f"What is {i} + 1?",
            "original_answer": str(i + 1),
        }
        for i in range(first, first + num)
    ]


def write_lines(path: Path, lines: Iterable[Mapping[str, Any] | str]) -> Path:
    """A JSONL file; a string is written as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return path


def write_folder(folder: Path, num: int, first: int = 0) -> Path:
    """Pictures as files, with `metadata.jsonl`."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + num):
        (folder / f"{i}.png").write_bytes(picture(i))
    texts = [{k: v for k, v in row.items() if k != "image"} for row in rows(num, first)]
    write_lines(folder / "metadata.jsonl", [{"file_name": f"{first + i}.png"} | t for i, t in enumerate(texts)])
    return folder


def parquet(some: list[dict[str, Any]], rows_per_group: int = 7) -> bytes:
    """One Parquet file with embedded pictures, as `push_to_hub` writes it."""
    texts = {name: datasets.Value("string") for name in some[0] if name != "image"}
    features = datasets.Features({"image": datasets.Image(), **texts})
    buffer = io.BytesIO()
    datasets.Dataset.from_list(some, features=features).to_parquet(buffer, batch_size=rows_per_group)
    return buffer.getvalue()


def shards(some: list[dict[str, Any]], split: str = "train", num: int = 2) -> dict[str, bytes]:
    """Parquet shards under the names that the Hub gives them."""
    step = -(-len(some) // num)
    return {f"data/{split}-{i:05d}-of-{num:05d}.parquet": parquet(some[i * step : (i + 1) * step]) for i in range(num)}
