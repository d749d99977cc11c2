"""`python app.py` as a process of its own, for tests of how it starts, ends and what it takes."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx

from tests import ROOT
from tests.support.serving import WAIT_SECONDS

START_SECONDS = 4 * WAIT_SECONDS


class Process:
    """`python app.py`, and what it has written so far."""

    def __init__(self, home: Path, folder: Path = ROOT, **more: str) -> None:
        """`folder` has the code, and `more` goes into its environment."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        env = os.environ | {"LOOKTHINK_HOME": str(home), "LOOKTHINK_BASE": "starter", "LOOKTHINK_LOG": "json"}
        env |= {"GRADIO_SERVER_PORT": str(self.port)} | more
        self.url = f"http://127.0.0.1:{self.port}"
        self.lines: list[str] = []
        self.popen = subprocess.Popen(
            [sys.executable, "app.py"], cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.lines.append(line)

    def wait_for(self, pattern: str) -> re.Match[str]:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.popen.poll() is None:
            for line in list(self.lines):
                if found := re.search(pattern, line):
                    return found
            time.sleep(0.05)
        raise AssertionError(f"no {pattern} in {self.lines}")

    def health(self) -> dict[str, object]:
        return httpx.get(f"{self.url}/healthz", timeout=WAIT_SECONDS).json()

    def resident_mb(self) -> float:
        """Its memory, in megabytes."""
        pages = int(Path(f"/proc/{self.popen.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def wait_ready(self) -> None:
        self.wait_for(r"\bserving\b")
        until = time.monotonic() + START_SECONDS
        while self.health()["status"] != "ready":
            assert time.monotonic() < until
            time.sleep(0.1)
