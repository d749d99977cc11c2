"""Where there is no bucket: runs and what is served are kept in a private repository of the Hub.

    state = HubState("owner/adapter-state", home / "state", every_seconds=1800)
    state.fetch()                                             # at the start: what is kept comes into the folder
    state.send(is_busy=True, changed=True, deleted=set())     # meanwhile: one commit with what is new in the folder

The repository holds the files of the folder as `training.hub.backup.snapshots` makes them: their names are digests of their
content, so a name that is there need not be sent, and a commit whose answer was lost is found to be there already.
Of the rollouts' pictures those of the newest step are kept, which the page shows: a thousand small files would be a
thousand requests at the next start.
"""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inference.common.errors import UserError
from inference.common.hub_errors import HubUnreachable, read_error, status_of
from training.hub.backup.mirror import PICTURES
from training.hub.backup.owner import FILE as OWNER

_PIECE = r"content/[0-9a-f]{64}"
_FILE = re.compile(
    rf"(?:runs/[A-Za-z0-9][A-Za-z0-9_.-]{{0,119}}|serving)/(?:{_PIECE}|manifest-\d{{8}}-[0-9a-f]{{6}}\.json)"
    rf"|{re.escape(OWNER)}"
)
"""What the repository may hold; all else in it is nobody's business here."""
_MAX_FILES = 200_000
_SPARE_BYTES = 200_000_000
_DOWNLOADS = 8
"""At a time."""
LONGEST_WAIT_SECONDS = 900.0
log = logging.getLogger(__name__)


class HubState:
    """One repository and the folder that it keeps."""

    leaves_out: tuple[str, ...] = (PICTURES,)

    def __init__(self, repo: str, folder: Path, every_seconds: float, wait_seconds: float = 30.0) -> None:
        """A commit every `every_seconds` while a run is active; after a failure the next attempt `wait_seconds` later,
        then twice that, up to a quarter of an hour."""
        self.repo, self.folder, self.name = repo, folder, f"The repository {repo}"
        self.every_seconds, self.first_wait = every_seconds, wait_seconds
        self._is_behind = True
        """True while something may be here that is not there."""
        self._sent = float("-inf")
        self._wait, self._not_before = wait_seconds, float("-inf")
        self._trouble: UserError | None = None

    def fetch(self) -> None:
        """Everything that is kept, into the folder; nothing where there is no repository yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._patience(), _in_words(self.repo):
            head, files = self._listing()
            (self.folder / OWNER).unlink(missing_ok=True)
            wanted = {path: size for path, size in files.items() if not self._has(path, size)}
            if sum(wanted.values()) > shutil.disk_usage(self.folder).free - _SPARE_BYTES:
                raise UserError(
                    f"What is kept in {self.repo} takes {sum(wanted.values()) / 1e9:.1f} GB, and {self.folder} has no "
                    "room for it. Free some space, then restart."
                )
            if head is not None:
                with ThreadPoolExecutor(_DOWNLOADS) as pool:
                    list(pool.map(lambda path: self._download(path, head), sorted(wanted)))
        shutil.rmtree(self.folder / ".cache", ignore_errors=True)

    def send(self, is_busy: bool, changed: bool, deleted: set[str]) -> None:
        """One commit with all that is new here and gone from here, if it is time for one."""
        self._is_behind |= changed
        due = self._sent + self.every_seconds if is_busy else float("-inf")
        if not self._is_behind or time.monotonic() < due:
            return
        with self._patience(), _in_words(self.repo):
            self._commit(deleted)
        self._is_behind, self._sent = False, time.monotonic()

    def _commit(self, deleted: set[str]) -> None:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

        here = self._here()
        head, there = self._listing()
        if head is None:
            if not here:
                return
            HfApi().create_repo(self.repo, private=True, exist_ok=True)
            head, there = self._listing()
        added = sorted(path for path, size in here.items() if there.get(path) != size)
        trees = {_tree_of(path) for path in here} | {f"runs/{run_id}" for run_id in deleted}
        gone = sorted(path for path in there.keys() - here.keys() if _tree_of(path) in trees)
        operations: list[Any] = [CommitOperationAdd(path, str(self.folder / path)) for path in added]
        operations += [CommitOperationDelete(path) for path in gone]
        if operations:
            title = f"{len(added)} new, {len(gone)} gone"
            HfApi().create_commit(self.repo, operations, commit_message=title, parent_commit=head)

    def _listing(self) -> tuple[str | None, dict[str, int]]:
        """The newest commit, and the files there with their sizes; `None` where there is no repository."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        try:
            info = HfApi().model_info(self.repo, files_metadata=True, timeout=30)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError as error:
            self._check_token()
            if status_of(error) == 401:  # of a token that is not valid: then nothing is known of it
                raise UserError(
                    f"The Hub does not accept the token, so runs cannot be kept in {self.repo}, nor brought back from "
                    "it. Set the secret HF_TOKEN to a valid one that may write there."
                ) from error
            return None, {}
        if not info.private:
            raise UserError(
                f"The repository {self.repo} is public, and runs with their logs would be, too. Make it private in its "
                "settings on the Hub; until then they are kept on this machine only."
            )
        found = {file.rfilename: file.size or 0 for file in info.siblings or () if _FILE.fullmatch(file.rfilename)}
        if len(found) > _MAX_FILES:
            raise UserError(f"The repository {self.repo} has {len(found):,} files; at most {_MAX_FILES:,} are read.")
        return str(info.sha), found

    def _check_token(self) -> None:
        """A private repository looks like none to who has no token: then nothing is known of it."""
        from huggingface_hub import get_token

        if get_token() is None:
            raise UserError(
                f"No token is set, so runs cannot be kept in {self.repo}, nor brought back from it. Set the secret "
                "HF_TOKEN to a token that may write there, or mount a bucket and set LOOKTHINK_STATE."
            )

    def _download(self, path: str, commit: str) -> None:
        from huggingface_hub import hf_hub_download

        hf_hub_download(self.repo, path, revision=commit, local_dir=self.folder, etag_timeout=30)

    def _has(self, path: str, size: int) -> bool:
        """Of a manifest by its size too: its name is no digest, but nobody writes it twice."""
        try:
            return (self.folder / path).stat().st_size == size
        except OSError:
            return False

    def _here(self) -> dict[str, int]:
        """The files of the folder with their sizes."""
        found = {}
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            if _FILE.fullmatch(name) and path.is_file():
                found[name] = path.stat().st_size
        return found

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """Between two attempts that failed more and more time goes by, as much as the Hub asks for at least."""
        if self._trouble is not None and time.monotonic() < self._not_before:
            raise self._trouble
        try:
            yield
        except UserError as error:
            asked = error.retry_after if isinstance(error, HubUnreachable) else 0.0
            self._trouble, self._not_before = error, time.monotonic() + max(self._wait, asked)
            self._wait = min(2 * self._wait, LONGEST_WAIT_SECONDS)
            raise
        self._trouble, self._wait = None, self.first_wait


def _tree_of(path: str) -> str:
    """`runs/<id>` or `serving`."""
    parts = path.split("/")
    return parts[0] if parts[0] == "serving" else "/".join(parts[:2])


@contextmanager
def _in_words(repo: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the HTTP library's own errors share no base with Python's
        found = read_error("repository", repo, error)
        if found is None:
            raise
        kind = type(found)
        words = f"Runs are kept on this machine only for now. {found}"
        raise (
            HubUnreachable(words, found.retry_after) if isinstance(found, HubUnreachable) else kind(words)
        ) from error
