"""What the app does so that its runs and what it serves outlive its disk: bring back at the start, copy meanwhile.

    keeper = StateKeeper(settings, store)
    keeper.start(); keeper.wait(20)       # before the served adapter is read
    keeper.stop(5)                        # at the end: a last copy

The copy lies in the bucket that is mounted at `LOOKTHINK_STATE`; on a Space without one, in a private repository beside
the one that adapters are published to (`training.hub.backup.hub_repository`); where there is neither, nowhere. Nothing is copied before
what was there has been brought back: an empty disk never stands for a home with no runs.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from inference.common.errors import UserError
from inference.common.settings import Settings
from training.hub.backup.mirror import RunMirror, ServingMirror, forget_run, in_words
from training.hub.backup.owner import check_owner, mark_owner
from training.hub.backup.restore import RUN_ID, Restored, restore_home
from training.runs.record import IN_BUCKET
from training.runs.store import RunStore
from training.runs.upkeep import deleted_runs

EVERY_SECONDS = 30.0
"""Between two passes."""
_SIGNS = ("request.json", "status.json", "config.json", "changes.jsonl", "adapter", "adapter/comparison.json")
"""A run that is not active has changed only if one of these has."""
log = logging.getLogger(__name__)


class Place(Protocol):
    """Where the copies are kept."""

    folder: Path
    """Here they are written, and read."""
    name: str
    """For a reader."""
    leaves_out: tuple[str, ...]
    """Beginnings of names in a run's folder that are not kept there."""

    def fetch(self) -> None:
        """Before the first pass: make `folder` hold what is kept. Raises `UserError` where it cannot be known."""
        ...

    def send(self, is_busy: bool, changed: bool, deleted: set[str]) -> None:
        """After each pass: bring what is kept in line with `folder`. Raises `UserError`."""
        ...


class Bucket:
    """A bucket's mount: what is written there is kept."""

    leaves_out: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, f"The bucket at {folder}"

    def fetch(self) -> None:
        """Nothing has to be."""
        if not self.folder.is_dir():
            raise UserError(
                f"LOOKTHINK_STATE is {self.folder}, which is not there: runs are kept on this machine only. Mount the "
                "bucket there, or unset it."
            )

    def send(self, is_busy: bool, changed: bool, deleted: set[str]) -> None:
        """Nothing has to be."""


class StateKeeper:
    """Restores once, then mirrors in the background; outlasts what goes wrong in it.

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
        self.home, self.store, self.every_seconds = settings.home, store, every_seconds
        env = os.environ if env is None else env
        self.place, self._space = _place_for(settings, env), env.get("SPACE_ID", "").strip()
        self.trouble: str | None = None
        self.restored = Restored()
        self._is_restored = False
        self._looked, self._over, self._lock = threading.Event(), threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._go_on, name="state", daemon=True)
        self._runs: dict[str, tuple[RunMirror, tuple[object, ...]]] = {}
        self._serving: ServingMirror | None = None
        self._forgotten: set[str] = set()

    def start(self) -> None:
        """Bring back what was kept, then copy, in a daemon thread."""
        if self.place is not None:
            self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether it has been tried to bring back what was kept; waits that long for it."""
        return self.place is None or self._looked.wait(seconds)

    def stop(self, seconds: float) -> None:
        """End the thread after a last pass, or without one after so long."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def look(self) -> None:
        """One pass, now; what goes wrong is kept as `trouble`, and tried again at the next."""
        if self.place is None:
            return
        with self._lock:
            try:
                if not (self._is_restored and self.restored.is_all):
                    self._restore(self.place)
                self._mirror(self.place)
                self.trouble = None
            except UserError as error:
                self._say(str(error))
            except OSError as error:
                self._say(f"What outlives a restart cannot be written ({in_words(error)}). It is tried again.")
            except Exception as error:  # the app serves visitors all the same, and the next pass may go well
                if self.trouble is None:
                    log.exception("runs cannot be copied")
                self._say(f"runs cannot be copied: {type(error).__name__}: {error}")
            finally:
                self._looked.set()

    def _restore(self, place: Place) -> None:
        """The first time all that is kept; afterwards what could not be read before."""
        if not self._is_restored:
            place.fetch()
            if self._space:
                check_owner(place.folder, self._space, place.name)
        before = self.restored.problems
        found = self.restored = restore_home(self.home, place.folder)
        self._is_restored = True
        said = [f"Brought back after the restart: {found.summary}."] if found.summary else []
        said += [problem for problem in found.problems if problem not in before]
        if said:
            log.info("%s", " ".join(said))
            self.store.set_notice(" ".join(filter(None, [self.store.notice, *said])))

    def _mirror(self, place: Place) -> None:
        self._serving = self._serving or ServingMirror(self.home, place.folder)
        changed = bool(self._serving.step().changed)
        deleted, is_busy = deleted_runs(self.home), False
        for run_id in deleted - self._forgotten:
            forget_run(run_id, place.folder)
            self._runs.pop(run_id, None)
            self._forgotten.add(run_id)
            changed = True
        for folder, is_active in self._here():
            is_busy |= is_active
            changed |= self._copy(folder, is_active, place)
        if self._space:
            changed |= mark_owner(place.folder, self._space)
        place.send(is_busy, changed, deleted)

    def _copy(self, folder: Path, is_active: bool, place: Place) -> bool:
        """Whether anything of it was copied."""
        mirror, before = self._runs.get(folder.name, (None, ()))
        now = _signs(folder)
        if mirror is not None and not is_active and now == before:
            return False
        mirror = mirror or RunMirror(folder, place.folder, place.leaves_out)
        try:
            done = mirror.step()
        except FileNotFoundError:
            if folder.exists() and place.folder.is_dir():
                raise
            return False  # it was deleted meanwhile
        self._runs[folder.name] = (mirror, () if is_active else now)
        return bool(done.changed)

    def _here(self) -> Iterator[tuple[Path, bool]]:
        """The run folders here, each with whether its run is active; not those of a Job whose files are not here."""
        records = {record.id: record for record in self.store.list()} if self.store.exists() else {}
        for folder in sorted((self.home / "runs").glob("[!.]*/config.json")):
            record = records.get(folder.parent.name)
            is_active = record is not None and record.is_active
            is_a_jobs = (folder.parent / IN_BUCKET).exists() or (is_active and record and record.launcher == "job")
            if RUN_ID.fullmatch(folder.parent.name) and not is_a_jobs:
                yield folder.parent, is_active or record is None

    def _go_on(self) -> None:
        while True:
            is_last = self._over.is_set()
            self.look()
            if is_last:
                return
            self._over.wait(self.every_seconds)

    def _say(self, text: str) -> None:
        if text != self.trouble:
            log.error("%s", text)
        self.trouble = text


def _place_for(settings: Settings, env: Mapping[str, str]) -> Place | None:
    from training.hub.backup.hub_repository import HubState

    if settings.state is not None:
        return Bucket(settings.state)
    if settings.training.publish_to is not None and env.get("SPACE_ID"):
        every = settings.training.publish_every_minutes * 60
        return HubState(f"{settings.training.publish_to}-state", settings.home / "state", every)
    return None


def _signs(folder: Path) -> tuple[object, ...]:
    found: list[object] = []
    for name in _SIGNS:
        try:
            state = (folder / name).stat()
            found.append((state.st_ino, state.st_mtime_ns, state.st_size))
        except OSError:
            found.append(None)
    return tuple(found)
