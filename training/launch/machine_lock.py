"""The lock of the machine: held by one run in the background alone, or shared by runs that were begun by hand.

    with by_hand(home):            # `python -m training train`: refused while a run in the background is at work
    with alone(home, stop):        # a run in the background: waits until nobody trains by hand

Both lock the file `<home>/machine.lock` with `flock`, which ends with the process, however it ends. Runs begun by hand
share it, since each may have a card of its own; `filelock` has no shared locks on files.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from inference.common.errors import UserError
from training.pipeline.signals import Stop

LOCK = "machine.lock"
_LOOK_SECONDS = 0.5


@contextmanager
def by_hand(home: Path) -> Iterator[None]:
    """Holds the shared lock for a run begun by hand. Raises `UserError` while a run in the background is at work.

    A home that cannot be written has no runs in the background, so nothing is locked there.
    """
    file = _opened(home)
    if file is None:
        yield
        return
    with file:
        if not _take(file, fcntl.LOCK_SH):
            raise UserError(
                f"a run in the background is at work on this machine, in {home / 'runs'}; wait for it to end or cancel "
                "it (`python -m training runs`), or queue this one behind it (`python -m training start`)"
            )
        yield


@contextmanager
def alone(home: Path, stop: Stop, waits: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds the lock for a run in the background; calls `waits` once if it must wait.

    Raises `StopRequested` if a stop is requested while it waits.
    """
    file = _opened(home)
    assert file is not None, "the records of the run are in this folder"
    with file:
        if not _take(file, fcntl.LOCK_EX):
            waits()
            while not _take(file, fcntl.LOCK_EX):
                stop.check()
                time.sleep(_LOOK_SECONDS)
        yield


def is_taken(home: Path) -> bool:
    """True while any run trains."""
    file = _opened(home)
    if file is None:
        return False
    with file:
        return not _take(file, fcntl.LOCK_EX)


def _opened(home: Path) -> IO[str] | None:
    with suppress(OSError):
        home.mkdir(parents=True, exist_ok=True)
        return (home / LOCK).open("a")
    return None


def _take(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
