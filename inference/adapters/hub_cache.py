"""Adapters of the Hub on this machine: each at its commit, in `hub/` of the home folder. Uses no network.

    hub/refs/owner%2Fname%40main.json       the commit that a name stood for last, and the last problem
    hub/owner--name-0123abcd4567/           adapter_config.json, adapter_model.safetensors, evaluation.json,
                                            prompt.json, and origin.json: its name and commit

A folder under its final name is complete and was checked (`inference.adapters.hub_fetch`); it never changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from inference.common.files import read_json, write_json
from inference.common.hub_names import COMMIT, split_revision

FOLDER = "hub"
REFS = "hub/refs"
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
        """Its folder at a commit."""
        return home / FOLDER / f"{self.id.replace('/', '--')}-{commit[:12]}"


@dataclass(frozen=True)
class Ref:
    """The state of a name."""

    commit: str | None = None
    problem: str = ""
    """The error of the last attempt to fetch it; empty if that succeeded."""


def hub_name(text: str) -> HubName | None:
    """The name in `owner/name` or `owner/name@revision`; `None` for other texts, or if a folder here is called that.

    >>> hub_name("owner/name@v1")
    HubName(id='owner/name', revision='v1')
    """
    parts = split_revision(text) if len(text) <= MAX_NAME_CHARS else None
    return HubName(*parts) if parts and not Path(text).expanduser().is_dir() else None


def cached_folder(home: Path, name: HubName) -> Path | None:
    """Its folder at the commit that the name stood for last; `None` if it is not here."""
    commit = read_ref(home, name).commit
    if commit is None and name.revision and COMMIT.fullmatch(name.revision):
        commit = name.revision
    folder = name.folder(home, commit) if commit else None
    return folder if folder is not None and folder.is_dir() else None


def read_ref(home: Path, name: HubName) -> Ref:
    """The state of a name; empty if the file is missing or broken."""
    content = read_json(_ref_path(home, name), _MAX_BYTES) or {}
    commit, problem = content.get("commit"), content.get("problem")
    is_commit = isinstance(commit, str) and COMMIT.fullmatch(commit)
    return Ref(commit if is_commit else None, problem if isinstance(problem, str) else "")


def write_ref(home: Path, name: HubName, ref: Ref) -> None:
    """Store the state of a name, if it has changed. Raises `OSError`."""
    if read_ref(home, name) != ref:
        path = _ref_path(home, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"name": str(name), "commit": ref.commit, "problem": ref.problem}, indent=None)


def _ref_path(home: Path, name: HubName) -> Path:
    return home / REFS / f"{quote(str(name), safe='')}.json"
