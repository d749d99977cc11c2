"""With what a run works: Python, the libraries and the commit of this code, and what of it has changed since."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

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
"""Those that a figure can depend on."""
_ROOT = Path(__file__).parents[2]
_GIT_SECONDS = 20
_NOT_COMPARED = ("time", "step", "cpus")


def versions_here() -> dict[str, Any]:
    """`python`, `system`, `cpus`, `code_commit`, `code_dirty`, and the version of each library; `None` where unknown.

    `code_dirty` is true where tracked files differ from the commit. Outside a git checkout both are `None`.
    """
    libraries = {name: metadata.version(name) for name in LIBRARIES}
    here = {"python": platform.python_version(), "system": platform.system(), "cpus": os.cpu_count()}
    return here | code_version(_ROOT) | libraries


def code_version(folder: Path) -> dict[str, Any]:
    """`code_commit` and `code_dirty` of a checkout; a folder within another repository is none."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    commit = _git(folder, "rev-parse", "HEAD") if top and Path(top).resolve() == folder.resolve() else None
    status = _git(folder, "status", "--porcelain", "--untracked-files=no") if commit else None
    return {"code_commit": commit, "code_dirty": None if status is None else bool(status)}


def changed_versions(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs between two starts of a run, in words; empty if nothing does.

    >>> changed_versions({"torch": "2.15.0", "trl": "1.16.0"}, {"torch": "2.16.0", "trl": "1.16.0"})
    'torch 2.15.0 before, 2.16.0 now'
    """
    found = []
    for name, value in now.items():
        if name in before and name not in _NOT_COMPARED and before[name] != value:
            found.append(f"{name.replace('_', ' ')} {before[name]} before, {value} now")
    return "; ".join(found)


def _git(folder: Path, *words: str) -> str | None:
    """What git says, without its last line end; `None` if there is no git or it refuses."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        found = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.rstrip("\n") if found.returncode == 0 else None
