"""math-verify in a process of its own, which is killed when a comparison takes too long.

    >>> math_equal("2\\\\sqrt{3}", "\\\\sqrt{12}")
    True

math-verify's own time limits work on a process's main thread only, and some inputs (`9^{9^{9}}`) outlast them. So one
worker process compares, one pair at a time, whichever thread asks; run as a module, this file is that worker.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

TIME_LIMIT_SECONDS = 5.0
"""Wall-clock limit of one comparison; then the worker is killed and the pair counts as different."""
START_LIMIT_SECONDS = 120.0
"""Wall-clock limit of starting the worker."""
MEMORY_LIMIT_BYTES = 2 * 1024**3
"""Address space of the worker."""
_INNER_LIMIT_SECONDS = 2
_ROOT = Path(__file__).resolve().parent.parent


class MathTimeout(Exception):
    """A comparison ran into a limit (time or memory)."""


@functools.lru_cache(maxsize=10_000)
def math_equal(gold: str, answer: str) -> bool:
    """True if the two are the same mathematics (LaTeX or plain, without dollar signs).

    Raises `MathTimeout` if the comparison was cut off; `RuntimeError` if the worker cannot start.
    """
    return _worker.ask(gold, answer)


class _Worker:
    """Starts the worker when first asked, and again after a kill or a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def ask(self, gold: str, answer: str) -> bool:
        with self._lock:
            process = self._running()
            reply = self._exchange(process, json.dumps([gold, answer]), TIME_LIMIT_SECONDS)
            if reply not in ("true", "false"):
                self._drop()
                raise MathTimeout(f"comparing took over {TIME_LIMIT_SECONDS:g} s or {MEMORY_LIMIT_BYTES >> 20} MiB")
            return reply == "true"

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _running(self) -> subprocess.Popen[str]:
        if self._process and self._owner == os.getpid() and self._process.poll() is None:
            return self._process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "training.math_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=_ROOT,
            text=True,
        )
        self._owner = os.getpid()
        if self._exchange(self._process, "", START_LIMIT_SECONDS) != "ready":
            self._drop()
            raise RuntimeError("the grading worker did not start: `python -m training.math_worker` shows why")
        return self._process

    @staticmethod
    def _exchange(process: subprocess.Popen[str], message: str, limit_seconds: float) -> str:
        """Send a line if there is one; the worker's line, or "" if it died or was killed at the limit."""
        assert process.stdin and process.stdout
        timer = threading.Timer(limit_seconds, process.kill)
        timer.daemon = True
        timer.start()
        try:
            if message:
                process.stdin.write(message + "\n")
                process.stdin.flush()
            return process.stdout.readline().strip()
        except BrokenPipeError:
            return ""
        finally:
            timer.cancel()

    def _drop(self) -> None:
        if self._process and self._owner == os.getpid():
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
        self._process = None


_worker = _Worker()
atexit.register(_worker.close)


def _compare(gold: str, answer: str) -> bool:
    """The comparison itself, inside the worker."""
    from math_verify import parse, verify

    try:
        wanted, given = (parse(f"${text}$", parsing_timeout=_INNER_LIMIT_SECONDS) for text in (gold, answer))
        return bool(wanted and given and verify(wanted, given, timeout_seconds=_INNER_LIMIT_SECONDS))
    except MemoryError:
        raise
    except Exception:  # model output can be anything, and sympy raises nearly anything on it
        return False


def main() -> None:
    """Answer each line `[gold, answer]` on standard input with `true` or `false`, until it ends."""
    import logging

    import math_verify  # noqa: F401  the slow import comes before "ready", outside the time limit

    with contextlib.suppress(ImportError, ValueError, OSError):  # no resource module on Windows; macOS may refuse
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    logging.disable(logging.CRITICAL)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(_compare(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
