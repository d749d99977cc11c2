"""The app as a newcomer starts it: seconds until the page is there, and until it has answered."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from gradio_client import Client, handle_file

from tests.benchmarks.table import Measurement
from tests.support.samples import problems

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 180


def measure() -> Iterator[Measurement]:
    """Starts `python app.py` twice: the first time fills the disk cache."""
    page, answer = min(_start() for _ in range(2))
    yield Measurement("page ready", f"{page:.1f} s", "at most 15 s", "from command to loaded page, second start")
    yield Measurement("first answer", f"{answer:.1f} s", "", "from the command to the end of a first /ask")


def _start() -> tuple[float, float]:
    """Seconds to the page and to the first answer."""
    with tempfile.TemporaryDirectory() as home, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        env = os.environ | {"LOOKTHINK_HOME": home, "LOOKTHINK_BASE": "starter", "GRADIO_SERVER_PORT": str(port)}
        started = time.perf_counter()
        app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(url, app)
            page = time.perf_counter() - started
            problem = problems(1)[0]
            picture = Path(home) / "picture.png"
            problem.image.save(picture)
            Client(url, verbose=False).predict(handle_file(str(picture)), problem.problem, api_name="/ask")
            return page, time.perf_counter() - started
        finally:
            app.terminate()
            app.wait()


def _wait_for(url: str, app: subprocess.Popen) -> None:
    deadline = time.perf_counter() + WAIT_SECONDS
    while time.perf_counter() < deadline and app.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as page:
                page.read()
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"the app did not serve a page within {WAIT_SECONDS} s (exit status {app.poll()})")
