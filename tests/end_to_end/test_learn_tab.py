"""The Learn tab in a real browser, with the shipped record: replayed, looked through, asked, and promoted from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from inference.common.settings import STARTER
from inference.engine.engine import Engine
from tests.support.browser import LAPTOP, MARKS, PHONE, Visit, browser
from tests.support.samples import random_adapter
from tests.support.serving import ADMIN_TOKEN, Server, serve

__all__ = ["browser"]
pytestmark = MARKS


@pytest.fixture(scope="module")
def server(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("learn") / "home"
    random_adapter(home / "adapters" / "without-record")
    with serve(engine, home, STARTER / "adapter") as running:
        yield running


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Any]:
    opened: list[Visit] = []

    def open_at(address: str = "#/learn", viewport: dict[str, int] = LAPTOP, log_in: bool = False) -> Any:
        opened.append(Visit(browser, server.url, viewport))
        page = opened[-1].page
        if log_in:
            page.request.post(f"{server.url}/admin/login", data={"token": ADMIN_TOKEN}, headers={"origin": server.url})
        page.goto("about:blank")
        page.goto(f"{server.url}/{address}")
        page.wait_for_selector("#lt-learn", state="visible")
        return page

    yield open_at
    for one in opened:
        one.context.close()
    assert [one.errors for one in opened] == [[] for _ in opened]


@pytest.mark.parametrize("viewport", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_the_run_is_replayed_without_a_call_of_the_model(visit: Any, server: Server, viewport: dict[str, int]) -> None:
    with server.steered(error=RuntimeError("the model was called")):
        page = visit(viewport=viewport)
        page.wait_for_selector(".lt-replay", state="visible")
        page.get_by_text("The base: 0 of 6 right").wait_for()
        first = page.locator(".lt-replay-rows > li").first
        before = first.inner_text()
        page.locator(".lt-replay input").press("End")
        page.get_by_text("Step 200: ").wait_for()
        assert first.inner_text() != before and page.locator(".lt-replay-mark").count() == 3
        page.get_by_role("button", name="Play").click()
        page.get_by_text("Step 5: ").wait_for()
        page.get_by_role("button", name="Pause").click()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("location.hash") == "#/learn"


def test_the_gallery_unfolds_to_both_completions(visit: Any) -> None:
    page = visit()
    group = page.locator(".lt-change-group").first
    group.locator("summary").first.click()
    row = group.locator(".lt-change").first
    row.locator("summary").click()
    assert row.locator("h4").all_inner_texts() == ["Base", "After training"]
    assert row.locator(".lt-badge").all_inner_texts() == ["wrong", "right"]
    assert row.locator("img").first.evaluate("image => image.naturalWidth") > 0


def test_one_question_goes_to_every_checkpoint_and_to_every_strength(visit: Any) -> None:
    page = visit()
    page.locator("#learn-steps").click()
    page.get_by_role("alert").get_by_text("There is no picture").wait_for()
    page.locator("#learn-new").click()
    page.wait_for_selector("#learn-picture img")
    for button, names in (
        ("#learn-steps", ["The base", "Step 5", "Step 10", "Step 15", "Step 25", "Step 40", "Step 70", "Step 120"]),
        ("#learn-strengths", ["0 %", "25 %", "50 %", "75 %", "100 %", "125 %", "150 %"]),
    ):
        page.locator(button).click()
        page.locator("#learn-answers th").get_by_text(names[-1], exact=True).wait_for()
        assert page.locator("#learn-answers th").all_inner_texts()[: len(names)] == names


def test_an_adapter_without_a_record_says_how_to_make_one(visit: Any) -> None:
    page = visit("#/learn/without-record", log_in=True)
    page.get_by_text("python -m training learn RUN").wait_for()
    page.locator("#learn-new").click()
    page.wait_for_selector("#learn-picture img")
    page.locator("#learn-steps").click()
    page.get_by_text("are no longer on this machine").wait_for()


def test_the_owner_alone_may_promote_the_best_strength(visit: Any, server: Server) -> None:
    visitor = visit()
    visitor.wait_for_selector(".lt-replay", state="visible")
    assert visitor.locator("#learn-promote").count() == 0
    page = visit(log_in=True)
    page.locator("#learn-promote").click()
    page.wait_for_function("document.querySelector('.lt-facts').innerText.includes('-at-')")
    assert server.service.offer.serving.by == "admin"
    shutil.rmtree(server.settings.home / "adapters", ignore_errors=True)


@pytest.mark.parametrize("viewport", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_an_answer_is_probed_under_it(browser: Any, server: Server, viewport: dict[str, int]) -> None:
    visit = Visit(browser, server.url, viewport)
    page = visit.page
    assert page.locator("#ask-probes").count() == 0, "there is no answer yet"
    page.locator("#ask-examples button").first.click()
    page.wait_for_selector("#ask-probes", state="visible")
    page.locator("#probe-thought").click()
    page.locator("#probe-found").get_by_text("the thought with one number changed").wait_for()
    page.locator("#probe-look").click()
    page.wait_for_selector("#probe-found .lt-maps img")
    assert page.locator(".lt-cells").first.locator("i").count() == 16
    page.locator("#probe-votes").click()
    page.wait_for_selector("#probe-found .lt-votes")
    votes = page.locator(".lt-votes li span:last-child").all_inner_texts()
    assert sum(int(text.split()[0]) for text in votes) == 8
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("#ask-picture [aria-label='Remove Image'], #ask-picture [title='Clear']").first.click()
    page.wait_for_selector("#ask-probes", state="hidden")
    visit.context.close()
    assert visit.errors == []
