"""What decides the completions of an evaluation, as digests: two that agree in all of it give the same ones."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from training.swapped_pictures import sizes_and_keys

_WEIGHTS = (".safetensors", ".json", ".jinja")
_NOT_READ = ("evaluation", "comparison", "promotion")
"""Beginnings of the names of files that are put beside an adapter and are no part of it."""


def model_digest(source: str | Path) -> str:
    """Of the files that decide what a model or adapter says; of a Hub id, the id and its commit on this machine."""
    folder = Path(source)
    if not folder.is_dir():
        from transformers import AutoConfig

        return f"{source}@{getattr(AutoConfig.from_pretrained(source), '_commit_hash', None)}"
    found = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in _WEIGHTS and not path.name.startswith(_NOT_READ):
            with path.open("rb") as file:
                found.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def rows_digest(rows: Any) -> str:
    """Of pictures, problems and solutions, in order."""
    found = hashlib.blake2b(digest_size=16)
    for texts in zip(sizes_and_keys(rows)[1], rows["problem"], rows["solution"]):
        for text in texts:
            content = text.encode("utf-8", "surrogatepass")
            found.update(len(content).to_bytes(8) + content)
    return found.hexdigest()
