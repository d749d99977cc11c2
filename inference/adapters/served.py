"""The served adapter, since when and by whom: `served.json` in the home folder, read by all and changed here.

    promote(home, Path("runs/20261122-143000-a1b2/adapter"), by="alice")
    serving(load_settings()).name       # '20261122-143000-a1b2-3f9c0d12'
    roll_back(home, by="alice")

The first of these is served:
1. `LOOKTHINK_ADAPTER`. It is set for one process by whoever starts it: to look at an adapter, or as a way out when a
   promoted one misbehaves. While it is set, that process promotes nothing.
2. `served.json`: the owner's last decision. It outlives every restart.
3. `space.yaml`, or the starter's own adapter: a deployment begins with it, and the last roll back returns to it.

If `served.json` cannot be used (edited by hand, broken, its version gone or changed), 3 is served meanwhile and
`Serving.notice` says so, with the remedy. The next promotion keeps a broken file under another name.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from inference.adapters.record import NotFetched, adapter_digest, adapter_name, resolve
from inference.adapters.versions import NAME, now, problem_of, store_version, version_folder
from inference.common.errors import UserError
from inference.common.files import Timeout, exclusive, write_whole
from inference.common.settings import Settings, load_settings
from inference.common.validation import Strict

FILE = "served.json"
ANYTHING = "whatever is served"
"""For `promote`: it does not matter what was served before."""
MAX_EARLIER = 50
"""Versions that can be rolled back to, one after the other."""
MAX_HISTORY = 200
"""Changes that are remembered."""
_MAX_BYTES = 1_000_000
_LOCK_SECONDS = 60.0
_ONLY_NAME = rf"^{NAME.pattern}$"
Action = Literal["promote", "roll back"]


class Entry(Strict):
    """One adapter's time of being served."""

    adapter: str | None = Field(default=None, pattern=_ONLY_NAME)
    """A version's name; `None` for the settings' adapter."""
    digest: str | None = None
    """Of its files when it was promoted."""
    since: str | None = None
    by: str | None = None


class Change(Strict):
    """One line of the history."""

    at: str
    by: str
    action: Action
    adapter: str | None
    """The adapter served from then on; `None` for the settings'."""
    before: str | None
    """The adapter served until then."""
    note: str = ""


class ServedFile(Strict):
    """The content of `served.json`."""

    served: Entry = Entry()
    earlier: tuple[Entry, ...] = ()
    """The entries that roll backs return to, the last one first."""
    history: tuple[Change, ...] = ()
    """Every promotion and roll back, the newest last."""


@dataclass(frozen=True)
class Serving:
    """The served adapter, and why it is."""

    path: Path | None
    """The adapter's folder; `None` for the base alone."""
    name: str | None
    source: Literal["LOOKTHINK_ADAPTER", "served.json", "settings"]
    since: str | None = None
    by: str | None = None
    before: Entry | None = None
    """The entry that a roll back would return to; `None` if there is none."""
    history: tuple[Change, ...] = ()
    notice: str = ""
    """The problem with `served.json` or with an adapter of the Hub, and the remedy; empty if there is none."""

    @property
    def digest(self) -> str | None:
        """Of the adapter's files (`inference.adapters.record.adapter_digest`); `None` for the base alone."""
        return adapter_digest(self.path) if self.path else None


class ServedMeanwhile(UserError):
    """Another adapter is served than the one that was compared with."""


def serving(settings: Settings) -> Serving:
    """The adapter served by `settings` and `served.json`. Raises `UserError` only if the settings name no folder."""
    try:
        file = read_served(settings.home)
    except UserError as error:
        return _as_set(settings, ServedFile(), str(error))
    entry = file.served
    if settings.adapter_is_pinned:
        also = f" {FILE} names {entry.adapter}, which is served once it is unset." if entry.adapter else ""
        return _as_set(settings, file, f"LOOKTHINK_ADAPTER is set, so its adapter is served.{also}" if also else "")
    if entry.adapter is None:
        return _as_set(settings, file)
    problem = problem_of(settings.home, entry.adapter, entry.digest, settings.base)
    if problem:
        return _as_set(
            settings,
            file,
            f"{FILE} names the adapter {entry.adapter}, but {problem}. What the settings name is served instead. "
            "Promote it or another one again, or roll back.",
        )
    before = file.earlier[-1] if file.earlier else None
    folder = version_folder(settings.home, entry.adapter)
    return Serving(folder, entry.adapter, "served.json", entry.since, entry.by, before, file.history)


def promote(
    home: Path,
    adapter: Path,
    by: str,
    *,
    settings: Settings | None = None,
    instead_of: str | None = ANYTHING,
    digest: str | None = None,
    system_prompt: str | None = None,
    same_base: bool = False,
) -> Serving:
    """Serve the adapter in the folder `adapter` from now on; it is checked and copied to a version of its own first.

    `by` names the person. `instead_of` is the digest of what must be served until now (`None`: the base alone): if
    another one is, nothing changes and `ServedMeanwhile` is raised. `digest` is what the adapter's own must be, if
    given. `system_prompt` is the text for an adapter that does not say which it was trained with; `same_base` says
    that the base which its settings name is the one here under another name. The settings are `load_settings()` unless
    given. Raises `UserError` for an adapter that cannot be served (`PromptUnknown` without that text), and if nothing
    can be written; then nothing has changed.
    """
    settings = _settings(home, settings)
    with locked(home):
        until_now = serving(settings)
        if instead_of not in (ANYTHING, until_now.digest):
            raise ServedMeanwhile(f"Meanwhile {until_now.name or 'the base'} is served, which was not compared with.")
        file = read_or_set_aside(home)
        stored = store_version(home, resolve(str(adapter), home), settings.base, by, digest, system_prompt, same_base)
        before = file.served
        if (before.adapter, before.digest) != (stored.name, stored.digest):
            new = Entry(adapter=stored.name, digest=stored.digest, since=now(), by=by)
            write_served(home, file, new, (*file.earlier, before), "promote")
    return serving(settings)


def roll_back(home: Path, by: str, *, settings: Settings | None = None, instead_of: str | None = ANYTHING) -> Serving:
    """Serve again what was served before; a version that cannot be served any more is skipped, with a note.

    `instead_of` as in `promote`, so that two requests at once go back one step only. Raises `UserError` if nothing was
    served before, and if nothing can be written.
    """
    settings = _settings(home, settings)
    with locked(home):
        file = read_served(home)
        if instead_of not in (ANYTHING, (until_now := serving(settings)).digest):
            other = until_now.name or "the base"
            raise ServedMeanwhile(f"Meanwhile {other} is served; look again before you roll back.")
        earlier, skipped = list(file.earlier), []
        while earlier:
            entry = earlier.pop()
            problem = problem_of(home, entry.adapter, entry.digest, settings.base) if entry.adapter else ""
            if not problem:
                break
            skipped.append(f"{entry.adapter} was passed over: {problem}")
        else:
            why = f" ({'; '.join(skipped)})" if skipped else ""
            raise UserError(f"Nothing was served before that could be rolled back to{why}. Promote an adapter instead.")
        again = entry.model_copy(update={"since": now(), "by": by})
        write_served(home, file, again, tuple(earlier), "roll back", "; ".join(skipped))
    return serving(settings)


def read_served(home: Path) -> ServedFile:
    """The file's content; that of a fresh home if there is none. Raises `UserError` if it is broken."""
    path = home / FILE
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES / 1e6:.0f} MB")
        return ServedFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return ServedFile()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Give this user the right to.") from error
    except ValueError as error:
        reason = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            reason = f"{field}: {first['msg']}" if field else first["msg"]
        raise UserError(
            f"{path} cannot be used ({reason}), so what the settings name is served. Correct it, or promote an "
            "adapter: the file is then kept under another name."
        ) from error


def read_or_set_aside(home: Path) -> ServedFile:
    """The file's content; a broken file is renamed, with the time in its name, and an empty one begins."""
    try:
        return read_served(home)
    except UserError:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        number, aside = 1, home / f"served.broken-{stamp}.json"
        while aside.exists():
            number += 1
            aside = home / f"served.broken-{stamp}-{number}.json"
        (home / FILE).rename(aside)
        return ServedFile()


def write_served(
    home: Path, file: ServedFile, served: Entry, earlier: tuple[Entry, ...], action: Action, note: str = ""
) -> None:
    """Write the state after a change of `file`."""
    first, rest = earlier[:1], earlier[1:]  # the first is the settings' adapter: it stays, however long the list
    change = Change(
        at=served.since or now(),
        by=served.by or "",
        action=action,
        adapter=served.adapter,
        before=file.served.adapter,
        note=note,
    )
    new = ServedFile(served=served, earlier=first + rest[-MAX_EARLIER:], history=(*file.history, change)[-MAX_HISTORY:])
    write_whole(home / FILE, new.model_dump_json(indent=1) + "\n")


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Holds the lock of `served.json`. Raises `UserError` if it is not free in time, or if the disk refuses a write."""
    try:
        with exclusive(home / "served.lock", _LOCK_SECONDS):
            yield
    except Timeout as error:
        raise UserError(
            f"Another process has been changing what {home} serves for a minute. Try again later."
        ) from error
    except OSError as error:
        where, why = error.filename or home, error.strerror or error
        raise UserError(
            f"{where}: {why}. What is served stays as it was. Free some space, or give this user the right to write "
            f"in {home}."
        ) from error


def _as_set(settings: Settings, file: ServedFile, notice: str = "") -> Serving:
    """The settings' adapter as the served one."""
    path = None
    try:
        path = resolve(settings.adapter, settings.home) if settings.adapter else None
    except NotFetched as error:  # the app serves without it, and goes on trying (`inference.adapters.live`)
        notice = " ".join(filter(None, (notice, f"{error} The base alone answers until it is here.")))
    entry, pinned = file.served, settings.adapter_is_pinned
    by_roll_back = entry.adapter is None and not pinned
    return Serving(
        path,
        adapter_name(path) if path else None,
        "LOOKTHINK_ADAPTER" if pinned else "settings",
        entry.since if by_roll_back else None,
        entry.by if by_roll_back else None,
        file.earlier[-1] if file.earlier and not pinned else None,
        file.history,
        notice,
    )


def _settings(home: Path, settings: Settings | None) -> Settings:
    settings = (settings or load_settings()).model_copy(update={"home": home})
    if settings.adapter_is_pinned:
        raise UserError(
            f"LOOKTHINK_ADAPTER is set to {settings.adapter}, and while it is, that is served whatever is promoted or "
            "rolled back. Start without it first."
        )
    return settings
