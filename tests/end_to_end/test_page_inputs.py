"""The inputs in a real browser: what runs goes with its picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.browser import MARKS, RUNNING, browser, server, visit
from tests.support.serving import Server

__all__ = ["browser", "server", "visit"]
pytestmark = MARKS


def test_a_new_picture_ends_what_runs_and_another_tab_does_not(visit: Any, server: Server) -> None:
    page = visit()
    with page.endless(server):
        page.wait_state(*RUNNING)
        page.page.get_by_role("tab", name="Compare").click()
        page.page.wait_for_selector("#compare-picture img")
        page.page.get_by_role("tab", name="Ask").click()
        page.page.wait_for_timeout(600)
        # a fast machine may have come to the length limit by now
        assert page.wait_state("thinking", "answering", "cut-off", "idle", "stopped") not in ("idle", "stopped")
        page.take_example(1)
        page.wait_state("idle")
    assert page.page.locator("#ask-run").is_enabled() and page.page.locator("#ask-stop").is_disabled()


def test_an_own_picture_takes_away_what_was_expected_of_another(visit: Any, tmp_path: Path) -> None:
    page = visit()
    page.take_example()
    page.open_more()
    expected = page.page.locator("#ask-expected textarea, #ask-expected input").first
    assert expected.input_value()
    Image.new("RGB", (64, 64), "red").save(tmp_path / "own.png")
    clear = "#ask-picture button[aria-label=Clear], #ask-picture button[aria-label='Remove Image']"
    page.page.locator(clear).first.click()
    page.page.locator("#ask-picture input[type=file]").first.set_input_files(tmp_path / "own.png")
    page.page.wait_for_selector("#ask-picture img")
    page.page.wait_for_function(
        "[...document.querySelectorAll('#ask-expected textarea, #ask-expected input')].every(field => !field.value)"
    )
