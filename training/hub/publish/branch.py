"""The branch that a run's adapter is committed to: main, unless somebody else wrote to it last.

The title of every commit of LookThink ends in `[lookthink <run's key>.<publication>]`. A run writes to the main branch
while its own commit is the newest there, and at first also over the result of an earlier run, or if there is no
adapter. After a commit by anybody else it writes to a branch named after the run, so that no work is overwritten.

`find_branch` only reads. It also finds a publication whose commit succeeded although the answer was lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from inference.common.hub_names import COMMIT

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MAIN = "main"
_MARK = re.compile(r"\[lookthink ([0-9a-f]{8})\.([0-9a-f]{12})\]\s*$")
_ADAPTER = (".safetensors", ".bin", ".gguf", ".pt", "adapter_config.json")
"""A repository without such files has nothing to lose but its card, which its history keeps."""
_MAX_BRANCHES = 20


@dataclass(frozen=True)
class Target:
    """A branch and its newest commit."""

    revision: str
    parent: str
    """The branch's newest commit, or the one that it would begin at."""
    is_new: bool = False
    """True if the branch must be created first."""
    commit: str | None = None
    """The commit of the publication, if it is there already."""
    displaced_by: str = ""
    """The newest commit of the main branch, in words; empty if this is the main branch."""


@dataclass(frozen=True)
class _Entry:
    commit: str
    title: str

    @property
    def mark(self) -> tuple[str, str] | None:
        """Key and publication of a commit of LookThink."""
        match = _MARK.search(self.title)
        return (match[1], match[2]) if match else None


def title(step: int, run: str, key: str, publication: str) -> str:
    """The title of a commit, by which it is found again.

    >>> title(25, "night", "3fa9c1d2", "0badc0de1234")
    'Step 25 of run night [lookthink 3fa9c1d2.0badc0de1234]'
    """
    plain = "".join(c for c in run if c.isprintable())[:80]
    return f"Step {step} of run {plain} [lookthink {key}.{publication}]"


def find_branch(
    api: HfApi, repo: str, branch: str, key: str, publication: str, replaces: Collection[str] | None = None
) -> Target:
    """The branch for a publication of the run with this key; raises what the Hub's client raises.

    With `replaces`, earlier commits of the run, it is the main branch whoever wrote to it last; an earlier publication
    by these commits counts only while no other commit is on top of it.
    """
    history, replace = _history(api, repo, MAIN), replaces is not None
    buried = {entry.commit for entry in history[1:]} & set(replaces or ())
    first = _find(history, MAIN, key, publication, lambda: replace or not _has_adapter(api, repo), buried)
    if first is not None:
        return first
    by = f"“{_plain(history[0].title)}” ({history[0].commit[:7]})"
    names = {ref.name for ref in api.list_repo_refs(repo).branches}
    origin = next((entry for entry in history if entry.mark and entry.mark[0] == key), history[-1])
    known = {entry.commit for entry in history}
    for number in count(1):
        name = branch if number == 1 else f"{branch}.{number}"
        if name not in names or number > _MAX_BRANCHES:
            return Target(name, origin.commit, is_new=True, displaced_by=by)
        there = _history(api, repo, name)
        is_free = there[0].commit in known  # made for us, and nothing on it yet
        target = _find(there, name, key, publication, lambda free=is_free: free)  # type: ignore[misc]
        if target is not None:
            return Target(name, target.parent, commit=target.commit, displaced_by=by)
    raise AssertionError


def _find(
    history: Sequence[_Entry],
    revision: str,
    key: str,
    publication: str,
    is_free: Callable[[], bool],
    buried: Container[str] = (),
) -> Target | None:
    """The target on a branch with this history; `None` if somebody else wrote to it last."""
    head = history[0]
    commits = (entry.commit for entry in history if entry.mark == (key, publication))
    done = next((commit for commit in commits if commit not in buried), None)
    own = any(entry.mark and entry.mark[0] == key for entry in history)
    of_other_run = revision == MAIN and head.mark is not None and not own
    if done or (head.mark and head.mark[0] == key) or of_other_run or is_free():
        return Target(revision, head.commit, commit=done)
    return None


def _history(api: HfApi, repo: str, revision: str) -> list[_Entry]:
    """The commits of a branch, the newest first."""
    entries = [_Entry(str(c.commit_id), str(c.title)) for c in api.list_repo_commits(repo, revision=revision)]
    if not entries or not all(COMMIT.fullmatch(entry.commit) for entry in entries):
        raise TypeError("no list of commits")  # the Hub's answer is not trusted
    return entries


def _has_adapter(api: HfApi, repo: str) -> bool:
    return any(entry.path.endswith(_ADAPTER) for entry in api.list_repo_tree(repo, recursive=True))


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:80] or "a commit without a title"
