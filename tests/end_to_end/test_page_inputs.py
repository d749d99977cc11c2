"""The inputs in a real browser: what runs goes with its picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from inference.model.request import Request
from tests.support.browser import ENDED, MARKS, RUNNING, browser, server, visit
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
        page.page.click("#ask-new")
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


COLOURS = ("red", "lime", "blue", "yellow", "cyan", "magenta", "white", "black", "gray")


def test_several_pictures_are_asked_about_in_the_order_that_is_shown(
    visit: Any, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are added and taken away one by one, Compare has the same ones, and a number too many stays out."""
    asked: list[Request] = []
    steered = server.engine._steered
    monkeypatch.setattr(server.engine, "_steered", lambda row: asked.append(row) or steered(row))
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (56 + 28 * number, 56), colour).save(tmp_path / f"{number}.png")
    page, [first, *others] = visit(), [str(tmp_path / f"{number}.png") for number in range(len(COLOURS))]

    def add(*files: str) -> None:
        page.page.set_input_files("#ask-gallery input[type=file]", files)

    def wait_number(number: int, tab: str = "ask") -> None:
        page.page.wait_for_function(f"document.querySelectorAll('#{tab}-gallery .gallery-item').length === {number}")

    page.page.set_input_files("#ask-picture input[type=file]", first)
    page.page.wait_for_selector("#ask-picture img")
    page.page.locator("#ask-others > button").click()
    page.page.wait_for_selector("#ask-gallery input[type=file]", state="attached")
    add(others[2], others[0])
    wait_number(2)
    add(others[3])
    wait_number(3)
    page.page.locator("#ask-gallery .delete-button").first.click()
    wait_number(2)
    page.set_length(1)
    page.page.fill("#ask-question textarea", "Which is the widest?")
    page.page.click("#ask-run")
    page.wait_state(*ENDED)
    [row] = asked
    assert [image.width for image in (row.image, *row.more_images)] == [56, 84, 168]

    page.page.get_by_role("tab", name="Compare").click()
    wait_number(2, "compare")
    page.page.locator("#compare-gallery img").last.wait_for(state="visible")
    page.page.get_by_role("tab", name="Ask").click()
    page.page.click("#ask-run")
    page.wait_state(*ENDED)
    add(*others[4:], others[1], others[2])
    page.page.get_by_text("There are 9 pictures; a question may have at most 8. Leave some out.").first.wait_for()
    wait_number(7)
    page.wait_state("idle")
    page.page.click("#ask-run")
    page.wait_state(*ENDED)
    page.page.locator("#ask-gallery .delete-button").first.click()
    page.wait_state("idle")
