"""`python -m tests.support.screenshot [FOLDER]`: asks the shipped starter, and writes the pictures of the documents.

`compare.png` is Compare, `learn.png` the replay under Learn, `probes.png` an answer with a probe under it, each in the
folder, by default `docs`. Needs Debian's Chromium.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests import ROOT
from tests.support.app_process import Process
from tests.support.browser import CHROMIUM, ENDED, FLAGS, Visit

LAPTOP = {"width": 1280, "height": 800}
EXAMPLE = 0
"""The example that is asked: the first, a sum of handwritten digits."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.screenshot", description="Pictures of the page.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        app = Process(Path(home))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        try:
            app.wait_for('"serving"')
            app.wait_ready()
            for name, shoot in {"compare": compare, "learn": learn, "probes": probes}.items():
                shoot(Visit(browser, app.url, LAPTOP), folder / f"{name}.png")
                print(f"{folder / name}.png written")
        finally:
            browser.close()
            app.popen.terminate()
            app.popen.wait(60)


def compare(visit: Visit, file: Path) -> None:
    visit.page.get_by_role("tab", name="Compare").click()
    visit.take_example(EXAMPLE, tab="compare")
    visit.page.click("#compare-run")
    for side in ("base", "tuned"):
        visit.wait_state(*ENDED, panel=f"compare-{side}")
    visit.page.wait_for_function("document.querySelector('#compare-words').innerText.trim().endsWith('.')")
    visit.page.screenshot(path=file)


def learn(visit: Visit, file: Path) -> None:
    visit.page.get_by_role("tab", name="Learn").click()
    visit.page.wait_for_selector(".lt-replay", state="visible")
    visit.page.locator(".lt-replay input").fill("2")
    visit.page.locator(".lt-replay").screenshot(path=file)


def probes(visit: Visit, file: Path) -> None:
    visit.page.locator("#ask-examples button").nth(EXAMPLE).click()
    visit.page.locator("#ask-probe-look").click()
    visit.page.wait_for_selector("#ask-probe-found .lt-maps")
    visit.page.locator(".lt-right").first.screenshot(path=file)


if __name__ == "__main__":
    main()
