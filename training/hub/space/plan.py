"""The plan of a deployment: the steps from a Space's present state to the wanted one, only where they differ.

steps = plan(deployment, state)    # empty where all is as it should be
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from training.hub.space.checkout import Digest

STATE_FOLDER = "/state"
"""The mount path of the bucket, in the Space and in a Job."""
TOKEN_SECRET = "HF_TOKEN"
FREE_HARDWARE = "cpu-basic"
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
    if deployment.hardware != FREE_HARDWARE and now != deployment.sleep_seconds:
        return [Step("sleep", f"set its sleep time: {_sleep(deployment)}")]
    return []


def _sleep(deployment: Deployment) -> str:
    if deployment.hardware == FREE_HARDWARE:
        return "asleep after 48 hours without a visitor, the Hub's rule for free hardware"
    if deployment.sleep_seconds < 0:
        return "never asleep"
    return f"asleep after {deployment.sleep_seconds // 60} minutes without a visitor"


def _is_same(deployment: Digest, state: Digest) -> bool:
    return deployment.sha256 == state.sha256 if state.sha256 else deployment.blob_id == state.blob_id


def _named(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join("".join(c if c.isprintable() else "?" for c in name) for name in names[:MAX_NAMED]) + more
