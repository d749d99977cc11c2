"""Every view at every size, by day and by night: `make check-page`.

No rule of axe is broken but those that a bare Gradio page breaks, nothing is written to the console, nothing is wider
than the screen, and nothing jumps. LOOKTHINK_SHOTS names a folder for the screenshots.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.adapters.record import LEARN_FOLDER
from inference.common.settings import STARTER
from inference.engine.engine import Engine
from tests.end_to_end.test_page_looks import gradios_own, violations
from tests.end_to_end.test_watch_tab import log_in
from tests.support.browser import ENDED, LAPTOP, MARKS, PHONE, Visit, browser
from tests.support.run_folders import finished_run
from tests.support.samples import perturbed_adapter
from tests.support.serving import Server, serve

__all__ = ["browser", "gradios_own"]
pytestmark = [*MARKS, pytest.mark.matrix]
SHOTS = os.environ.get("LOOKTHINK_SHOTS")
SIZES = {
    "desk": {"width": 1440, "height": 900},
    "laptop": LAPTOP,
    "small laptop": {"width": 1280, "height": 720},
    "tablet": {"width": 820, "height": 1180},
    "phone": PHONE,
}
MAX_SHIFT = 0.05
"""Of the layout, over the life of a view; changes within half a second of a click do not count."""
SHIFTS = """new PerformanceObserver((list) => list.getEntries().forEach((entry) => {
  if (!entry.hadRecentInput) window.shift = (window.shift ?? 0) + entry.value;
})).observe({ type: 'layout-shift', buffered: true });"""


@pytest.fixture(scope="module")
def app(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("matrix")
    finished_run(folder / "home" / "runs" / "night", rewards=True)
    adapter = perturbed_adapter(folder / "first")
    shutil.copytree(STARTER / "adapter" / LEARN_FOLDER, adapter / LEARN_FOLDER)
    with serve(engine, folder / "home", adapter) as running:
        yield running


def ask(visit: Visit) -> None:
    """Empty, with the recorded answer."""


def answered(visit: Visit) -> None:
    visit.page.locator("#ask-examples button").nth(1).click()
    visit.wait_state(*ENDED)


def compare(visit: Visit) -> None:
    visit.page.get_by_role("tab", name="Compare").click()
    visit.page.locator("#compare-examples button").nth(1).click()
    visit.wait_state(*ENDED, panel="compare-base")
    visit.wait_state(*ENDED, panel="compare-tuned")


def probed(visit: Visit) -> None:
    answered(visit)
    visit.page.locator("#ask-probe-look").click()
    visit.page.locator("#ask-probe-found .lt-maps").wait_for()


def learn(visit: Visit) -> None:
    visit.page.get_by_role("tab", name="Learn").click()
    visit.page.locator(".lt-replay").wait_for()


def about(visit: Visit) -> None:
    visit.page.get_by_role("tab", name="About").click()
    visit.page.locator(".lt-about h2").first.wait_for()


def login(visit: Visit) -> None:
    visit.page.get_by_role("tab", name="Train").click()
    visit.page.locator("#train-token").wait_for()


def section(name: str, ready: str) -> Callable[[Visit], None]:
    def open_section(visit: Visit) -> None:
        log_in(visit)
        tabs = visit.page.locator("#train-tabs")
        if (tab := tabs.get_by_role("tab", name=name, exact=True)).is_visible():
            tab.click()
        else:  # on a phone some are in a menu
            tabs.locator(".overflow-menu > button").first.click()
            tabs.locator(".overflow-dropdown button", has_text=name).first.click()
        visit.page.locator(ready).first.wait_for()

    return open_section


VIEWS: dict[str, Callable[[Visit], None]] = {
    "ask": ask,
    "answered": answered,
    "probed": probed,
    "compare": compare,
    "learn": learn,
    "about": about,
    "login": login,
    "start": section("Start", "#train-estimate dl"),
    "data": section("Data", "#lt-data"),
    "watch": section("Watch", "#watch-status .lt-result"),
    "rewards": section("Rewards", "#rewards-status p"),
    "runs": section("Runs", "#train-runs tbody tr"),
    "adapters": section("Adapters", ".lt-version"),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("view", VIEWS)
def test_a_view(browser: Any, app: Server, gradios_own: set[str], view: str, size: str, scheme: str) -> None:
    visit = Visit(browser, app.url, SIZES[size], scheme)
    try:
        visit.page.evaluate(SHIFTS)
        VIEWS[view](visit)
        visit.page.wait_for_timeout(700)
        if SHOTS:
            visit.page.screenshot(path=Path(SHOTS) / f"{view}-{size.replace(' ', '-')}-{scheme}.png", full_page=True)
        broken = violations(visit.page)
        assert broken.keys() <= gradios_own, broken
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
        assert visit.page.evaluate("window.shift ?? 0") < MAX_SHIFT
        assert visit.errors == [] and visit.outside == []
    finally:
        visit.context.close()
