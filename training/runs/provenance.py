"""Provenance of a run: versions of Python, the libraries and this code, the hardware, and digests of its models."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from inference.common.files import Json
from inference.common.settings import base_source

LIBRARIES = (
    "torch",
    "torchvision",
    "transformers",
    "tokenizers",
    "safetensors",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "huggingface-hub",
    "pillow",
    "numpy",
    "math-verify",
    "latex2sympy2-extended",
)
"""Libraries that results can depend on."""
_ROOT = Path(__file__).parents[2]
_GIT_SECONDS = 20
_NOT_COMPARED = ("time", "step", "cpus", "micro_batch_size", "gradient_checkpointing", "memory")
_MODEL_FILES = (".safetensors", ".json", ".jinja")
_NOT_MODEL_FILES = ("evaluation.json", "comparison.json", "promotion.json", "known_pictures.safetensors")
"""Files beside a base or an adapter that are no part of it, unless it has an index (it may name any file)."""


def versions_here() -> Json:
    """`python`, `system`, `cpus`, `code_commit`, `code_dirty`, and the version of each library; `None` where unknown.

    `code_dirty` is true where tracked files differ from the commit. Outside a git checkout both are `None`. Looks once
    in a process, which goes on with what it has loaded.
    """
    return dict(_versions())


@functools.cache
def _versions() -> Json:
    libraries = {name: metadata.version(name) for name in LIBRARIES}
    here = {"python": platform.python_version(), "system": platform.system(), "cpus": os.cpu_count()}
    return here | code_version(_ROOT) | libraries


def code_version(folder: Path) -> Json:
    """`code_commit` and `code_dirty` of a checkout; `None` for a folder within another repository."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    commit = _git(folder, "rev-parse", "HEAD") if top and Path(top).resolve() == folder.resolve() else None
    status = _git(folder, "status", "--porcelain", "--untracked-files=no") if commit else None
    return {"code_commit": commit, "code_dirty": None if status is None else bool(status)}


def changed_versions(before: Json, now: Json) -> str:
    """The differences between two starts of a run, in words; empty if there are none.

    >>> changed_versions({"torch": "2.15.0", "trl": "1.16.0"}, {"torch": "2.16.0", "trl": "1.16.0"})
    'torch 2.15.0 before, 2.16.0 now'
    """
    changes = []
    for name, value in now.items():
        if name in before and name not in _NOT_COMPARED and before[name] != value:
            changes.append(f"{name.replace('_', ' ')} {before[name]} before, {value} now")
    return "; ".join(changes)


def hardware() -> Json:
    """`hardware` (its name), `num_gpus`, and `cuda`, the version of CUDA or `None`."""
    import torch

    from inference.model.device import hardware_name

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {"hardware": hardware_name(), "num_gpus": gpus, "cuda": torch.version.cuda if gpus else None}


def base_commit(base: str, revision: str | None = None) -> str | None:
    """The commit of a base on the Hub at `revision` (default: its main branch); `None` for a folder.

    Uses this machine's cache where the Hub is not reached. Raises `OSError` if the cache has none.
    """
    if Path(base_source(base)).is_dir():
        return None
    from transformers.utils.hub import cached_file, extract_commit_hash

    return extract_commit_hash(cached_file(base, "config.json", revision=revision), None)


def model_digest(source: str | Path, revision: str | None = None) -> str:
    """A digest of the files that determine what a model or adapter generates; for a Hub id, the id and its commit."""
    folder = Path(source)
    if not folder.is_dir():
        return f"{source}@{base_commit(str(source), revision)}"
    digest = hashlib.blake2b(digest_size=16)
    left_out = () if (folder / "model.safetensors.index.json").exists() else _NOT_MODEL_FILES
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in _MODEL_FILES and path.name not in left_out:
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _git(folder: Path, *words: str) -> str | None:
    """The output of git without its last line end; `None` if there is no git or it refuses."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(folder), *words]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return process.stdout.rstrip("\n") if process.returncode == 0 else None
