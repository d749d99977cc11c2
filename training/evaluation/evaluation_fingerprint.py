"""What decides the completions of an evaluation, as digests: two that agree in all of it give the same ones."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from inference.common.settings import base_source
from training.evaluation.swapped_pictures import sizes_and_keys

_WEIGHTS = (".safetensors", ".json", ".jinja")
_NOT_READ = ("evaluation", "comparison", "promotion")
"""Beginnings of the names of files that are put beside an adapter and are no part of it."""


def base_commit(base: str, revision: str | None = None) -> str | None:
    """The commit of a base on the Hub that `revision` (else its main branch) stands for; `None` for a folder.

    Where the Hub is not reached, by what this machine has of it. Raises `OSError` if that is nothing.
    """
    if Path(base_source(base)).is_dir():
        return None
    from transformers.utils.hub import cached_file, extract_commit_hash

    return extract_commit_hash(cached_file(base, "config.json", revision=revision), None)


def model_digest(source: str | Path, revision: str | None = None) -> str:
    """Of the files that decide what a model or adapter says; of a Hub id, the id and its commit."""
    folder = Path(source)
    if not folder.is_dir():
        return f"{source}@{base_commit(str(source), revision)}"
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
