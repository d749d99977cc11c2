"""Fast paths that this machine must have proven: CUDA graphs, FlashAttention in the vision tower, steps that run ahead.

    fast, words = proven_here(base, torch.device("cuda"))     # `PLAIN` unless a report says otherwise
    Engine(model, processor, base, fast=fast)

`python -m training doctor` tries each beside the plain path and writes a report (`training.doctor`). A report counts
for its own key alone: card, driver, torch, transformers and this code, and for its own base. Everywhere else the plain
path is taken, and `words`, for the log, say so.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
import transformers

from inference.common.files import Json, read_json
from inference.common.settings import STARTER, STARTER_NAME, load_settings, report_folders
from inference.model.device import hardware_name

NO_DRIVER = "none"
TITLES = {
    "cuda_graphs": "CUDA graphs",
    "flash_attention": "FlashAttention in the vision tower",
    "runs_ahead": "steps that run ahead",
}
_ROOT = Path(__file__).parents[2]
_DRIVER = Path("/proc/driver/nvidia/version")
_DRIVER_VERSION = re.compile(r"Kernel Module\s+(?:for \S+\s+)?(\d+(?:\.\d+)+)")


@dataclass(frozen=True)
class FastPaths:
    """The fast paths that an engine takes; by default none."""

    cuda_graphs: bool = False
    """Decode steps have tensors of fixed shape, which a CUDA graph replays (`inference.engine.cuda_graph`)."""
    flash_attention: bool = False
    runs_ahead: bool = False
    """A step begins before the tokens of the last are read (`inference.engine.scheduler`)."""


PLAIN = FastPaths()
NAMES = tuple(field.name for field in fields(FastPaths))


@dataclass(frozen=True)
class MachineKey:
    """The things that a fast path's result depends on."""

    card: str
    """As `hardware_name` gives it."""
    driver: str
    torch: str
    transformers: str
    code: str
    """A digest of the code of `inference` and `training`: the same in every checkout of a commit, and where a Space or
    a Job has the files without git."""

    def file_name(self, base: str) -> str:
        """The name of the report's file for a base, as `base_name` gives it."""
        text = json.dumps([asdict(self), base], sort_keys=True)
        return f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


@functools.lru_cache(maxsize=1)
def machine_key() -> MachineKey:
    """The key of this machine and this code."""
    return MachineKey(
        hardware_name(), driver_version(), str(torch.__version__), transformers.__version__, code_digest(_ROOT)
    )


def driver_version(listing: Path = _DRIVER) -> str:
    """The version of the NVIDIA driver by its own listing; `none` without one."""
    try:
        match = _DRIVER_VERSION.search(listing.read_text(encoding="utf-8"))
    except OSError:
        return NO_DRIVER
    return match[1] if match else "unknown"


def code_digest(root: Path) -> str:
    """A digest of the Python files of `inference` and `training` below a folder."""
    digest = hashlib.sha256()
    for path in sorted(path for half in ("inference", "training") for path in (root / half).rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def base_name(base: str) -> str:
    """The name of a base that is the same on every machine: `starter`, a Hub id, or a digest of a folder's config."""
    folder = Path(base).expanduser()
    if base == STARTER_NAME or folder.resolve() == STARTER.resolve():
        return STARTER_NAME
    try:
        return f"folder {hashlib.sha256((folder / 'config.json').read_bytes()).hexdigest()[:16]}"
    except OSError:
        return base


def read_proof(base: str, key: MachineKey, folders: Sequence[Path]) -> Json | None:
    """The newest report for a base and a key, as JSON; `None` if there is none."""
    name = base_name(base)
    found = [report for folder in folders if (report := read_json(folder / key.file_name(name))) is not None]
    own = [report for report in found if report.get("key") == asdict(key) and report.get("base") == name]
    return max(own, key=lambda report: float(report.get("time") or 0.0), default=None)


def proven(base: str, key: MachineKey, folders: Sequence[Path]) -> tuple[FastPaths, str]:
    """The fast paths that a report for this base and key has seen right, and a sentence for the log."""
    report = read_proof(base, key, folders)
    if report is None:
        return PLAIN, (
            f"plain path on {key.card}: there is no report of the doctor for this card, driver, torch, transformers "
            "and code; `python -m training doctor` tries the fast ones"
        )
    listed = report.get("proven")
    fast = FastPaths(**{name: isinstance(listed, list) and name in listed for name in NAMES})
    used = [TITLES[name] for name in NAMES if getattr(fast, name)]
    left = [TITLES[name] for name in NAMES if not getattr(fast, name)]
    words = [f"used, as the doctor saw them right: {', '.join(used)}"] if used else []
    words += [f"not used, as it did not: {', '.join(left)}"] if left else []
    return fast, f"{'fast' if used else 'plain'} path on {key.card}; {'; '.join(words)}"


def proven_here(base: str, device: torch.device) -> tuple[FastPaths, str]:
    """As `proven`, for this machine and the reports of this deployment; a CPU has the plain path alone."""
    if device.type != "cuda":
        return PLAIN, "plain path: the fast ones need a card"
    return proven(base, machine_key(), report_folders(load_settings()))
