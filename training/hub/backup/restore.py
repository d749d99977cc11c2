"""Brings back what `training.hub.backup.mirror` has copied: run folders, what is served, and its versions.

    restore_home(home, Path("/state"))                                  # at the app's start: all that is not here
    restore_run("20261122-143000-a1b2", Path("/state"), home)           # one run; where it is here, brought up to date

Every byte is checked against its digest. A folder is made under another name first, so that one of its own name is
whole; a restore that is killed goes on where it was. What is here already is never written over, but by the
`restore_run` of one that asks for it. The records are made anew from the folders (`training.runs.recovery`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from inference.adapters.served import FILE, locked
from inference.adapters.versions import NAME
from inference.common.errors import UserError
from training.hub.backup.mirror import in_words, run_state, serving_state
from training.hub.backup.snapshots import Kept, Manifest, Part, StateTree, holds
from training.hub.space.sleep_timer import FILE as SLEEP
from training.runs.folder import MARKER, is_whole
from training.runs.upkeep import deleted_runs

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")
_INCOMING = ".restore-"
_NEEDED = ("config.json",)
log = logging.getLogger(__name__)


class _Damaged(Exception):
    """A piece of a file is not there as it was."""


class _Unread(Exception):
    """A piece of a file cannot be read now; later it may be."""


@dataclass(frozen=True)
class Restored:
    """What was brought back."""

    runs: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    served: bool = False
    """True if it is known again which adapter is served."""
    num_bytes: int = 0
    problems: tuple[str, ...] = ()
    """What could not be brought back, a sentence each."""
    is_all: bool = True
    """False if something could not be read, and may be at another time."""

    @property
    def summary(self) -> str:
        """In a sentence; empty if there was nothing."""
        counted = ((len(self.runs), "run"), (len(self.versions), "promoted adapter"))
        parts = [f"{n} {what}{'' if n == 1 else 's'}" for n, what in counted if n]
        parts += ["which adapter is served"] * self.served
        return f"{', '.join(parts)} ({self.num_bytes / 1e6:.1f} MB)" if parts else ""


@dataclass
class _Found:
    """What was brought back so far."""

    runs: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    served: bool = False
    num_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    is_all: bool = True

    @contextlib.contextmanager
    def telling(self, what: str, damaged: str = "") -> Iterator[None]:
        """Goes on where a copy cannot be used: `what` is its name, `damaged` what is said of one that never can be."""
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
    """Bring back all that is in `state` and not in `home`. Raises `UserError` where `home` cannot be written.

    What of `state` cannot be read is told in `problems`, and the rest is brought back all the same.
    """
    if not state.is_dir():
        raise UserError(f"{state} is not there, so nothing was brought back. Mount the bucket there (see space.yaml).")
    found = _Found()
    try:
        _restore_serving(home, state, found)
        for run_id in _missing_runs(home, state):
            with found.telling(f"The copy of the run {run_id}"):
                found.num_bytes += _restore_folder(run_id, state, home)
                found.runs.append(run_id)
    except OSError as error:
        raise UserError(f"What was kept in {state} cannot be brought back ({in_words(error)}). See to it.") from error
    names, problems = (tuple(found.runs), tuple(found.versions)), tuple(found.problems)
    return Restored(*names, found.served, found.num_bytes, problems, found.is_all)


def restore_run(run_id: str, state: Path, home: Path) -> Path:
    """A run's folder as its newest whole copy has it; one that is here has its files brought up to date.

    Files that only this folder has stay. Raises `UserError` if there is no whole copy, and where nothing can be
    written.
    """
    folder = home / "runs" / run_id
    try:
        if not folder.is_dir():
            _restore_folder(run_id, state, home)
        else:
            _bring_newest(StateTree(run_state(state, _checked(run_id))), folder, run_id)
        return folder
    except _Unread as error:
        raise UserError(f"The copy of the run {run_id} in {state} cannot be read now ({error}).") from error
    except OSError as error:
        raise UserError(f"The run {run_id} cannot be brought back from {state} ({in_words(error)}).") from error


def has_copy(run_id: str, state: Path) -> bool:
    """Whether there is a copy of a run in `state`, as far as its newest manifest says."""
    return bool(StateTree(run_state(state, run_id)).manifests())


def _missing_runs(home: Path, state: Path) -> Iterator[str]:
    """Those with a copy and no folder, but for those that were deleted here, in the order of their names."""
    deleted = deleted_runs(home)
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(state / "runs")):
            is_new = RUN_ID.fullmatch(name) and name not in deleted and not (home / "runs" / name).exists()
            if is_new and has_copy(name, state):
                yield name


def _restore_folder(run_id: str, state: Path, home: Path) -> int:
    """Make a run's folder; its size in bytes. `UserError` for a copy that cannot be used, `OSError` for this disk."""
    tree = StateTree(run_state(state, _checked(run_id)))
    runs = home / "runs"
    incoming = runs / f"{_INCOMING}{run_id}"
    manifest = _bring_newest(tree, incoming, run_id)
    _drop_others(incoming, manifest)
    for checkpoint in (incoming / "checkpoints").glob("checkpoint-*"):
        if not is_whole(checkpoint):
            shutil.rmtree(checkpoint)
    (incoming / "checkpoints").mkdir(exist_ok=True)
    (incoming / "images").mkdir(exist_ok=True)
    incoming.rename(runs / run_id)
    return sum(kept.size for kept in manifest.files.values())


def _restore_serving(home: Path, state: Path, found: _Found) -> None:
    """The versions that are not here, then `served.json` if there is none."""
    tree = StateTree(serving_state(state))
    manifests = tree.manifests()
    if not manifests:
        return
    manifest = manifests[0]
    by_version: dict[str, dict[str, Kept]] = {}
    for name, kept in manifest.files.items():
        top, _, rest = name.partition("/")
        version, _, inner = rest.partition("/")
        if top == "adapters" and inner and NAME.fullmatch(version):
            by_version.setdefault(version, {})[inner] = kept
    with locked(home):
        for version, files in by_version.items():
            if (home / "adapters" / version).exists():
                continue
            damaged = f"The copy of the adapter {version} in {tree.path} is incomplete and was left alone."
            with found.telling(f"The copy of the adapter {version}", damaged):
                found.num_bytes += _bring_version(tree, files, home / "adapters", version)
                found.versions.append(version)
        if FILE in manifest.files and not (home / FILE).exists():
            damaged = f"Which adapter was served is not known: {FILE} in {tree.path} is damaged."
            with found.telling(f"Which adapter was served, {FILE},", damaged):
                _bring(tree, manifest.files[FILE], home / FILE)
                found.served = True
        if SLEEP in manifest.files and not (home / SLEEP).exists():
            with found.telling(f"The Space's sleep time, {SLEEP},", f"The Space's sleep time, {SLEEP}, is damaged."):
                _bring(tree, manifest.files[SLEEP], home / SLEEP)


def _bring_version(tree: StateTree, files: dict[str, Kept], adapters: Path, version: str) -> int:
    incoming = adapters / f"{_INCOMING}{version}"
    shutil.rmtree(incoming, ignore_errors=True)
    for name, kept in files.items():
        _bring(tree, kept, incoming / name)
    incoming.rename(adapters / version)
    return sum(kept.size for kept in files.values())


def _bring_newest(tree: StateTree, folder: Path, run_id: str) -> Manifest:
    """The files of the newest copy that is whole; markers of checkpoints come last, as they were copied."""
    manifests, sizes = tree.manifests(), tree.sizes()
    if not manifests:
        raise UserError(f"There is no copy of the run {run_id} in {tree.path.parents[1]}.")
    for manifest in manifests:
        parts = (part for kept in manifest.files.values() for part in kept.parts)
        if any(needed not in manifest.files for needed in _NEEDED) or any(sizes.get(p.digest) != p.size for p in parts):
            continue
        try:
            for name, kept in sorted(manifest.files.items(), key=lambda item: item[0].endswith(f"/{MARKER}")):
                _bring(tree, kept, folder / name)
            return manifest
        except _Damaged:
            log.warning("the copy %d in %s is damaged; an earlier one is looked for", manifest.number, tree.path)
    raise UserError(f"The copy of the run {run_id} in {tree.path} is incomplete and was left alone.")


def _bring(tree: StateTree, kept: Kept, target: Path) -> None:
    """One file, whole or as it was; nothing is done for one that has this content. Raises `_Damaged`, `OSError`."""
    if target.is_file() and _is_same(target, kept):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with part.open("wb") as file:
        for piece in kept.parts:
            file.writelines(_read(tree, piece))
    os.utime(part, ns=(kept.mtime_ns, kept.mtime_ns))
    part.replace(target)


def _read(tree: StateTree, piece: Part) -> Iterator[bytes]:
    """Of what goes wrong, what is the copy's and not this disk's."""
    try:
        yield from tree.read(piece)
    except (ValueError, FileNotFoundError) as error:
        raise _Damaged(piece.digest) from error
    except OSError as error:
        raise _Unread(in_words(error)) from error


def _is_same(path: Path, kept: Kept) -> bool:
    if path.stat().st_size != kept.size:
        return False
    with path.open("rb") as file:
        start = 0
        for part in kept.parts:
            if not holds(part, file, start):
                return False
            start += part.size
    return True


def _drop_others(incoming: Path, manifest: Manifest) -> None:
    """What an earlier restore has left of another copy."""
    for path in list(incoming.rglob("*")) if incoming.is_dir() else ():
        if path.is_file() and path.relative_to(incoming).as_posix() not in manifest.files:
            path.unlink()
    incoming.mkdir(parents=True, exist_ok=True)


def _checked(run_id: str) -> str:
    if not RUN_ID.fullmatch(run_id):
        raise UserError(f"{run_id[:100]!r} is no run's name.")
    return run_id
