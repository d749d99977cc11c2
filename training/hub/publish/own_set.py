"""A set that somebody made here as a private dataset on the Hub, in one commit.

    keep_set(hub_api(), sets, "bars", "me/bars")

Only the rows that are not left out go there, with their pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inference.common.errors import UserError
from inference.common.hub_errors import HubError, write_error
from inference.common.hub_names import is_hub_name
from training.data.own_sets.sets import PICTURES, ROWS, OwnSets

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD = """---
license: other
task_categories: [visual-question-answering]
---

# {name}

{num} pictures with a problem and a solution each, made with LookThink.
Whoever publishes them answers for their licence.
"""


def keep_set(api: HfApi, sets: OwnSets, name: str, repo: str) -> str:
    """Writes the set into a private dataset repository, which is made if there is none; returns the commit.

    Raises `UserError` for an empty set or a repository that is public, `HubError` for what the Hub refuses.
    """
    if not is_hub_name(repo):
        raise UserError(f"{repo[:80]!r} is no name of a repository; write owner/name.")
    rows = [row for row in sets.rows(name) if not row.is_left_out]
    if not rows:
        raise UserError(f"The set {name or 'without a name'} has no rows yet. Add some first.")
    try:
        return _commit(api, sets, name, repo, {row.file_name for row in rows})
    except UserError:
        raise
    except Exception as error:  # the client raises what its libraries raise, and what the Hub answers is untrusted
        raise write_error(repo, error) from error


def _commit(api: HfApi, sets: OwnSets, name: str, repo: str, pictures: set[str]) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    if api.token is None and _token() is None:
        raise HubError(f"there is no token; set HF_TOKEN to one that may write to {repo}")
    api.create_repo(repo, repo_type="dataset", private=True, exist_ok=True)
    if not api.dataset_info(repo).private:
        raise UserError(f"{repo} is there already and public. Name another repository, or make it private on the Hub.")
    folder = sets.path(name)
    there = {entry.path for entry in api.list_repo_tree(repo, repo_type="dataset", recursive=True)}
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(path, folder / path) for path in (ROWS, *sorted(pictures - there))
    ]
    if "README.md" not in there:
        operations.append(CommitOperationAdd("README.md", CARD.format(name=name, num=len(pictures)).encode()))
    gone = sorted(path for path in there - pictures if path.startswith(f"{PICTURES}/") and path.count("/") == 1)
    operations += [CommitOperationDelete(path, is_folder=False) for path in gone if "." in path]
    done = api.create_commit(repo, operations, repo_type="dataset", commit_message=f"{len(pictures)} rows of {name}")
    return str(done.oid)


def _token() -> str | None:
    from huggingface_hub import get_token

    return get_token()
