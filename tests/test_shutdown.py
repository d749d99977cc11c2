"""The app as a process of its own: what it prints and logs, logging in to it, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving import WAIT_SECONDS

ROOT = Path(__file__).parents[1]
START_SECONDS = 4 * WAIT_SECONDS
END_SECONDS = 8
"""SIGTERM to exit; a container is killed after ten."""


class Process:
    """`python app.py`, and what it has written so far."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        env = os.environ | {"LOOKTHINK_HOME": str(home), "LOOKTHINK_BASE": "starter", "LOOKTHINK_LOG": "json"}
        env |= {"GRADIO_SERVER_PORT": str(self.port)}
        self.url = f"http://127.0.0.1:{self.port}"
        self.lines: list[str] = []
        self.popen = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
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

    def wait_ready(self) -> None:
        until = time.monotonic() + START_SECONDS
        while self.health()["status"] != "ready":
            assert time.monotonic() < until
            time.sleep(0.1)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    running = Process(tmp_path / "home")
    yield running
    running.popen.kill()
    running.popen.wait()


@pytest.mark.slow
def test_the_app_starts_admits_its_owner_and_ends(process: Process) -> None:
    token = process.wait_for(r"Admin token, for the Train tab: (\S+)")[1]
    assert process.health()["status"] in ("loading", "ready")
    process.wait_ready()
    here = {"origin": process.url}
    refused = httpx.post(f"{process.url}/admin/login", json={"token": "not the token"}, headers=here)
    assert refused.status_code == 403
    assert httpx.post(f"{process.url}/admin/login", json={"token": token}, headers=here).status_code == 200

    told: list[str] = []
    listens = threading.Event()
    asking = threading.Thread(target=lambda: told.append(_ask_at_length(process.url, listens)))
    asking.start()
    assert listens.wait(WAIT_SECONDS) and process.health()["answering"] and not told
    begun = time.monotonic()
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(WAIT_SECONDS) == 0
    assert time.monotonic() - begun < END_SECONDS
    asking.join(WAIT_SECONDS)
    assert "being restarted; ask again" in told[0]

    text = "".join(process.lines)
    assert text.count(token) == 1 and "127.0.0.1" not in text.replace(process.url, "")
    logged = [json.loads(line) for line in process.lines if line.startswith("{")]
    assert {"serving", "admin_log_in_refused", "admin_logged_in", "question_ended", "stopping", "stopped"} <= {
        line.get("event") for line in logged
    }
    assert "count everything" not in text


def _ask_at_length(url: str, listens: threading.Event) -> str:
    """Many questions that together take long; what the stream of the last one said."""
    with httpx.Client(base_url=f"{url}/gradio_api", timeout=WAIT_SECONDS) as http:
        picture = (ROOT / "inference" / "starter" / "rewards.png").read_bytes()
        [path] = http.post("/upload", files={"files": ("p.png", picture)}).json()
        data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, "count everything", None, "base", 1024, 2.0, 0]
        events = [http.post("/call/ask", json={"data": data}).json()["event_id"] for _ in range(8)]
        with http.stream("GET", f"/call/ask/{events[-1]}") as answer:
            listens.set()
            return answer.read().decode()
