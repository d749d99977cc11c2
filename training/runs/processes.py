"""Identities of processes, which hold through a reused pid, a zombie, a reboot and a changed clock.

    >>> is_alive(own_identity())
    True

Times are seconds since the machine was started, so that changing the clock does not matter. And commands of the project
as processes that the page starts: their memory ends with them, and the page goes on.

process = start_command(["audit", "--dataset", "bars"], settings.home, log)     # `python -m training audit …`
progress_words(log_tail(log))                                                  # "reading rows: 40 of 100, 0:05 left"
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from inference.common.environment import MARK, hide_secrets, plain_environment
from inference.common.files import Json

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_OWN_CGROUPS, _CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_VM_COUNTERS = Path("/proc/vmstat")
NICENESS = 5
"""Priority below the app's own: a visitor comes first, and beside a run that takes every core it still goes on."""
_ROOT = Path(__file__).parents[2]
_PROGRESS = re.compile(r"^([a-z][a-z ]+):\s+\d+%\|[^|]*\|\s*(\d+)/(\d+) \[[\d:]+<([\d:?]+)", re.MULTILINE)
"""A line of our own from `tqdm`, as libraries begin theirs with a capital: work, rows done, rows in all, time left."""
_TAIL_BYTES = 8_000


@dataclass(frozen=True)
class Identity:
    """A process; no other one ever has all three values."""

    pid: int
    created: float
    """Seconds from the machine's start to the process's."""
    boot_id: str

    @classmethod
    def from_json(cls, values: Json | None) -> Identity | None:
        """The identity that `dataclasses.asdict` made plain; `None` for other values."""
        if values is None:
            return None
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
    """The name of this boot of the machine, and of the container, whose first process began with it."""
    try:
        machine = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        machine = str(round(psutil.boot_time()))
    try:
        return f"{machine} {_created(psutil.Process(1)):.2f}"
    except (psutil.Error, OSError):  # other users' processes are hidden here
        return machine


def identity_of(pid: int) -> Identity | None:
    """The identity of a running process; `None` for one that is dead or a zombie."""
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        return Identity(pid, _created(process), boot_id())
    except (psutil.NoSuchProcess, ProcessLookupError, ValueError):  # the last: not a possible pid
        return None


def own_identity() -> Identity:
    """The identity of this process."""
    identity = identity_of(os.getpid())
    assert identity is not None, "this process is alive"
    return identity


def is_alive(identity: Identity | None) -> bool:
    """True if exactly this process is running."""
    if identity is None or identity.boot_id != boot_id():
        return False
    now = identity_of(identity.pid)
    return now is not None and abs(now.created - identity.created) < 0.05


def send(identity: Identity, number: signal.Signals) -> bool:
    """Sends a signal to the process group that the process leads; false if the process is gone."""
    if not is_alive(identity):
        return False
    try:
        os.killpg(identity.pid, number)
    except ProcessLookupError:
        return False
    return True


def marked(launch: str) -> list[psutil.Process]:
    """All processes of one start of a run but this one: the trainer, its children, and theirs."""
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _mark_of(process) == launch]


def kill_marked(launch: str, seconds: float = 10.0) -> bool:
    """Kills all processes of one start of a run; false if some are left after `seconds`."""
    end = time.monotonic() + seconds
    while processes := marked(launch):
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                process.kill()
        time.sleep(0.02)  # psutil's own wait would take exit statuses from those who need them
        if time.monotonic() > end:
            return not marked(launch)
    return True


def memory_kills() -> int | None:
    """The number of processes that the kernel has killed for want of memory, of this container or else the machine.

    `None` where the kernel does not count: another system than Linux. See cgroup-v2.rst and memcg-v1's `oom_control`.
    """
    for path in (*_memory_counters(), _VM_COUNTERS):
        with contextlib.suppress(OSError, ValueError):
            counts = dict(line.split() for line in path.read_text(encoding="ascii").splitlines())
            if "oom_kill" in counts:
                return int(counts["oom_kill"])
    return None


def memory_used(identity: Identity | None) -> list[float] | None:
    """Bytes that a process and its children have in memory, and those of the machine; `None` where it is not alive."""
    if identity is None or not is_alive(identity):
        return None
    try:
        process = psutil.Process(identity.pid)
        used = sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))
    except psutil.Error:  # it has just ended
        return None
    return [float(used), float(psutil.virtual_memory().total)]


def signal_name(number: int) -> str:
    """The name of a signal, as in `SIGKILL`; its number where it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _memory_counters() -> list[Path]:
    """The files in which this process's cgroup may count; within a container its own is the root."""
    try:
        lines = _OWN_CGROUPS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found += [_CGROUPS / place / "memory.events" for place in (path.strip("/"), ".")]
        elif "memory" in controllers.split(","):
            found += [_CGROUPS / "memory" / place / "memory.oom_control" for place in (path.strip("/"), ".")]
    return found


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):  # ended, a zombie, or another user's
        return None


def _created(process: psutil.Process) -> float:
    """The creation time; from `/proc` where it exists, since psutil's value moves with the clock."""
    try:
        text = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            raise psutil.NoSuchProcess(process.pid) from None
        return process.create_time() - psutil.boot_time()
    return int(text.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def start_command(words: Sequence[str], home: Path, log: Path) -> subprocess.Popen[bytes]:
    """Starts `python -m training WORDS` without secrets in its environment; what it says on stderr goes to `log`.

    Raises `OSError` where it cannot be started.
    """
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "training", *words],
            cwd=_ROOT,
            env=plain_environment(os.environ) | {"LOOKTHINK_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
        )
    psutil.Process(process.pid).nice(min(19, psutil.Process().nice() + NICENESS))
    return process


def log_tail(log: Path) -> str:
    """The end of what a command has said, without secrets; "" where there is nothing."""
    try:
        with log.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
            file.seek(start)
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    text = text.replace("\r", "\n")
    return hide_secrets(text.partition("\n")[2] if start else text)  # without a line whose beginning is cut off


def progress_words(text: str) -> str:
    """The work of a command that is under way, from the lines of `tqdm` among what it has said."""
    steps = _PROGRESS.findall(text)
    if not steps:
        return "the libraries are being loaded"
    work, done, total, left = steps[-1]
    words = f"{work}: {int(done):,} of {int(total):,}"
    return words if "?" in left or done == total else f"{words}, {left.removeprefix('0')} left"
