"""The plan of a deployment: the steps from a Space's present state to the wanted one, only where they differ.

steps = plan(deployment, state)    # empty where all is as it should be

A Space is made of the files of this checkout that git tracks (`read_checkout`).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from inference.common.environment import plain_environment
from inference.common.errors import UserError
from inference.common.space_file import FREE_HARDWARE

ROOT = Path(__file__).parents[3]
MAX_FILE_BYTES = 100_000_000
_GIT_SECONDS = 30


@dataclass(frozen=True)
class Checkout:
    """A folder with its tracked files and its commit."""

    folder: Path
    files: tuple[str, ...]
    """Paths below the folder, with slashes."""
    commit: str
    """The first twelve digits of the commit that is checked out."""
    changed: tuple[str, ...]
    """Files that differ from it."""

    def path(self, name: str) -> Path:
        """The path of a file."""
        return self.folder / name


@dataclass(frozen=True)
class Digest:
    """The two digests by which the Hub knows a file's content."""

    blob_id: str
    """The SHA-1 of git's blob."""
    sha256: str
    """The Hub's digest of a large file."""


def read_checkout(folder: Path = ROOT) -> Checkout:
    """Reads a checkout. Raises `UserError` without git or a repository, and for a tracked file that is missing."""
    files = tuple(sorted(name for name in _git(folder, "ls-files", "-z").split("\0") if name))
    for name in files:
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise UserError(
                f"{name} is tracked by git, but there is no such file here; check it out again, or remove it from git."
            )
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{name} has more than {MAX_FILE_BYTES // 10**6} MB; remove it from git.")
    changed = _git(folder, "diff", "--name-only", "-z", "HEAD").split("\0")
    commit = _git(folder, "rev-parse", "--short=12", "HEAD").strip()
    return Checkout(folder, files, commit, tuple(sorted(name for name in changed if name)))


def digest(data: bytes) -> Digest:
    """Both digests of a content."""
    return Digest(hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(), hashlib.sha256(data).hexdigest())


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=_GIT_SECONDS,
            env=plain_environment(os.environ),
        )
    except FileNotFoundError as error:
        raise UserError("git is not installed, and it lists the project's files. Install it.") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines()
        raise UserError(
            f"{folder} is not a git repository with a commit ({lines[-1] if lines else 'git failed'}). Deploy from a "
            "clone."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"git did not answer within {_GIT_SECONDS} seconds; is {folder} on a slow disk?") from error
    return done.stdout


STATE_FOLDER = "/state"
"""The mount path of the bucket, in the Space and in a Job."""
TOKEN_SECRET = "HF_TOKEN"
MAX_ADDED, MAX_NAMED = 3, 20
"""The numbers of files that a plan names: of added ones, and of replaced or deleted ones."""
_KEPT_FILES = {".gitattributes"}
"""Written by the Hub itself."""
_FOUNDING_FILES = {"README.md", ".gitattributes"}
"""The files of a new Space."""


@dataclass(frozen=True)
class Mount:
    """A volume in the Space's file system."""

    source: str
    folder: str


@dataclass(frozen=True)
class Deployment:
    """The deployment that space.yaml, the checkout and the command ask for."""

    space: str
    files: Mapping[str, Digest]
    hardware: str
    sleep_seconds: int
    """-1: it never sleeps."""
    bucket: str
    variables: Mapping[str, str]
    private: bool = False
    renew_token: bool = False
    """Set the secret even if there is one, since its value cannot be read."""


@dataclass(frozen=True)
class SpaceState:
    """The present state on the Hub; the defaults are those of a Space that does not exist."""

    exists: bool = False
    commit: str = ""
    files: Mapping[str, Digest] = field(default_factory=dict)
    """Each has one of the two digests; the other is empty."""
    hardware: str = ""
    sleep_seconds: int | None = None
    stage: str = ""
    is_private: bool = False
    bucket_exists: bool = False
    bucket_is_public: bool = False
    mounts: tuple[Mount, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()

    @property
    def is_ours(self) -> bool:
        """True for a Space of LookThink, and for a new one."""
        return "space.yaml" in self.files or set(self.files) <= _FOUNDING_FILES


@dataclass(frozen=True)
class FileChanges:
    """The changes of a commit, by file."""

    added: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.replaced or self.deleted)

    @property
    def words(self) -> str:
        """`5 files added, README.md replaced`: names the files that somebody may miss, up to a limit."""
        added = ", ".join(self.added) if len(self.added) <= MAX_ADDED else f"{len(self.added)} files"
        groups = (("added", added), ("replaced", _named(self.replaced)), ("deleted", _named(self.deleted)))
        return ", ".join(f"{names} {what}" for what, names in groups if names)


@dataclass(frozen=True)
class Step:
    """One step of a plan."""

    kind: str
    """`bucket`, `create`, `volumes`, `variable`, `secret`, `files`, `hardware` or `sleep`."""
    words: str
    name: str = ""
    """The name of a variable."""


def file_changes(deployment: Mapping[str, Digest], state: Mapping[str, Digest]) -> FileChanges:
    """The changes that make the files of a Space those of the checkout."""
    same = {n for n, there in state.items() if n in deployment and _is_same(deployment[n], there)}
    return FileChanges(
        tuple(sorted(set(deployment) - set(state))),
        tuple(sorted((set(deployment) & set(state)) - same)),
        tuple(sorted(set(state) - set(deployment) - _KEPT_FILES)),
    )


def plan(deployment: Deployment, state: SpaceState) -> list[Step]:
    """The steps, in the order in which they are carried out."""
    steps = []
    if not state.bucket_exists:
        steps.append(Step("bucket", f"create the private bucket {deployment.bucket}, so that runs outlive a restart"))
    if not state.exists:
        steps.append(Step("create", _creation(deployment)))
    else:
        steps += _settings(deployment, state)
    if changes := file_changes(deployment.files, state.files):
        steps.append(Step("files", f"make one commit: {changes.words}"))
    if state.exists:
        steps += _machine(deployment, state)
    return steps


def _creation(deployment: Deployment) -> str:
    """A new Space is created with all settings at once: not every account may have free hardware."""
    kind = "private" if deployment.private else "public"
    names = ", ".join(f"{name}={value}" for name, value in deployment.variables.items())
    return (
        f"create the {kind} Space {deployment.space} on {deployment.hardware}, {_sleep(deployment)}, with the bucket "
        f"at {STATE_FOLDER}, the variables {names} and the secret {TOKEN_SECRET}"
    )


def _settings(deployment: Deployment, state: SpaceState) -> list[Step]:
    steps = []
    mine = Mount(deployment.bucket, STATE_FOLDER)
    if mine not in state.mounts:
        steps.append(Step("volumes", f"mount the bucket {deployment.bucket} at {STATE_FOLDER}"))
    for name, value in deployment.variables.items():
        if state.variables.get(name) != value:
            steps.append(Step("variable", f"set the variable {name} to {value}", name))
    if deployment.renew_token or TOKEN_SECRET not in state.secrets:
        word = "renew" if TOKEN_SECRET in state.secrets else "set"
        steps.append(Step("secret", f"{word} the secret {TOKEN_SECRET}"))
    return steps


def _machine(deployment: Deployment, state: SpaceState) -> list[Step]:
    """Hardware with its sleep time, or the sleep time alone."""
    if state.hardware != deployment.hardware:
        was = f"from {state.hardware} " if state.hardware else ""
        return [Step("hardware", f"move {was}to {deployment.hardware}, {_sleep(deployment)}")]
    now = -1 if state.sleep_seconds is None else state.sleep_seconds
    if deployment.hardware not in FREE_HARDWARE and now != deployment.sleep_seconds:
        return [Step("sleep", f"set its sleep time: {_sleep(deployment)}")]
    return []


def _sleep(deployment: Deployment) -> str:
    if deployment.hardware in FREE_HARDWARE:
        return "asleep after 48 hours without a visitor, the Hub's rule for free hardware"
    if deployment.sleep_seconds < 0:
        return "never asleep"
    return f"asleep after {deployment.sleep_seconds // 60} minutes without a visitor"


def _is_same(deployment: Digest, state: Digest) -> bool:
    return deployment.sha256 == state.sha256 if state.sha256 else deployment.blob_id == state.blob_id


def _named(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join("".join(c if c.isprintable() else "?" for c in name) for name in names[:MAX_NAMED]) + more
