"""`python -m tests.support.screenshot`: asks the shipped starter in Compare, and writes README's picture of the page.

    python -m tests.support.screenshot docs/compare.png

Needs Debian's Chromium.
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
    parser = argparse.ArgumentParser(prog="python -m tests.support.screenshot", description="README's picture.")
    parser.add_argument("file", nargs="?", type=Path, default=ROOT / "docs" / "compare.png")
    file = parser.parse_args().file
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        app = Process(Path(home))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        try:
            app.wait_for('"serving"')
            app.wait_ready()
            visit = Visit(browser, app.url, LAPTOP)
            visit.page.get_by_role("tab", name="Compare").click()
            visit.take_example(EXAMPLE, tab="compare")
            visit.page.click("#compare-run")
            for side in ("base", "tuned"):
                visit.wait_state(*ENDED, panel=f"compare-{side}")
            visit.page.wait_for_function("document.querySelector('#compare-words').innerText.trim().endsWith('.')")
            visit.page.screenshot(path=file)
        finally:
            browser.close()
            app.popen.terminate()
            app.popen.wait(60)
    print(f"{file} written")


if __name__ == "__main__":
    main()
