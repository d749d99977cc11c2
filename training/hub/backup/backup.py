"""The app's backup: brings back at the start what outlived its disk, and copies its runs and what it serves meanwhile.

    backup = Backup(settings, store)
    backup.start(); backup.wait(20)       # before the served adapter is read
    backup.stop(5)                        # at the end: a last copy

The copies lie in the bucket that is mounted at `LOOKTHINK_STATE`; without one, runs end with the disk. Nothing is
copied before the copies have been brought back: an empty disk never stands for a home with no runs. Earlier versions
kept the copies of a Space without a bucket in a private repository, `<publish_to>-state`: it is restored once, and
never written.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from inference.common.background import PeriodicTask, backoff_seconds
from inference.common.errors import UserError
from inference.common.hub_errors import HubUnreachable, read_error
from inference.common.settings import Settings
from training.hub.backup.copies import open_plain, write_stream
from training.hub.backup.mirror import RunMirror, ServingMirror, forget_run, in_words
from training.hub.backup.restore import Restored, fetch_repository, restore_home
from training.runs.record import IN_BUCKET, RUN_ID
from training.runs.store import RunStore
from training.runs.upkeep import deleted_runs

EVERY_SECONDS = 30.0
"""Between two passes."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 30.0, 900.0
"""Between two tries to read the repository of earlier versions."""
OWNER = "kept-for.json"
"""The file beside the copies that names their Space, as owner/name."""
REPOSITORY_RESTORED = "restored-repository.json"
"""In the bucket, or without one in the home folder: the repository of earlier versions, which was restored."""
_SIGNS = ("request.json", "status.json", "config.json", "changes.jsonl", "adapter", "adapter/comparison.json")
"""A run that is not active has changed only if one of these has."""
_MAX_OWNER_BYTES = 10_000
log = logging.getLogger(__name__)


class Backup:
    """Restores once, then copies in the background; outlasts its errors.

    `trouble` is the newest error in words, `None` while all is well; `restored` says what was brought back.
    """

    def __init__(
        self,
        settings: Settings,
        store: RunStore,
        every_seconds: float = EVERY_SECONDS,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """`env` is the process's environment unless given: a Space is known by `SPACE_ID`."""
        self.home, self.store, self.state = settings.home, store, settings.state
        self._space = (os.environ if env is None else env).get("SPACE_ID", "").strip()
        publish_to = settings.training.publish_to
        self._repository = f"{publish_to}-state" if publish_to is not None and self._space else None
        self.trouble: str | None = None
        self.restored = Restored()
        self.first_wait_seconds = FIRST_WAIT_SECONDS
        self._num_failures, self._not_before = 0, float("-inf")
        self._is_restored = False
        self._has_tried, self._lock = threading.Event(), threading.Lock()
        self._task = PeriodicTask(self.look, every_seconds, "backup")
        self._runs: dict[str, tuple[RunMirror, tuple[object, ...]]] = {}
        self._serving: ServingMirror | None = None
        self._forgotten: set[str] = set()

    @property
    def is_needed(self) -> bool:
        """True if there is a bucket, or a repository of earlier versions that has not been restored."""
        return self.state is not None or self._repository is not None

    def start(self) -> None:
        """Brings the copies back, then copies, in a daemon thread."""
        if self.is_needed:
            self._task.start()

    def wait(self, seconds: float) -> bool:
        """Waits until it has been tried to bring the copies back, at most so long; true if it has."""
        return not self.is_needed or self._has_tried.wait(seconds)

    def stop(self, seconds: float) -> None:
        """Ends the thread after a last pass, or without one after so long."""
        end = time.monotonic() + seconds
        if self.state is not None and self._task.stop(seconds):
            last = threading.Thread(target=self.look, name="backup-last", daemon=True)
            last.start()
            last.join(max(0.0, end - time.monotonic()))

    def look(self) -> None:
        """One pass, now; an error becomes `trouble`, and the next pass tries again."""
        if not self.is_needed:
            return
        with self._lock:
            try:
                self._pass()
                self.trouble = None
            except UserError as error:
                self._set_trouble(str(error))
            except OSError as error:
                self._set_trouble(f"Runs cannot be copied to the bucket ({in_words(error)}). It is tried again.")
            except Exception as error:  # the app serves visitors all the same, and the next pass may go well
                if self.trouble is None:
                    log.exception("runs cannot be copied")
                self._set_trouble(f"runs cannot be copied: {type(error).__name__}: {error}")
            finally:
                self._has_tried.set()

    def _pass(self) -> None:
        if self.state is not None and not (self._is_restored and self.restored.is_all):
            self._restore(self.state)
        try:
            if self._repository is not None:
                self._restore_repository(self._repository)
        finally:
            if self.state is not None:
                self._copy_all(self.state)

    def _restore(self, state: Path) -> None:
        """The first time all copies; afterwards those that could not be read before."""
        if not state.is_dir():
            raise UserError(
                f"LOOKTHINK_STATE is {state}, which is not there: runs are kept on this machine only. Mount the bucket "
                "there, or unset it."
            )
        if self._space and not self._is_restored:
            if words := _stranger_words(state, self._space, f"The bucket at {state}"):
                raise UserError(words)
        before = self.restored.problems
        self.restored = restore_home(self.home, state)
        self._is_restored = True
        self._notice(self.restored, before)

    def _notice(self, restored: Restored, before: list[str]) -> None:
        words = [f"Brought back after the restart: {restored.summary}."] if restored.summary else []
        words += [problem for problem in restored.problems if problem not in before]
        if words:
            log.info("%s", " ".join(words))
            self.store.set_notice(" ".join(filter(None, [self.store.notice, *words])))

    def _restore_repository(self, repo: str) -> None:
        """Restores the repository of earlier versions, unless that was done; raises `UserError` while it cannot be."""
        mark, folder = (self.state or self.home) / REPOSITORY_RESTORED, self.home / "state"
        if time.monotonic() < self._not_before:
            raise UserError(self.trouble or f"The repository {repo} is read later.")
        if not mark.exists():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if fetch_repository(repo, folder):
                    words = _stranger_words(folder, self._space, f"The repository {repo}")
                    restored = Restored(problems=[words]) if words else restore_home(self.home, folder)
                    self._notice(restored, [])
                    if not restored.is_all:
                        return
                    write_stream(mark, [json.dumps({"repository": repo}).encode()])
            except UserError:
                raise
            except Exception as error:  # the HTTP library's own errors share no base with Python's
                self._put_off(repo, error)
            shutil.rmtree(folder, ignore_errors=True)
        self._repository, self._num_failures = None, 0

    def _put_off(self, repo: str, error: Exception) -> None:
        """Between two tries that failed more and more time goes by, at least as much as the Hub asks for."""
        hub_error = read_error("repository", repo, error)
        if hub_error is None:
            raise error
        self._num_failures += 1
        wait = backoff_seconds(self._num_failures, self.first_wait_seconds, LONGEST_WAIT_SECONDS)
        retry_after = hub_error.retry_after if isinstance(hub_error, HubUnreachable) else 0.0
        self._not_before = time.monotonic() + max(wait, retry_after)
        raise UserError(f"The runs that an earlier version kept in {repo} are not here yet. {hub_error}") from error

    def _copy_all(self, state: Path) -> None:
        self._serving = self._serving or ServingMirror(self.home, state)
        self._serving.step()
        for run_id in deleted_runs(self.home) - self._forgotten:
            forget_run(run_id, state)
            self._runs.pop(run_id, None)
            self._forgotten.add(run_id)
        troubles: list[OSError] = []
        for folder, is_active in self._runs_here():
            try:
                self._copy(folder, is_active, state)
            except OSError as error:  # one folder that cannot be copied must not keep the others
                troubles.append(error)
        if troubles:
            raise troubles[0]
        if self._space:
            _mark_owner(state, self._space)

    def _copy(self, folder: Path, is_active: bool, state: Path) -> None:
        mirror, before = self._runs.get(folder.name, (None, ()))
        now = _signs(folder)
        if mirror is not None and not is_active and now == before:
            return
        mirror = mirror or RunMirror(folder, state)
        try:
            mirror.step()
        except FileNotFoundError:
            if folder.exists() and state.is_dir():
                raise
            return  # it was deleted meanwhile
        self._runs[folder.name] = (mirror, () if is_active else now)

    def _runs_here(self) -> Iterator[tuple[Path, bool]]:
        """The run folders here, each with whether its run is active; not those of a Job whose files are not here."""
        records = {record.id: record for record in self.store.list()} if self.store.exists() else {}
        for config in sorted((self.home / "runs").glob("[!.]*/config.json")):
            folder = config.parent
            record = records.get(folder.name)
            is_active = record is not None and record.is_active
            is_a_jobs = (folder / IN_BUCKET).exists() or (is_active and record and record.launcher == "job")
            if RUN_ID.fullmatch(folder.name) and not is_a_jobs:
                yield folder, is_active or record is None

    def _set_trouble(self, text: str) -> None:
        if text != self.trouble:
            log.error("%s", text)
        self.trouble = text


def _stranger_words(folder: Path, space: str, where: str) -> str:
    """A sentence where the copies are another Space's, else empty; `where` names the place for a reader.

    A Space that was duplicated, variables and all, must not go on with the first one's runs: both would start what was
    under way, and each would end the other's Jobs.
    """
    owner = _owner_of(folder)
    if owner in (None, space):
        return ""
    return (
        f"{where} keeps the runs of the Space {owner}, and this is {space}: its runs stay its own, and those of this "
        f"one are kept on this machine only. Give it a bucket of its own; if it has taken the place of {owner}, delete "
        f"{OWNER} there and restart."
    )


def _mark_owner(folder: Path, space: str) -> None:
    """Notes the Space that the copies belong to, where none is noted and there is a copy."""
    if _owner_of(folder) is None and any((folder / name).is_dir() for name in ("runs", "serving")):
        write_stream(folder / OWNER, [json.dumps({"space": space}).encode()])


def _owner_of(folder: Path) -> str | None:
    """`None` for a file that is missing, half written, or holds no name."""
    try:
        with open_plain(folder / OWNER) as file:
            owner = json.loads(file.read(_MAX_OWNER_BYTES))["space"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return owner if isinstance(owner, str) and owner.isprintable() and 0 < len(owner) <= 200 else None


def _signs(folder: Path) -> tuple[object, ...]:
    """Inode, time of change and size of the files by which a run changes."""
    signs: list[object] = []
    for name in _SIGNS:
        try:
            about = (folder / name).stat()
            signs.append((about.st_ino, about.st_mtime_ns, about.st_size))
        except OSError:
            signs.append(None)
    return tuple(signs)
