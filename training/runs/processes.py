"""Which process is which: identities that survive a reused pid, a zombie, a reboot and a clock that is set.

    >>> is_alive(own_identity())
    True

Times are seconds since the machine was started, which no setting of the clock changes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from inference.common.environment import MARK

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Identity:
    """A process: no other one, before or after, has all three."""

    pid: int
    created: float
    """Seconds from the machine's start to the process's."""
    boot_id: str

    @classmethod
    def from_json(cls, values: Any) -> Identity | None:
        """What `dataclasses.asdict` made of one; `None` if it is none."""
        try:
            return cls(int(values["pid"]), float(values["created"]), str(values["boot_id"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            return None


def boot_seconds() -> float:
    """Seconds since the machine was started, sleep included."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - psutil.boot_time()


def boot_id() -> str:
    """Names this start of the machine, and of the container in it: its first process began with it."""
    try:
        machine = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        machine = str(round(psutil.boot_time()))
    try:
        return f"{machine} {_created(psutil.Process(1)):.2f}"
    except (psutil.Error, OSError):  # a machine that shows nobody another's processes
        return machine


def identity_of(pid: int) -> Identity | None:
    """The identity of a process that runs; `None` for one that is dead or a zombie."""
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        return Identity(pid, _created(process), boot_id())
    except (psutil.NoSuchProcess, ProcessLookupError, ValueError):  # the last: no pid can be that number
        return None


def own_identity() -> Identity:
    """This process's."""
    found = identity_of(os.getpid())
    assert found is not None, "the process that asks is alive"
    return found


def is_alive(identity: Identity | None) -> bool:
    """True if this very process runs now."""
    if identity is None or identity.boot_id != boot_id():
        return False
    found = identity_of(identity.pid)
    return found is not None and abs(found.created - identity.created) < 0.05


def send(identity: Identity, number: signal.Signals) -> bool:
    """Send a signal to the group that the process leads; false if the process is gone."""
    if not is_alive(identity):
        return False
    try:
        os.killpg(identity.pid, number)
    except ProcessLookupError:
        return False
    return True


def marked(launch: str) -> list[psutil.Process]:
    """Every process of one start of a run, this one excepted: the trainer, its children, and theirs."""
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _mark_of(process) == launch]


def kill_marked(launch: str, seconds: float = 10.0) -> bool:
    """SIGKILL every process of one start of a run until none is left; false if some outlast the wait."""
    end = time.monotonic() + seconds
    while found := marked(launch):
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                process.kill()
        time.sleep(0.02)  # psutil's own waiting would take exit statuses that others wait for
        if time.monotonic() > end:
            return not marked(launch)
    return True


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):  # gone, a zombie, or another user's
        return None


def _created(process: psutil.Process) -> float:
    """From `/proc` where there is one: psutil's own value moves with the clock."""
    try:
        text = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            raise psutil.NoSuchProcess(process.pid) from None
        return process.create_time() - psutil.boot_time()
    return int(text.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
