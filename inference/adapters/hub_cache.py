"""Adapters of the Hub that are on this machine: each at its commit, in `hub/` of the home folder. No network here.

    hub/refs/owner%2Fname%40main.json       the commit that a name stood for last, and what went wrong since
    hub/owner--name-0123abcd4567/           adapter_config.json, adapter_model.safetensors, evaluation.json,
                                            prompt.json, and origin.json: where it is from

A folder of its own name is whole and was checked (`inference.adapters.hub_fetch` fetches it); it never changes.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from inference.common.space_file import ADAPTER_ID

FOLDER = "hub"
REFS = "hub/refs"
COMMIT = re.compile(r"[0-9a-f]{40}")
MAX_NAME_CHARS = 220
_MAX_BYTES = 100_000


@dataclass(frozen=True)
class HubName:
    """An adapter on the Hub."""

    id: str
    """`owner/name`."""
    revision: str | None = None
    """A branch, a tag or a commit; `None` is the main branch."""

    def __str__(self) -> str:
        return f"{self.id}@{self.revision}" if self.revision else self.id

    def folder(self, home: Path, commit: str) -> Path:
        """Where it lies at a commit, or would."""
        return home / FOLDER / f"{self.id.replace('/', '--')}-{commit[:12]}"


@dataclass(frozen=True)
class Ref:
    """What is known of a name."""

    commit: str | None = None
    problem: str = ""
    """Why it could not be fetched when that was tried last; empty if it could."""


def hub_name(named: str) -> HubName | None:
    """`owner/name` or `owner/name@revision`, unless a folder here has that name.

    >>> hub_name("owner/name@v1")
    HubName(id='owner/name', revision='v1')
    """
    if len(named) > MAX_NAME_CHARS or not ADAPTER_ID.fullmatch(named) or Path(named).expanduser().is_dir():
        return None
    id, _, revision = named.partition("@")
    return None if ".." in named else HubName(id, revision or None)


def cached_folder(home: Path, name: HubName) -> Path | None:
    """Its folder at the commit that the name stood for last; `None` if it was never fetched."""
    commit = read_ref(home, name).commit
    if commit is None and name.revision and COMMIT.fullmatch(name.revision):
        commit = name.revision
    folder = name.folder(home, commit) if commit else None
    return folder if folder is not None and folder.is_dir() else None


def read_ref(home: Path, name: HubName) -> Ref:
    """What is known of a name; nothing where the file is missing or broken."""
    try:
        with _ref_path(home, name).open("rb") as file:
            found: Any = json.loads(file.read(_MAX_BYTES))
        commit, problem = found.get("commit"), found.get("problem")
    except (OSError, ValueError, AttributeError, RecursionError):
        return Ref()
    is_commit = isinstance(commit, str) and COMMIT.fullmatch(commit)
    return Ref(commit if is_commit else None, problem if isinstance(problem, str) else "")


def write_ref(home: Path, name: HubName, ref: Ref) -> None:
    """Keep it, if it is not what is kept already. Raises `OSError`."""
    if read_ref(home, name) == ref:
        return
    path = _ref_path(home, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps({"name": str(name), "commit": ref.commit, "problem": ref.problem}), encoding="utf-8")
    part.replace(path)


def _ref_path(home: Path, name: HubName) -> Path:
    return home / REFS / f"{quote(str(name), safe='')}.json"
