"""One process that does mathematics, as the pool (`training.grading.math_pool`) sees it: start, ask, kill."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from training.grading.math_worker import TAKEN

NO_TIME = "comparing took too long"
BROKEN = "comparing broke the process that did it"
GONE = "the process that compares had ended"

STARVED = 10.0
"""So much longer than its CPU time a comparison may take on the clock, where others have the cores."""
_CPU_TICK_SECONDS = 0.02
"""As finely as a system counts CPU time, or nearly."""
_SECRET = re.compile("TOKEN|SECRET|PASSWORD|KEY")
"""Names of environment variables that the process which reads untrusted formulas does without."""
_ROOT = Path(__file__).resolve().parents[2]


class MathProcess:
    """A process of `training.grading.math_worker` and a thread that reads its replies; raises `OSError` if it cannot start."""

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
        left, is_taken = limit_seconds, False
        while (reply := self.reply(min(left, end - time.monotonic()))) in (NO_TIME, TAKEN):
            if reply == TAKEN:
                is_taken = True
                continue
            left = limit_seconds - (self.cpu_seconds() - spent)
            if left <= _CPU_TICK_SECONDS or time.monotonic() >= end:
                return NO_TIME
        # A process that dies holds its end of the pipe until its last thread is gone: written is not read.
        return GONE if reply == BROKEN and not is_taken else reply

    def cpu_seconds(self) -> float:
        """What the worker has computed so far."""
        try:
            times = self._system.cpu_times()
        except psutil.Error:  # it has ended, and its last reply tells how
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
