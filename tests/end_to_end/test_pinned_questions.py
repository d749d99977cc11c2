"""Pinned questions in a real browser: pinned, asked when an adapter is promoted, and on its card after a reload."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.common.settings import STARTER
from inference.engine.engine import Engine
from tests.support.browser import LAPTOP, MARKS, PHONE, Visit, browser
from tests.support.samples import problems, random_adapter
from tests.support.serving import ADMIN_TOKEN, Server, serve

__all__ = ["browser"]
pytestmark = MARKS
SHOTS = os.environ.get("LOOKTHINK_SHOTS")
HOSTILE = '<img src="x" onerror="window.struck = 1">'


@pytest.fixture(scope="module")
def app(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("pinned") / "home"
    random_adapter(home / "adapters" / "broken", strength=3.0)
    with serve(engine, home, STARTER / "adapter") as running:
        yield running


def open_adapters(visit: Visit) -> Any:
    page = visit.page
    page.request.post(f"{visit.url}/admin/login", data={"token": ADMIN_TOKEN}, headers={"origin": visit.url})
    page.goto("about:blank")
    page.goto(f"{visit.url}/#/train/adapters")
    page.wait_for_selector("#lt-adapters .lt-version", state="visible")
    return page


def shoot(page: Any, name: str) -> None:
    if SHOTS:
        page.wait_for_timeout(400)
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


def test_questions_are_pinned_and_asked_with_a_promotion(browser: Any, app: Server, tmp_path: Path) -> None:
    visit = Visit(browser, app.url, LAPTOP)
    page = open_adapters(visit)
    page.locator("#adapters-pinned > button").click()
    page.locator("#pinned-list").get_by_text("None yet").wait_for()
    asked = [(one.image, one.problem, one.answer) for one in problems(3, seed=3)]
    asked.append((asked[0][0], HOSTILE, "4"))
    for number, (image, question, gold) in enumerate(asked, 1):
        image.save(tmp_path / f"{number}.png")
        page.locator("#pinned-picture input[type=file]").set_input_files(tmp_path / f"{number}.png")
        page.wait_for_selector("#pinned-picture img")
        page.locator("#pinned-question textarea").fill(question)
        page.locator("#pinned-gold :is(input, textarea)").fill(gold)
        page.locator("#pinned-add").click()
        page.locator("#pinned-list").get_by_text(f"{number} of at most 24").wait_for()
        page.wait_for_function("!document.querySelector('#pinned-question textarea').value")
    assert page.locator("#pinned-list li img").count() == 4 and HOSTILE in page.locator("#pinned-list").inner_text()
    shoot(page, "pinned-list")
    page.locator(".lt-version", has_text="broken").get_by_role("button", name="Promote").click()
    page.locator("#adapters-served h2").get_by_text("broken").wait_for()
    found = page.locator("#adapters-found")
    found.get_by_text("of 4 broke").wait_for()
    assert int(found.locator("b").first.inner_text().split()[0]) >= 2
    assert found.locator("tbody tr").count() == 4 and HOSTILE in found.inner_text()
    assert "Before: starter-adapter" in found.inner_text()
    assert page.get_by_role("button", name="Roll back to starter-adapter").is_visible()
    shoot(page, "pinned-laptop-light")
    page.reload()
    card = page.locator(".lt-version", has_text="Served now")
    card.get_by_text("Pinned questions: ").click()
    assert card.locator(".lt-pinned-table tbody tr").count() == 4
    page.get_by_role("button", name="Roll back to starter-adapter").click()
    page.locator("#adapters-served h2").get_by_text("starter-adapter").wait_for()
    with app.steered(error=RuntimeError("the engine broke")):
        page.locator(".lt-version", has_text="broken-").get_by_role("button", name="Promote").click()
        page.locator("#adapters-found").get_by_text("Something broke on our side").wait_for()
    assert "broken" in page.locator("#adapters-served h2").inner_text(), "the promotion stands"
    page.locator("#adapters-pinned > button").click()
    page.locator("#pinned-list").get_by_role("button", name="Remove").last.click()
    page.locator("#pinned-list").get_by_text("3 of at most 24").wait_for()
    page.get_by_role("button", name="Roll back to starter-adapter").click()
    page.locator("#adapters-served h2").get_by_text("starter-adapter").wait_for()
    assert page.evaluate("window.struck") is None
    visit.context.close()
    assert visit.errors == [] and visit.outside == []


def test_the_card_asks_again_on_a_phone_in_the_dark(browser: Any, app: Server) -> None:
    from axe_playwright_python.sync_playwright import Axe

    visit = Visit(browser, app.url, PHONE, "dark")
    page = open_adapters(visit)
    page.evaluate("document.body.classList.add('dark')")
    card = page.locator(".lt-version", has_text="Served now")
    card.get_by_text("Name, visitors and files").click()
    card.get_by_role("button", name="Ask the pinned questions").click()
    page.locator("#adapters-found").get_by_text("0 of 3 broke").wait_for()
    page.locator("#adapters-pinned > button").click()
    page.wait_for_selector("#pinned-list li", state="visible")
    violations = Axe().run(page, context="#lt-adapters").response["violations"]
    assert not violations, [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in violations]
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    shoot(page, "pinned-phone-dark")
    visit.context.close()
    assert visit.errors == []
