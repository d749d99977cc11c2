"""A real browser on the real app, for the tests of the page: fixtures to import, and a watched visit.

Needs Debian's Chromium (`/usr/bin/chromium`, or what CHROMIUM names).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.engine.engine import Engine
from tests.support.samples import random_adapter
from tests.support.serving import WAIT_SECONDS, Server, serve

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).is_file(), reason=f"no Chromium at {CHROMIUM}: install Debian's chromium"),
]
"""For `pytestmark` of a module that browses."""
ENDED = ("done", "cut-off")
RUNNING = ("thinking", "answering")
"""A completion that is kept from ending may close its thought, and open another."""
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LAPTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
VIEWPORTS = [pytest.param(LAPTOP, id="laptop"), pytest.param(PHONE, id="phone", marks=pytest.mark.matrix)]
SCHEMES = ["light", pytest.param("dark", marks=pytest.mark.matrix)]
"""For a test that is the same at each: `make test` takes the first, `make check-page` the other."""


@pytest.fixture(scope="module")
def server(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    with serve(engine, folder / "home", random_adapter(folder / "test-adapter")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield running
        running.close()


class Visit:
    """One open page, watched: no error in its console, no request to another host."""

    def __init__(self, browser: Any, url: str, viewport: dict[str, int], scheme: str = "light", **options: Any) -> None:
        """`options` are Playwright's for a context."""
        self.url = url
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce", **options)
        self.context.set_default_timeout(WAIT_SECONDS * 1000)
        self.page = self.context.new_page()
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self._note(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note_line)
        self.page.goto(url)
        self.page.wait_for_selector("#ask-panel .lt-hint")
        self.page.wait_for_selector(".lt-ready[data-ready=true]")

    def _note(self, url: str) -> None:
        if not url.startswith((self.url, "data:", "blob:")):
            self.outside.append(url)

    def _note_line(self, line: Any) -> None:
        if line.type == "error":
            self.errors.append(f"{line.text} ({line.location['url']})")

    def take_example(self, index: int = 0, tab: str = "ask") -> None:
        """Fill the inputs with an example; the answer to it, which comes by itself, is stopped and counts no more."""
        question = self.page.locator(f"#{tab}-question textarea")
        before = question.input_value()
        self.page.locator(f"#{tab}-examples button").nth(index).click()
        self.page.wait_for_function(
            f"document.querySelector('#{tab}-question textarea').value !== {before!r}", timeout=WAIT_SECONDS * 1000
        )
        self.page.wait_for_selector(f"#{tab}-picture img")
        panel = "ask-panel" if tab == "ask" else "compare-tuned"
        self.wait_state(*RUNNING, *ENDED, panel=panel)
        stop = self.page.locator(f"#{tab}-stop")
        if stop.is_enabled():
            stop.evaluate("button => button.click()")
        self.wait_state("stopped", *ENDED, panel=panel)
        self.page.wait_for_function(f"!document.querySelector('#{tab}-run').disabled")
        self.mark_old()

    def mark_old(self) -> None:
        """`wait_state` takes no notice of the states that are there now."""
        self.page.evaluate("document.querySelectorAll('.lt-status').forEach((one) => { one.dataset.old = ''; })")

    def open_more(self, tab: str = "ask") -> None:
        if not self.page.locator(f"#{tab}-length").is_visible():
            self.page.locator(f"#{tab}-more > button").click()

    def set_length(self, tokens: int, tab: str = "ask") -> None:
        self.open_more(tab)
        field = self.page.locator(f"#{tab}-length input[type=number]")
        slider = self.page.locator(f"#{tab}-length input[type=range]")
        for _ in range(100):  # on a busy machine an update of the page that was under way can undo what was typed
            field.fill(str(tokens))
            field.press("Tab")
            self.page.wait_for_timeout(300)
            if field.input_value() == slider.input_value() == str(tokens):
                return
        raise AssertionError(f"the length stays at {slider.input_value()}, not {tokens}")

    @contextlib.contextmanager
    def endless(self, server: Server, length: int = 1024) -> Iterator[None]:
        """For the length of a block: an example is asked, and its thought runs to `length` tokens."""
        self.take_example()
        self.set_length(length)
        with server.steered(prefix="<think>First", is_endless=True):
            self.page.click("#ask-run")
            yield

    def press_run(self, tab: str = "ask") -> None:
        """Run without scrolling; again if the page was still busy with the end of the run before."""
        from playwright.sync_api import TimeoutError

        for _ in range(20):
            try:
                with self.page.expect_request("**/queue/join*", timeout=2000):
                    self.page.evaluate(f"document.querySelector('#{tab}-run').click()")
                return
            except TimeoutError:
                continue
        raise AssertionError(f"#{tab}-run starts nothing")

    def wait_state(self, *states: str, panel: str = "ask-panel") -> str:
        wanted = ", ".join(f"#{panel} .lt-status[data-state={state}]:not([data-old])" for state in states)
        self.page.wait_for_selector(wanted, state="attached")
        return self.page.locator(f"#{panel} .lt-status").get_attribute("data-state")

    def wait_notes(self, words: str) -> None:
        self.page.locator("#ask-panel .lt-notes").get_by_text(words).wait_for()

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Any]:
    opened: list[Visit] = []

    def open_page(viewport: dict[str, int] = LAPTOP, scheme: str = "light") -> Visit:
        opened.append(Visit(browser, server.url, viewport, scheme))
        return opened[-1]

    yield open_page
    for one in opened:
        one.context.close()
    assert [one.outside for one in opened] == [[] for _ in opened], "the page asked another host for something"
    errors = [error for one in opened for error in one.errors]
    assert not errors, f"the console has errors: {errors}"
