"""One process that does mathematics, as the pool (`training.grading_pool`) sees it: start, ask, kill."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import subprocess
import sys
import threading
from pathlib import Path

NO_TIME = "comparing took too long"
BROKEN = "comparing broke the process that did it"
GONE = "the process that compares had ended"

_SECRET = re.compile("TOKEN|SECRET|PASSWORD|KEY")
"""Names of environment variables that the process which reads untrusted formulas does without."""
_ROOT = Path(__file__).resolve().parent.parent


class MathProcess:
    """A process of `training.math_worker` and a thread that reads its replies; raises `OSError` if it cannot start."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "training.math_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=_ROOT,
            env={name: value for name, value in os.environ.items() if not _SECRET.search(name)},
            start_new_session=True,  # a signal to this process's group must not fail what is being graded
        )
        self._replies: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="grading-replies", daemon=True).start()

    def ask(self, question: list[str], limit_seconds: float) -> str:
        """The worker's reply, `NO_TIME`, `BROKEN`, or `GONE` where it was dead before it could read the question."""
        assert self.process.stdin
        try:
            self.process.stdin.write(json.dumps(question).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            return GONE
        return self.reply(limit_seconds)

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
