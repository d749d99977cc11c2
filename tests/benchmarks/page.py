"""The app as a newcomer starts it: seconds until the page is there, until it has answered, and of a first visit."""

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
from tests.support.browser import CHROMIUM, FLAGS, LAPTOP
from tests.support.samples import problems

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 180
SLOW_LINE = {"offline": False, "latency": 150, "downloadThroughput": 1.6e6 / 8, "uploadThroughput": 0.75e6 / 8}
"""Milliseconds and bytes a second, as Chromium takes them."""


def measure() -> Iterator[Measurement]:
    """Starts `python app.py` twice: the first time fills the disk cache."""
    page, answer, (kilobytes, seconds) = min(_start() for _ in range(2))
    yield Measurement("page ready", f"{page:.1f} s", "at most 15 s", "from command to loaded page, second start")
    yield Measurement("first answer", f"{answer:.1f} s", "", "from the command to the end of a first /ask")
    if kilobytes:
        line = "empty cache, 1.6 Mbit/s, 150 ms"
        yield Measurement("first visit", f"{kilobytes:.0f} kB", "at most 450 kB", line)
        yield Measurement("page drawn", f"{seconds:.1f} s", "", line)


def first_visit(url: str) -> tuple[float, float]:
    """Kilobytes that a browser with an empty cache loads over a slow line, and the seconds until the page is drawn."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport=LAPTOP)
        session, sizes = page.context.new_cdp_session(page), []
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", SLOW_LINE)
        session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
        started = time.perf_counter()
        page.goto(url, wait_until="commit")
        page.wait_for_selector("#ask-examples button", timeout=WAIT_SECONDS * 1000)
        seconds = time.perf_counter() - started
        page.wait_for_timeout(4_000)  # what comes after the page is drawn counts too
        browser.close()
    return sum(sizes) / 1e3, seconds


def _start() -> tuple[float, float, tuple[float, float]]:
    """Seconds to the page and to the first answer, and `first_visit`, which is (0, 0) without a browser."""
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
            answer = time.perf_counter() - started
            return page, answer, first_visit(url) if Path(CHROMIUM).is_file() else (0.0, 0.0)
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
