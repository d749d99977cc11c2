"""What a deployment wants, what it finds on the Hub, and the steps between the two: no more than what differs.

steps = plan(wanted, found)      # empty where all is as it should be
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from training.hub.space.checkout import Digest

STATE_FOLDER = "/state"
"""Where the bucket is mounted, in the Space and in a Job."""
TOKEN_SECRET = "HF_TOKEN"
FREE_HARDWARE = "cpu-basic"
MAX_ADDED, MAX_NAMED = 3, 20
"""Files that a plan names: of those that are added, and of those that are replaced or deleted."""
_KEPT_FILES = {".gitattributes"}
"""Written by the Hub itself."""
_FOUNDING_FILES = {"README.md", ".gitattributes"}
"""What a new Space has."""


@dataclass(frozen=True)
class Mount:
    """A bucket in the Space's file system, or another volume by the same words."""

    source: str
    folder: str


@dataclass(frozen=True)
class Wanted:
    """The deployment by space.yaml, the checkout and the command."""

    space: str
    files: Mapping[str, Digest]
    hardware: str
    sleep_seconds: int
    """-1: it never sleeps."""
    bucket: str
    variables: Mapping[str, str]
    private: bool = False
    renew_token: bool = False
    """Set the secret even where there is one: what it holds cannot be read."""


@dataclass(frozen=True)
class Found:
    """The Hub as it is; the defaults are those of a Space that does not exist."""

    exists: bool = False
    commit: str = ""
    files: Mapping[str, Digest] = field(default_factory=dict)
    """One of the two digests is empty for each: the Hub tells the other."""
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
        """Whether it is a LookThink, or so new that it is nothing yet."""
        return "space.yaml" in self.files or set(self.files) <= _FOUNDING_FILES


@dataclass(frozen=True)
class FileChanges:
    """What a commit is to do."""

    added: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.replaced or self.deleted)

    @property
    def words(self) -> str:
        """`5 files added, README.md replaced`: what somebody may miss is named, as far as there is room."""
        added = ", ".join(self.added) if len(self.added) <= MAX_ADDED else f"{len(self.added)} files"
        groups = (("added", added), ("replaced", _named(self.replaced)), ("deleted", _named(self.deleted)))
        return ", ".join(f"{names} {what}" for what, names in groups if names)


@dataclass(frozen=True)
class Step:
    """One thing to do."""

    kind: str
    """`bucket`, `create`, `volumes`, `variable`, `secret`, `files`, `hardware` or `sleep`."""
    words: str
    name: str = ""
    """Of a variable."""


def file_changes(wanted: Mapping[str, Digest], found: Mapping[str, Digest]) -> FileChanges:
    """What makes the files of a Space those of the checkout."""
    same = {n for n, there in found.items() if n in wanted and _is_same(wanted[n], there)}
    return FileChanges(
        tuple(sorted(set(wanted) - set(found))),
        tuple(sorted((set(wanted) & set(found)) - same)),
        tuple(sorted(set(found) - set(wanted) - _KEPT_FILES)),
    )


def plan(wanted: Wanted, found: Found) -> list[Step]:
    """What there is to do, in the order in which it is done."""
    steps = []
    if not found.bucket_exists:
        steps.append(Step("bucket", f"make the private bucket {wanted.bucket}, for runs to outlive a restart"))
    if not found.exists:
        steps.append(Step("create", _creation(wanted)))
    else:
        steps += _settings(wanted, found)
    if changes := file_changes(wanted.files, found.files):
        steps.append(Step("files", f"make one commit: {changes.words}"))
    if found.exists:
        steps += _machine(wanted, found)
    return steps


def _creation(wanted: Wanted) -> str:
    """A new Space is made with all of it at once: free hardware is not free for everybody to have."""
    kind = "private" if wanted.private else "public"
    names = ", ".join(f"{name}={value}" for name, value in wanted.variables.items())
    return (
        f"create the {kind} Space {wanted.space} on {wanted.hardware}, {_sleep(wanted)}, with the bucket at "
        f"{STATE_FOLDER}, the variables {names} and the secret {TOKEN_SECRET}"
    )


def _settings(wanted: Wanted, found: Found) -> list[Step]:
    steps = []
    mine = Mount(wanted.bucket, STATE_FOLDER)
    if mine not in found.mounts:
        steps.append(Step("volumes", f"mount the bucket {wanted.bucket} at {STATE_FOLDER}"))
    for name, value in wanted.variables.items():
        if found.variables.get(name) != value:
            steps.append(Step("variable", f"set the variable {name} to {value}", name))
    if wanted.renew_token or TOKEN_SECRET not in found.secrets:
        word = "renew" if TOKEN_SECRET in found.secrets else "set"
        steps.append(Step("secret", f"{word} the secret {TOKEN_SECRET}"))
    return steps


def _machine(wanted: Wanted, found: Found) -> list[Step]:
    """Hardware with its sleep time, or the sleep time alone."""
    if found.hardware != wanted.hardware:
        was = f"from {found.hardware} " if found.hardware else ""
        return [Step("hardware", f"move {was}to {wanted.hardware}, {_sleep(wanted)}")]
    now = -1 if found.sleep_seconds is None else found.sleep_seconds
    if wanted.hardware != FREE_HARDWARE and now != wanted.sleep_seconds:
        return [Step("sleep", f"set its sleep time: {_sleep(wanted)}")]
    return []


def _sleep(wanted: Wanted) -> str:
    if wanted.hardware == FREE_HARDWARE:
        return "asleep after 48 hours without a visitor, as the Hub has it for free hardware"
    if wanted.sleep_seconds < 0:
        return "never asleep"
    return f"asleep after {wanted.sleep_seconds // 60} minutes without a visitor"


def _is_same(wanted: Digest, found: Digest) -> bool:
    return wanted.sha256 == found.sha256 if found.sha256 else wanted.blob_id == found.blob_id


def _named(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join("".join(c if c.isprintable() else "?" for c in name) for name in names[:MAX_NAMED]) + more
