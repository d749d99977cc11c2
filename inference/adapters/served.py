"""Which adapter is served, since when and by whom: `served.json` in the home folder, read by all, changed here.

    promote(home, Path("runs/20261122-143000-a1b2/adapter"), by="alice")
    serving(load_settings()).name       # '20261122-143000-a1b2-3f9c0d12'
    roll_back(home, by="alice")

What is served is the first of these that there is:
1. `LOOKTHINK_ADAPTER`. It is set for one process, by whoever starts it: the way to look at an adapter, and the way out
   when a promoted one misbehaves. While it is set, nothing is promoted from that process.
2. `served.json`. The owner's last decision; it outlives every restart.
3. `space.yaml`, or the starter's own adapter: what a deployment begins with, and what a roll back ends at.

A `served.json` that cannot be used (edited by hand, broken, its version gone or changed) is told in `Serving.notice`
with the remedy, and 3 is served meanwhile; the next promotion sets a broken file aside and never writes over it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inference.adapters.record import NotFetched, adapter_digest, adapter_name, resolve
from inference.adapters.served_file import (
    FILE,
    Change,
    Entry,
    ServedFile,
    locked,
    read_or_set_aside,
    read_served,
    write_served,
)
from inference.adapters.versions import now, problem_of, store_version, version_folder
from inference.common.errors import UserError
from inference.common.settings import Settings, load_settings

ANYTHING = "whatever is served"
"""For `promote`: it does not matter what was served until now."""


@dataclass(frozen=True)
class Serving:
    """What is served, and how that came about."""

    path: Path | None
    """The adapter's folder; `None` for the base alone."""
    name: str | None
    source: Literal["LOOKTHINK_ADAPTER", "served.json", "settings"]
    since: str | None = None
    by: str | None = None
    before: Entry | None = None
    """What a roll back would return to; `None` if there is nothing."""
    history: tuple[Change, ...] = ()
    notice: str = ""
    """What is wrong with `served.json` or with an adapter of the Hub, and what to do; empty if nothing is."""

    @property
    def digest(self) -> str | None:
        """Of the adapter's files (`inference.adapters.record.adapter_digest`); `None` for the base alone."""
        return adapter_digest(self.path) if self.path else None


class ServedMeanwhile(UserError):
    """Another adapter is served than the one that was compared with."""


def serving(settings: Settings) -> Serving:
    """What is served by `settings` and `served.json`. Raises `UserError` only if the settings name no folder."""
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
) -> Serving:
    """Serve the adapter in the folder `adapter` from now on; it is checked, and copied to a version of its own, first.

    `by` says who. `instead_of` is the digest of what must be served until now (`None`: the base alone): with another
    one nothing changes and `ServedMeanwhile` is raised. `digest` is what the adapter's own must be, if given. The
    settings are `load_settings()` unless given. Raises `UserError` for an adapter that cannot be served, and where
    nothing can be written; then nothing has changed.
    """
    settings = _settings(home, settings)
    with locked(home):
        until_now = serving(settings)
        if instead_of not in (ANYTHING, until_now.digest):
            raise ServedMeanwhile(f"Meanwhile {until_now.name or 'the base'} is served, which was not compared with.")
        file = read_or_set_aside(home)
        stored = store_version(home, resolve(str(adapter), home), settings.base, by, digest)
        before = file.served
        if (before.adapter, before.digest) != (stored.name, stored.digest):
            new = Entry(adapter=stored.name, digest=stored.digest, since=now(), by=by)
            write_served(home, file, new, (*file.earlier, before), "promote")
    return serving(settings)


def roll_back(home: Path, by: str, *, settings: Settings | None = None, instead_of: str | None = ANYTHING) -> Serving:
    """Serve again what was served before; what cannot be served any more is passed over, and the history says so.

    `instead_of` as in `promote`: so that who asks twice at once goes back one step.
    Raises `UserError` if nothing was served before, and where nothing can be written.
    """
    settings = _settings(home, settings)
    with locked(home):
        file = read_served(home)
        if instead_of not in (ANYTHING, (until_now := serving(settings)).digest):
            raise ServedMeanwhile(
                f"Meanwhile {until_now.name or 'the base'} is served; look again before you roll back."
            )
        earlier, passed = list(file.earlier), []
        while earlier:
            entry = earlier.pop()
            problem = problem_of(home, entry.adapter, entry.digest, settings.base) if entry.adapter else ""
            if not problem:
                break
            passed.append(f"{entry.adapter} was passed over: {problem}")
        else:
            why = f" ({'; '.join(passed)})" if passed else ""
            raise UserError(f"Nothing was served before that could be rolled back to{why}. Promote an adapter instead.")
        again = entry.model_copy(update={"since": now(), "by": by})
        write_served(home, file, again, tuple(earlier), "roll back", "; ".join(passed))
    return serving(settings)


def _as_set(settings: Settings, file: ServedFile, notice: str = "") -> Serving:
    """What the settings name."""
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
