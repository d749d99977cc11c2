"""`served.json`: which adapter is served and what was before, one writer at a time, never half written.

    with locked(home):
        file = read_or_set_aside(home)
        write_served(home, file, served=entry, earlier=(*file.earlier, file.served), action="promote")

What the file means, and who may write what: `inference.adapters.served`.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inference.adapters.versions import NAME, now
from inference.common.errors import UserError

FILE = "served.json"
MAX_EARLIER = 50
"""Versions that can be rolled back to, one after the other."""
MAX_HISTORY = 200
"""Changes that are remembered."""
_MAX_BYTES = 1_000_000
_LOCK_SECONDS = 60.0
_ONLY_NAME = rf"^{NAME.pattern}$"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_Strict):
    """One adapter's time of being served."""

    adapter: str | None = Field(default=None, pattern=_ONLY_NAME)
    """A version's name; `None` for what the settings name."""
    digest: str | None = None
    """Of its files when it was promoted."""
    since: str | None = None
    by: str | None = None


class Change(_Strict):
    """One line of the history."""

    at: str
    by: str
    action: Literal["promote", "roll back"]
    adapter: str | None
    """What was served from then on; `None` for what the settings name."""
    before: str | None
    """What was served until then."""
    note: str = ""


class ServedFile(_Strict):
    """`served.json`."""

    served: Entry = Entry()
    earlier: tuple[Entry, ...] = ()
    """What a roll back returns to, the last one first in turn."""
    history: tuple[Change, ...] = ()
    """Every promotion and roll back, the newest last."""


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
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        reason = f"{place}: {first['msg']}" if place else first["msg"]
        raise UserError(_broken(path, reason)) from error
    except ValueError as error:
        raise UserError(_broken(path, str(error))) from error


def _broken(path: Path, reason: str) -> str:
    return (
        f"{path} cannot be used ({reason}), so what the settings name is served. Correct it, or promote an adapter: "
        "the file is then kept under another name."
    )


def read_or_set_aside(home: Path) -> ServedFile:
    """A broken file is renamed, with the time in its name, and an empty one begins."""
    try:
        return read_served(home)
    except UserError:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        number, kept = 1, home / f"served.broken-{stamp}.json"
        while kept.exists():
            number += 1
            kept = home / f"served.broken-{stamp}-{number}.json"
        (home / FILE).rename(kept)
        return ServedFile()


def write_served(
    home: Path,
    file: ServedFile,
    served: Entry,
    earlier: tuple[Entry, ...],
    action: Literal["promote", "roll back"],
    note: str = "",
) -> None:
    """The new state: whole, or the old one, at whatever moment the machine stops."""
    bottom, rest = earlier[:1], earlier[1:]  # the first is what the settings name: it is always there to return to
    change = Change(
        at=served.since or now(),
        by=served.by or "",
        action=action,
        adapter=served.adapter,
        before=file.served.adapter,
        note=note,
    )
    new = ServedFile(
        served=served, earlier=bottom + rest[-MAX_EARLIER:], history=(*file.history, change)[-MAX_HISTORY:]
    )
    part = home / f"{FILE}.part"
    with part.open("w", encoding="utf-8") as out:
        out.write(new.model_dump_json(indent=1) + "\n")
        out.flush()
        os.fsync(out.fileno())
    part.replace(home / FILE)
    folder = os.open(home, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """One writer at a time; what the disk refuses becomes words."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with (home / "served.lock").open("a") as file:
            _wait_for(file.fileno(), home)
            yield
    except OSError as error:
        where, what = error.filename or home, error.strerror or error
        raise UserError(
            f"{where}: {what}. What is served stays as it was. Free some space, or give this user the right to write "
            f"in {home}."
        ) from error


def _wait_for(lock: int, home: Path) -> None:
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise UserError(
                    f"Another process has been changing what {home} serves for {_LOCK_SECONDS:.0f} s; "
                    "try again when it is done."
                ) from None
        time.sleep(0.05)
