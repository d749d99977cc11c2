"""Sharing an answer in a real browser: the licence first, the address in another browser, deletion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from inference.engine.engine import Engine
from inference.server.shares import UNKNOWN
from tests.support.browser import LAPTOP, MARKS, Visit, browser
from tests.support.samples import random_adapter
from tests.support.serving import ADAPTER, Server, serve

__all__ = ["browser"]
pytestmark = MARKS
PLAIN = "<think>Look.</think> <answer>24</answer>"


@pytest.fixture(scope="module")
def server(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("share")
    with serve(engine, folder / "home", random_adapter(folder / ADAPTER), sharing=True) as running:
        yield running


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Any]:
    """A page of a new browser at an address; another host, or an error in its console, fails the test."""
    opened: list[Visit] = []

    def open_page(address: str = "") -> Visit:
        opened.append(Visit(browser, server.url, LAPTOP))
        if address:
            opened[-1].page.goto(address)
        return opened[-1]

    yield open_page
    for one in opened:
        one.context.close()
    assert [(one.outside, one.errors) for one in opened] == [([], [])] * len(opened)


def answered(page: Visit, server: Server) -> None:
    page.open_more()
    page.page.get_by_label("Seed").fill("7")
    page.page.locator("#ask-adapter input").click()
    page.page.get_by_role("option", name="Base alone").click()
    with server.steered(prefix=PLAIN):
        page.page.locator("#ask-examples button").nth(1).click()  # which asks
        page.wait_state("done", "cut-off")


def address_of(page: Visit) -> str:
    """Share the answer on the page."""
    page.page.click("#ask-share-button")
    page.page.wait_for_selector(".lt-share [data-share-act=make]")
    assert "under apache-2.0" in page.text(".lt-share") and "at most 30 days" in page.text(".lt-share")
    page.page.click(".lt-share [data-share-act=make]")
    page.page.wait_for_function("document.querySelector('.lt-share input')?.value.includes('?share=')")
    return str(page.page.locator(".lt-share input").input_value())


@pytest.mark.slow
def test_an_answer_is_shared_opened_elsewhere_and_deleted_by_its_visitor(visit: Any, server: Server) -> None:
    one = visit()
    answered(one, server)
    one.page.reload()  # the history of this browser brings the answer back with what lets it be shared
    one.page.click("#ask-history .lt-kept")
    address = address_of(one)
    assert list(server.service.shares.folder.glob("*/share.json"))
    other = visit(address)
    other.page.wait_for_selector("#ask-panel .lt-shared")
    assert "asked of starter alone." in other.text("#ask-panel .lt-shared")
    assert other.text("#ask-panel .lt-short") == "24" and other.text("#ask-panel .lt-thinking .md").strip() == "Look."
    asked = "#ask-question textarea"
    assert other.page.locator(asked).input_value() == one.page.locator(asked).input_value()
    other.page.wait_for_selector("#ask-picture img")
    other.open_more()
    assert other.page.get_by_label("Seed").input_value() == "7"
    assert other.page.locator("#ask-adapter input").input_value() == "Base alone"
    assert other.page.locator("[data-share-act=delete]").count() == 0, "this browser has no key"
    one.page.goto(address)
    one.page.click("#ask-panel .lt-shared [data-share-act=delete]")
    one.page.wait_for_selector(".lt-share[data-deleted]")
    one.page.wait_for_function("!location.search && !document.querySelector('[data-share-act=delete]')")
    assert not list(server.service.shares.folder.glob("*/"))
    other.page.goto(address)
    other.page.wait_for_selector("#ask-panel [role=alert]")
    assert other.text("#ask-panel [role=alert]") == UNKNOWN


def test_an_address_of_a_share_is_closed_to_search_engines(server: Server) -> None:
    for query, is_closed in (("?share=x", True), ("?share", True), ("", False), ("?shared=x", False)):
        response = httpx.get(f"{server.url}/{query}")
        assert (response.headers.get("x-robots-tag") == "noindex") is is_closed
        assert ('<meta name="robots" content="noindex">' in response.text) is is_closed
