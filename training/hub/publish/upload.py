"""Sends one queued adapter to the Hub in one commit, and never twice.

    send(HfApi(), queue, item)

It looks first at what the repository holds: a commit whose answer was lost is found there, and not made again; a
commit by somebody else is left alone (`training.hub.publish.branch`). The commit names its parent, so that the Hub
refuses it where somebody was quicker between the look and the commit; then it looks again.
"""

from __future__ import annotations

import itertools
import logging
import shlex
import time
from collections.abc import Collection, Container
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inference.common.errors import UserError
from inference.common.files import Json
from inference.common.hub_errors import HubError, HubUnreachable, status_of, write_error
from inference.common.hub_names import branch_of, tag_of
from training.hub.publish.branch import MAIN, Target, find_branch, title
from training.hub.publish.licence import licence_on_hub
from training.hub.publish.model_card import make_card
from training.hub.publish.package import OWN_FILES, Package, make_package
from training.hub.publish.queue import Item, PublishQueue

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)
_LOOKS = 3
"""Tries of a commit where somebody else was quicker."""


@dataclass(frozen=True)
class Published:
    """A publication in its repository."""

    repo: str
    step: int
    is_result: bool
    revision: str
    """The branch."""
    commit: str
    tag: str | None
    publication: str
    notice: str
    """A commit by somebody else, or another visibility than asked for, in words; empty if there is neither."""
    is_new: bool
    """False if it was there already."""

    @property
    def name(self) -> str:
        """The name for Hub and app: `owner/name@revision`."""
        return f"{self.repo}@{self.tag or self.commit[:12]}"


def send(api: HfApi, queue: PublishQueue, item: Item) -> Published:
    """Publishes `item`. Raises `HubError` for errors of the Hub, and `UserError` for files that are not an adapter."""
    try:
        key = queue.key()
        package = make_package(item, key)
    except UserError:
        raise
    except Exception as error:  # files that somebody has edited; a queue that ended its sender would start it for ever
        log.info("packing %s", item.folder, exc_info=True)
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(f"the files of {queue.run} are not what a run writes ({why}); put them right") from error
    known = {entry["commit"] for entry in queue.state().published}
    try:
        return _send(api, item, package, key, known)
    except HubError:
        raise
    except Exception as error:  # the client raises what its libraries raise, and what the Hub answers is untrusted
        log.info("sending to %s", item.repo, exc_info=True)
        raise write_error(item.repo, error) from error


def _send(api: HfApi, item: Item, package: Package, key: str, known: Collection[str]) -> Published:
    if api.token is None and _token() is None:
        raise HubError(f"there is no token; set HF_TOKEN to one that may write to {item.repo}")
    notice = _make_repository(api, item)
    branch = branch_of(package.facts.run)
    for look in range(_LOOKS):
        target = find_branch(api, item.repo, branch, key, package.publication, known if item.replace else None)
        if target.commit is not None:
            return _publish(api, item, package, target, target.commit, notice, is_new=False)
        try:
            commit = _commit(api, item, package, target, title(item.step, package.facts.run, key, package.publication))
            return _publish(api, item, package, target, commit, notice, is_new=True)
        except Exception as error:
            if status_of(error) not in (409, 412) or look + 1 == _LOOKS:
                raise
    raise AssertionError


def _make_repository(api: HfApi, item: Item) -> str:
    """Makes the repository if it is missing; returns a notice if it has another visibility than asked for."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.model_info(item.repo)
    except RepositoryNotFoundError:
        api.create_repo(item.repo, private=not item.public, exist_ok=True)
        return ""
    if info.private == (not item.public):
        return ""
    now, other = ("private", "public") if info.private else ("public", "private")
    return f"{item.repo} was there before and is {now}; make it {other} in its settings on the Hub if you want that"


def _commit(api: HfApi, item: Item, package: Package, target: Target, summary: str) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

    if target.is_new:
        api.create_branch(item.repo, branch=target.revision, revision=target.parent, exist_ok=True)
    facts = package.facts
    licences = [
        licence_on_hub(api, *asked) for asked in (("model", facts.base_on_hub), ("dataset", facts.dataset_on_hub))
    ]
    name = _free_tag(api, item.repo, tag_of(facts.run)) if item.is_result else target.revision
    files = package.files | {"README.md": make_card(facts, item.repo, name, *licences).encode("utf-8")}
    there = {entry.path for entry in api.list_repo_tree(item.repo, revision=target.parent, recursive=True)}
    operations: list[CommitOperationAdd | CommitOperationDelete | CommitOperationCopy] = [
        CommitOperationAdd(path, content) for path, content in sorted(files.items())
    ]
    outdated = sorted(there & OWN_FILES - set(files))  # of an earlier run with another base, say
    operations += [CommitOperationDelete(path, is_folder=False) for path in outdated]
    commit = api.create_commit(
        item.repo,
        operations,
        commit_message=summary,
        commit_description=f"Base {facts.base}, data {facts.dataset}.",
        revision=target.revision,
        parent_commit=target.parent,
    )
    return str(commit.oid)


def _publish(
    api: HfApi, item: Item, package: Package, target: Target, commit: str, notice: str, *, is_new: bool
) -> Published:
    """Tags a result; returns the publication."""
    tag = _tag(api, item.repo, tag_of(package.facts.run), commit) if item.is_result else None
    if target.displaced_by and target.revision != MAIN:
        notice = (
            f"somebody else has written to {item.repo} since ({target.displaced_by}), so this went to its branch "
            f"{target.revision} and their work stays. To put it on the main branch all the same, "
            f"tick that under Adapters, or: python -m training publish {shlex.quote(package.facts.run)} --replace"
            + (f". {notice}" if notice else "")
        )
    return Published(
        item.repo, item.step, item.is_result, target.revision, commit, tag, package.publication, notice, is_new
    )


def _tag(api: HfApi, repo: str, wanted: str, commit: str) -> str:
    """Sets the run's tag on this commit; if the tag names another commit, this one gets a number."""
    for look in range(_LOOKS):
        tags = {ref.name: ref.target_commit for ref in api.list_repo_refs(repo).tags}
        name = next((name for name, target in tags.items() if target == commit and name.startswith(wanted)), None)
        if name is not None:
            return name
        try:
            api.create_tag(repo, tag=_first_free(wanted, tags), revision=commit)
        except Exception as error:
            if status_of(error) != 409 or look + 1 == _LOOKS:  # somebody was quicker with the name
                raise
    raise HubUnreachable(f"the Hub has answered to a tag in {repo}, and does not show it")


def _free_tag(api: HfApi, repo: str, wanted: str) -> str:
    """The tag of the next commit, which its card names."""
    return _first_free(wanted, {ref.name for ref in api.list_repo_refs(repo).tags})


def _first_free(wanted: str, taken: Container[str]) -> str:
    """
    >>> _first_free("night", {"night", "night.2"})
    'night.3'
    """
    names = (wanted if number == 1 else f"{wanted}.{number}" for number in itertools.count(1))
    return next(name for name in names if name not in taken)


def _token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


def entry_of(published: Published) -> Json:
    """The entry for the queue's record."""
    return {
        "repo": published.repo,
        "step": published.step,
        "is_result": published.is_result,
        "revision": published.revision,
        "commit": published.commit,
        "tag": published.tag,
        "publication": published.publication,
        "time": time.time(),
    }
