"""Pool of processes that do the grader's mathematics, each killed and replaced when a comparison runs too long.

    >>> math_equal("2\\\\sqrt{3}", "\\\\sqrt{12}")
    True

math-verify's own time limits work on a process's main thread only, and some inputs (`9^{9^{9}}`) outlast them. Here any
thread may ask, also after a fork. Two processes start with the first question, more (up to one for each CPU, at most
eight) when all are busy; they end with this process, however it ends.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from training.grading import math_worker
from training.grading.math_worker import TAKEN

TIME_LIMIT_SECONDS = 2.0
"""Limit of the mathematics of one grading, in CPU time of the worker (`MathProcess.ask`)."""
START_LIMIT_SECONDS = 300.0
"""Wall-clock limit of starting a worker: a second or two, but not on a machine that does much else."""
MAX_REMEMBERED = 20_000
RETRY_SECONDS = 60.0
"""A comparison that was cut off is tried again only after this: the same completion comes to several rewards."""


class MathLimit(Exception):
    """A comparison ran into a limit; the message says which, in words a user may read."""


class Unreadable(MathLimit):
    """A formula is none that math-verify can read."""


class NotGraded(MathLimit):
    """The machine, not the formulas, kept a comparison from a verdict: a worker was stopped, or killed from outside."""


class Budget:
    """The seconds that the comparisons of one grading may take together."""

    def __init__(self, seconds: float = TIME_LIMIT_SECONDS) -> None:
        self.left_seconds = seconds


def math_equal(gold: str, answer: str, relation: str = "equal", budget: Budget | None = None) -> bool:
    """True if `relation` (see `math_worker.compare`) holds between two formulas, without dollar signs.

    The wait for a free worker does not count in `budget`. Raises `MathLimit` if the comparison was cut off,
    `NotGraded` if the machine kept it from a verdict, `Unreadable` if a formula cannot be read, and `RuntimeError` if
    no worker can start.
    """
    question = (gold, answer, relation)
    reply, until = _remembered.get(question, ("", 0.0))
    if until <= time.monotonic():
        reply = _the_pool().ask(list(question), budget or Budget())
        if len(_remembered) >= MAX_REMEMBERED:
            _remembered.clear()
        _remembered[question] = reply, math.inf if reply in math_worker.VERDICTS else time.monotonic() + RETRY_SECONDS
    if reply in (math_worker.NO_GOLD, math_worker.NO_ANSWER):
        raise Unreadable(reply)
    if reply in (STOPPED, KILLED):
        raise NotGraded(reply)
    if reply not in (math_worker.YES, math_worker.NO):
        raise MathLimit(reply)
    return reply == math_worker.YES


def num_workers() -> int:
    """The number of workers that the pool may have: one for each CPU of this process, at least 2, at most 8."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, min(8, cpus))


class Pool:
    """Workers that are free, busy or starting. `ask` may be called from any thread."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._changed = threading.Condition()
        self._free: list[MathProcess] = []
        self._all: set[MathProcess] = set()
        self._starting = 0
        self._failure = ""
        self._is_closed = False

    def ask(self, question: list[str], budget: Budget) -> str:
        """The reply of a free worker; `NO_TIME` or another reason if there was none, and then a new worker starts."""
        if budget.left_seconds <= 0:
            return NO_TIME
        for _ in range(MAX_ATTEMPTS):
            worker = self._take()
            spent = worker.cpu_seconds()
            reply = worker.ask(question, budget.left_seconds)
            budget.left_seconds -= budget.left_seconds if reply == NO_TIME else max(0.0, worker.cpu_seconds() - spent)
            with self._changed:
                if reply in math_worker.VERDICTS:
                    self._free.append(worker)
                    self._changed.notify()
                    return reply
                self._all.discard(worker)
                self._start_one()
            was_killed = reply == BROKEN and worker.exit_signal() == signal.SIGKILL
            worker.kill()
            if was_killed:
                reply = KILLED
            if reply not in (GONE, KILLED):  # else the question is not to blame, and another worker is asked
                return reply
        return KILLED

    def process_ids(self) -> list[int]:
        """The workers that are alive now."""
        with self._changed:
            return sorted(worker.process.pid for worker in self._all if worker.is_alive())

    def close(self) -> None:
        """Kill every worker; one that is still starting ends by itself."""
        with self._changed:
            self._is_closed = True
            workers = list(self._all)
            self._changed.notify_all()
        for worker in workers:
            worker.kill()

    def _take(self) -> MathProcess:
        with self._changed:
            while True:
                while self._free:
                    worker = self._free.pop()
                    if worker.is_alive():
                        return worker
                    self._all.discard(worker)
                if self._is_closed or (self._failure and not self._all and not self._starting):
                    failure, self._failure = self._failure or "the pool is closed", ""
                    raise RuntimeError(
                        f"no grading worker ({failure}): `python -m training.grading.math_worker` shows why"
                    )
                num_new = 2 if not self._all and not self._starting else 1
                for _ in range(num_new):
                    self._start_one()
                self._changed.wait()

    def _start_one(self) -> None:
        """Start a worker in the background, if there may be one more; the lock is held."""
        if not self._is_closed and len(self._all) + self._starting < self.size:
            self._starting += 1
            threading.Thread(target=self._start, name="grading-start", daemon=True).start()

    def _start(self) -> None:
        worker, failure = None, "starting it failed"
        try:
            worker = MathProcess()
            reply = worker.reply(START_LIMIT_SECONDS)
            failure = "" if reply == math_worker.YES else reply
        except OSError as error:
            failure = str(error)
        finally:
            self._enlist(worker, failure)

    def _enlist(self, worker: MathProcess | None, failure: str) -> None:
        """Add a worker that is ready, or note why there is none, and wake those who wait."""
        with self._changed:
            self._starting -= 1
            if worker and not failure and not self._is_closed:
                self._all.add(worker)
                self._free.append(worker)
                worker = None
            else:
                self._failure = failure or self._failure
            self._changed.notify_all()
        if worker:
            worker.kill()


_lock = threading.Lock()
_pool: Pool | None = None
_remembered: dict[tuple[str, str, str], tuple[str, float]] = {}
"""Replies, and until when (on the monotonic clock) each holds."""
_inherited: list[Pool] = []


def _the_pool() -> Pool:
    """This process's pool, made when first asked for."""
    global _pool
    with _lock:
        if _pool is None:
            _pool = Pool(num_workers())
        return _pool


def _close() -> None:
    if _pool:
        _pool.close()


def _forget() -> None:
    """In a forked child: leave the parent's workers to the parent; keep the objects, so that no pipe is closed."""
    global _pool, _lock
    if _pool:
        _inherited.append(_pool)
    _pool, _lock = None, threading.Lock()


atexit.register(_close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


NO_TIME = "comparing took too long"
STOPPED = "not graded: the process that compares got no time"
KILLED = "not graded: the process that compares was killed"
MAX_ATTEMPTS = 4
"""Workers that are asked one question, where each is killed from outside."""
BROKEN = "comparing broke the process that did it"
GONE = "the process that compares had ended"

STARVED = 10.0
"""Wall-clock limit of a comparison, as a multiple of its CPU limit: other processes may hold the cores."""
_CPU_TICK_SECONDS = 0.02
"""Resolution of a system's count of CPU time, roughly."""
_SECRET = re.compile("TOKEN|SECRET|PASSWORD|KEY")
"""Environment variables that are not passed to the process that reads untrusted formulas."""
_ROOT = Path(__file__).resolve().parents[2]


class MathProcess:
    """A `training.grading.math_worker` process and a thread that reads its replies; `OSError` if it cannot start."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "training.grading.math_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=_ROOT,
            env={name: value for name, value in os.environ.items() if not _SECRET.search(name)},
            start_new_session=True,  # a signal to this process's group must not fail what is being graded
        )
        self._system = psutil.Process(self.process.pid)
        self._replies: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="grading-replies", daemon=True).start()

    def ask(self, question: list[str], limit_seconds: float) -> str:
        """The worker's reply, `NO_TIME`, `BROKEN`, or `GONE` where it was dead before it had read the question.

        The limit is on the worker's own CPU time, so that a verdict does not hang on what else the machine does;
        `STARVED` times as much may go by on the clock.
        """
        assert self.process.stdin
        try:
            self.process.stdin.write(json.dumps(question).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            return GONE
        end, spent = time.monotonic() + STARVED * limit_seconds, self.cpu_seconds()
        left_seconds, is_taken = limit_seconds, False
        while (reply := self.reply(min(left_seconds, end - time.monotonic()))) in (NO_TIME, TAKEN):
            if reply == TAKEN:
                is_taken = True
                continue
            left_seconds = limit_seconds - (self.cpu_seconds() - spent)
            if left_seconds <= _CPU_TICK_SECONDS:
                return NO_TIME
            if time.monotonic() >= end:
                return STOPPED
        # A dying process holds its end of the pipe until its last thread ends, so a successful write proves nothing.
        return GONE if reply == BROKEN and not is_taken else reply

    def cpu_seconds(self) -> float:
        """CPU time that the worker has used so far."""
        try:
            times = self._system.cpu_times()
        except psutil.Error:  # it has ended; its last reply tells how
            return 0.0
        return times.user + times.system

    def reply(self, limit_seconds: float) -> str:
        """The next reply, waited for at most this long."""
        try:
            return self._replies.get(timeout=max(0.0, limit_seconds))
        except queue.Empty:
            return NO_TIME

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def exit_signal(self) -> int:
        """The signal that ended the process, waited for briefly; 0 if it runs, or ended by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(0.5)
        return max(0, -(self.process.returncode or 0))

    def kill(self) -> None:
        """End the process, whatever it does, and wait until it has."""
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):  # a process that is killed may leave half a line
                    self._replies.put(json.loads(line))
        self._replies.put(BROKEN)
