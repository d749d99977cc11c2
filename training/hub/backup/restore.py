"""Brings back what `training.hub.backup.mirror` has copied: run folders, what is served, and its versions.

    restore_home(home, Path("/state"))                                  # at the app's start: all that is not here
    restore_run("20261122-143000-a1b2", Path("/state"), home)           # one run
    update_folder("20261122-143000-a1b2", Path("/state"), folder)       # one that is here, brought up to date

Every byte is checked against its digest. A folder is made under another name first, so that one of its own name is
whole; a restore that is killed goes on where it was. What is here is never written over, but by `update_folder`. The
records are made anew from the folders (`training.runs.recovery`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from inference.adapters.served import FILE, locked
from inference.adapters.versions import NAME
from inference.common.errors import UserError
from inference.common.hub_errors import status_of
from training.hub.backup.copies import CopyFolder, Manifest, Part, StoredFile
from training.hub.backup.mirror import PINNED, QUESTIONS, in_words, run_copy, served_copy
from training.hub.space.sleep_timer import FILE as SLEEP
from training.runs.folder import MARKER, is_complete
from training.runs.record import RUN_ID
from training.runs.upkeep import deleted_runs

_INCOMING = ".restore-"
_NEEDED = ("config.json",)
_REPOSITORY_FILES = ["runs/*/content/*", "runs/*/manifest-*.json", "serving/content/*", "serving/manifest-*.json"]
log = logging.getLogger(__name__)


class _Damaged(Exception):
    """A piece of a file is not there as it was copied."""


class _Unread(Exception):
    """A piece of a file cannot be read now; later it may be."""


@dataclass
class Restored:
    """The result of a restore."""

    runs: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    served: bool = False
    """True if it is known again which adapter is served."""
    sets: list[str] = field(default_factory=list)
    """Datasets that were made on the page."""
    pinned: bool = False
    """True if the pinned questions came back."""
    num_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    """A sentence for each copy that could not be restored."""
    is_all: bool = True
    """False if something could not be read, and may be at another time."""

    @property
    def summary(self) -> str:
        """A sentence; empty if there was nothing."""
        counted = ((len(self.runs), "run"), (len(self.versions), "promoted adapter"), (len(self.sets), "dataset"))
        parts = [f"{n} {what}{'' if n == 1 else 's'}" for n, what in counted if n]
        parts += ["which adapter is served"] * self.served + ["the pinned questions"] * self.pinned
        return f"{', '.join(parts)} ({self.num_bytes / 1e6:.1f} MB)" if parts else ""

    @contextlib.contextmanager
    def noting(self, what: str, damaged: str = "") -> Iterator[None]:
        """Notes a copy that cannot be used and goes on: `damaged` is the sentence for one that never can be."""
        try:
            yield
        except UserError as error:
            self.problems.append(str(error))
        except _Damaged:
            self.problems.append(damaged)
        except _Unread as error:
            self.is_all = False
            self.problems.append(f"{what} cannot be read now ({error}). It is tried again.")


def restore_home(home: Path, state: Path) -> Restored:
    """Brings back all that is in `state` and not in `home`. Raises `UserError` where `home` cannot be written.

    `problems` names what of `state` cannot be read; the rest is brought back all the same.
    """
    if not state.is_dir():
        raise UserError(f"{state} is not there, so nothing was brought back. Mount the bucket there (see space.yaml).")
    restored = Restored()
    try:
        _restore_serving(home, state, restored)
        for run_id in _missing_runs(home, state):
            with restored.noting(f"The copy of the run {run_id}"):
                restored.num_bytes += _restore_folder(run_id, state, home)
                restored.runs.append(run_id)
    except OSError as error:
        raise UserError(
            f"The copies in {state} cannot be brought back ({in_words(error)}). Make room there."
        ) from error
    return restored


def restore_run(run_id: str, state: Path, home: Path) -> Path:
    """Makes a run's folder from its newest whole copy; one that is here is brought up to date.

    Files that only this folder has stay. Raises `UserError` without a whole copy, or if it cannot be written.
    """
    folder = home / "runs" / run_id
    if folder.is_dir():
        update_folder(run_id, state, folder, lambda name, file: True)
    else:
        with _as_user_errors(run_id, state):
            _restore_folder(run_id, state, home)
    return folder


def update_folder(run_id: str, state: Path, folder: Path, wants: Callable[[str, StoredFile], bool]) -> Manifest:
    """Brings the files of a run's folder up to date that `wants` accepts; others stay. Returns the copy's manifest.

    Raises `UserError` where there is no whole copy, or the folder cannot be written.
    """
    with _as_user_errors(run_id, state):
        return _bring_newest(run_copy(state, _checked(run_id)), folder, run_id, wants)


def has_copy(run_id: str, state: Path) -> bool:
    """True if `state` has a readable manifest of a run."""
    return bool(run_copy(state, run_id).manifests())


def fetch_repository(repo: str, folder: Path) -> bool:
    """Downloads the copies that earlier versions kept in a private repository; false where there is no such repository.

    Without a token nothing is fetched: nothing is known of a private repository. Raises what the Hub's client raises.
    """
    from huggingface_hub import HfApi, get_token, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if get_token() is None:
        return False
    try:
        commit = HfApi().model_info(repo, timeout=30).sha
    except RepositoryNotFoundError as error:
        if isinstance(error, GatedRepoError) or status_of(error) == 401:  # the token is not valid: it may be there
            raise
        return False
    patterns = [*_REPOSITORY_FILES, "kept-for.json"]
    snapshot_download(repo, revision=commit, local_dir=folder, allow_patterns=patterns, etag_timeout=30)
    return True


@contextlib.contextmanager
def _as_user_errors(run_id: str, state: Path) -> Iterator[None]:
    try:
        yield
    except _Unread as error:
        raise UserError(f"The copy of the run {run_id} in {state} cannot be read now ({error}).") from error
    except OSError as error:
        raise UserError(f"The run {run_id} cannot be brought back from {state} ({in_words(error)}).") from error


def _missing_runs(home: Path, state: Path) -> Iterator[str]:
    """The runs with a copy and no folder, but for those that were deleted here, in the order of their names."""
    deleted = deleted_runs(home)
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(state / "runs")):
            is_new = RUN_ID.fullmatch(name) and name not in deleted and not (home / "runs" / name).exists()
            if is_new and has_copy(name, state):
                yield name


def _restore_folder(run_id: str, state: Path, home: Path) -> int:
    """Makes a run's folder; its size in bytes. `UserError` for a copy that cannot be used, `OSError` for this disk."""
    runs = home / "runs"
    incoming = runs / f"{_INCOMING}{_checked(run_id)}"
    manifest = _bring_newest(run_copy(state, run_id), incoming, run_id, lambda name, file: True)
    _delete_others(incoming, manifest)
    for checkpoint in (incoming / "checkpoints").glob("checkpoint-*"):
        if not is_complete(checkpoint):
            shutil.rmtree(checkpoint)
    (incoming / "checkpoints").mkdir(exist_ok=True)
    (incoming / "images").mkdir(exist_ok=True)
    incoming.rename(runs / run_id)
    return sum(file.size for file in manifest.files.values())


def _restore_serving(home: Path, state: Path, restored: Restored) -> None:
    """Brings back the versions and the datasets that are not here, then `served.json` and the pinned questions if there
    are none."""
    copy = served_copy(state)
    manifests = copy.manifests()
    if not manifests:
        return
    files = manifests[0].files
    with locked(home):
        for top, of_what, brought in (("adapters", "adapter", restored.versions), ("sets", "dataset", restored.sets)):
            for one, parts in _by_folder(files, top).items():
                if (home / top / one).exists():
                    continue
                what = f"The copy of the {of_what} {one}"
                with restored.noting(what, f"{what} in {copy.path} is incomplete and was left alone."):
                    restored.num_bytes += _bring_folder(copy, parts, home / top, one)
                    brought.append(one)
        if FILE in files and not (home / FILE).exists():
            damaged = f"The adapter that was served is not known: {FILE} in {copy.path} is damaged."
            with restored.noting(f"{FILE}, which says what was served,", damaged):
                _bring(copy, files[FILE], home / FILE)
                restored.served = True
        if SLEEP in files and not (home / SLEEP).exists():
            what = f"The Space's sleep time, {SLEEP},"
            with restored.noting(what, f"{what} is damaged."):
                _bring(copy, files[SLEEP], home / SLEEP)
        _restore_pinned(home, copy, files, restored)


def _restore_pinned(home: Path, copy: CopyFolder, files: Mapping[str, StoredFile], restored: Restored) -> None:
    """Brings the list of the pinned questions last: it stands for all of them. One picture that is damaged does not
    keep the others; its question then says that it cannot be read."""
    if QUESTIONS not in files or (home / QUESTIONS).exists():
        return
    pinned = sorted((name for name in files if name.startswith(f"{PINNED}/")), key=lambda name: name == QUESTIONS)
    is_all = restored.is_all
    restored.is_all = True
    for name in pinned:
        if name == QUESTIONS and not restored.is_all:
            break  # a picture can be read later, and then with the list
        with restored.noting(f"{name}, of the pinned questions,", f"{name} in {copy.path} is damaged."):
            _bring(copy, files[name], home / name)
            restored.num_bytes += files[name].size
            restored.pinned |= name == QUESTIONS
    restored.is_all &= is_all


def _by_folder(files: Mapping[str, StoredFile], top: str) -> dict[str, dict[str, StoredFile]]:
    """The files in each folder inside `top`."""
    found: dict[str, dict[str, StoredFile]] = {}
    for path, file in files.items():
        above, _, rest = path.partition("/")
        name, _, inner = rest.partition("/")
        if above == top and inner and NAME.fullmatch(name):
            found.setdefault(name, {})[inner] = file
    return found


def _bring_folder(copy: CopyFolder, files: dict[str, StoredFile], above: Path, name: str) -> int:
    incoming = above / f"{_INCOMING}{name}"
    shutil.rmtree(incoming, ignore_errors=True)
    for inner, file in files.items():
        _bring(copy, file, incoming / inner)
    incoming.rename(above / name)
    return sum(file.size for file in files.values())


def _bring_newest(copy: CopyFolder, folder: Path, run_id: str, wants: Callable[[str, StoredFile], bool]) -> Manifest:
    """Brings the files of the newest copy that is whole; markers of checkpoints come last, as they were copied."""
    manifests, sizes = copy.manifests(), copy.sizes()
    if not manifests:
        raise UserError(f"There is no copy of the run {run_id} in {copy.path.parents[1]}.")
    for manifest in manifests:
        parts = [part for file in manifest.files.values() for part in file.parts]
        if any(name not in manifest.files for name in _NEEDED) or any(sizes.get(p.where) != p.size for p in parts):
            continue
        try:
            for name, file in sorted(manifest.files.items(), key=lambda item: item[0].endswith(f"/{MARKER}")):
                if wants(name, file):
                    _bring(copy, file, folder / name)
            return manifest
        except _Damaged:
            log.warning("the copy %d in %s is damaged; an earlier one is looked for", manifest.number, copy.path)
    raise UserError(f"The copy of the run {run_id} in {copy.path} is incomplete and was left alone.")


def _bring(copy: CopyFolder, file: StoredFile, target: Path) -> None:
    """Brings one file; does nothing for one that has this content. Raises `_Damaged`, `_Unread`, `OSError`."""
    if target.is_file() and _is_same(target, file):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with part.open("wb") as out:
        for piece in file.parts:
            out.writelines(_read(copy, piece))
    os.utime(part, ns=(file.mtime_ns, file.mtime_ns))
    part.replace(target)


def _read(copy: CopyFolder, piece: Part) -> Iterator[bytes]:
    """Tells the errors of the copy from those of this disk."""
    try:
        yield from copy.read(piece)
    except (ValueError, FileNotFoundError) as error:
        raise _Damaged(piece.where) from error
    except OSError as error:
        raise _Unread(in_words(error)) from error


def _is_same(path: Path, file: StoredFile) -> bool:
    """By size and time of change, which `_bring` sets when the whole file has come."""
    about = path.stat()
    return (about.st_size, about.st_mtime_ns) == (file.size, file.mtime_ns)


def _delete_others(incoming: Path, manifest: Manifest) -> None:
    """Deletes what an earlier restore has left of another copy."""
    for path in list(incoming.rglob("*")) if incoming.is_dir() else ():
        if path.is_file() and path.relative_to(incoming).as_posix() not in manifest.files:
            path.unlink()
    incoming.mkdir(parents=True, exist_ok=True)


def _checked(run_id: str) -> str:
    if not RUN_ID.fullmatch(run_id):
        raise UserError(f"{run_id[:100]!r} is no run's name.")
    return run_id
