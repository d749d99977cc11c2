"""Pinned questions in a real browser: pinned, asked when an adapter is promoted, and on its card after a reload."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.adapters.served import roll_back
from inference.common.settings import STARTER
from inference.engine.engine import Engine
from tests.support.browser import LAPTOP, MARKS, PHONE, Visit, browser
from tests.support.samples import problems, random_adapter
from tests.support.serving import ADMIN_TOKEN, Server, serve
from training.learn.pinned import PinnedQuestions

__all__ = ["browser"]
pytestmark = MARKS
SHOTS = os.environ.get("LOOKTHINK_SHOTS")
HOSTILE = '<img src="x" onerror="window.struck = 1">'


@pytest.fixture(scope="module")
def app(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("pinned") / "home"
    random_adapter(home / "adapters" / "broken")  # a stronger one never ends its completions
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
    first, *others = [(one.image, one.problem, one.answer) for one in problems(3, seed=3)]
    for number, (image, question, gold) in ((1, first), (4, (first[0], HOSTILE, "4"))):
        image.save(tmp_path / f"{number}.png")
        page.locator("#pinned-picture input[type=file]").set_input_files(tmp_path / f"{number}.png")
        page.wait_for_selector("#pinned-picture img")
        page.locator("#pinned-question textarea").fill(question)
        page.locator("#pinned-gold :is(input, textarea)").fill(gold)
        page.locator("#pinned-add").click()
        page.locator("#pinned-list").get_by_text(f"{number} of at most 24").wait_for()
        page.wait_for_function("!document.querySelector('#pinned-question textarea').value")
        while others:
            PinnedQuestions(app.settings.home).add(*others.pop(0))
    assert page.locator("#pinned-list li img").count() == 4 and HOSTILE in page.locator("#pinned-list").inner_text()
    shoot(page, "pinned-list")
    page.locator(".lt-version", has_text="broken").get_by_role("button", name="Promote").click()
    page.locator("#adapters-served h2").get_by_text("broken").wait_for()
    found = page.locator("#adapters-found")
    found.get_by_text("of 4 broke").wait_for()
    assert int(found.locator("b").first.inner_text().split()[0]) >= 2
    rows = found.locator(".lt-pinned-table").first.locator("tbody tr")
    assert rows.count() == 4 and HOSTILE in found.inner_text()
    assert rows.first.inner_text().startswith("broke") and rows.last.inner_text().startswith("same")
    assert "Answer of starter-adapter" in found.inner_text()
    found.locator("tbody tr", has_text="It calculates without a picture").get_by_text("24", exact=True).wait_for()
    assert page.get_by_role("button", name="Roll back to starter-adapter").is_visible()
    shoot(page, "pinned-laptop-light")
    page.reload()
    card = page.locator(".lt-version", has_text="Served now")
    card.get_by_text("Pinned questions: ").click()
    assert card.locator(".lt-pinned-table").first.locator("tbody tr").count() == 4
    page.get_by_role("button", name="Roll back to starter-adapter").click()
    page.locator("#adapters-served h2").get_by_text("starter-adapter").wait_for()
    with app.steered(error=RuntimeError("the engine broke")):
        page.locator(".lt-version", has_text="broken-").get_by_role("button", name="Promote").click()
        page.locator("#adapters-found").get_by_text("Something broke on our side").wait_for()
    assert "broken" in page.locator("#adapters-served h2").inner_text(), "the promotion stands"
    page.locator("#adapters-pinned > button").click()
    page.locator("#pinned-list").get_by_role("button", name="Remove").last.click()
    page.locator("#pinned-list").get_by_text("3 of at most 24").wait_for()
    roll_back(app.settings.home, "another owner", settings=app.settings)
    page.get_by_role("button", name="Roll back to starter-adapter").click()
    page.get_by_text("there is nothing left to return to. Look again.").wait_for()
    page.locator("#adapters-served h2").get_by_text("starter-adapter").wait_for()
    assert page.evaluate("window.struck") is None
    visit.context.close()
    assert visit.errors == [] and visit.outside == []


def test_the_owner_pins_an_answered_question_and_visitors_cannot(browser: Any, app: Server) -> None:
    visitor, owner = Visit(browser, app.url, LAPTOP), Visit(browser, app.url, LAPTOP)
    owner.page.request.post(f"{app.url}/admin/login", data={"token": ADMIN_TOKEN}, headers={"origin": app.url})
    pinned = PinnedQuestions(app.settings.home)
    before = pinned.all()
    for visit, is_owner in ((visitor, False), (owner, True)):
        page = visit.page
        page.goto(app.url)
        page.locator("#ask-examples button").first.click()
        page.locator("#ask-probes h2", has_text="Does the thought matter?").wait_for()
        assert page.locator("#ask-pin").is_visible() == is_owner
    gold = page.locator("#ask-pin-gold :is(input, textarea)")
    assert gold.input_value() == app.service.examples[0].expected
    shoot(page, "pin-laptop")
    gold.fill("")
    page.locator("#ask-pin-button").click()
    page.get_by_text("There is no right answer.").wait_for()
    gold.fill("7")
    page.locator("#ask-question textarea").fill("Another question?")
    page.locator("#ask-pin-button").click()
    page.locator("#ask-pin-said").get_by_text(f"Pinned: {len(before) + 1} of at most 24.").wait_for()
    new = pinned.all()[-1]
    assert (new.question, new.gold) == (app.service.examples[0].question, "7"), "as it was asked"
    pinned.remove(new.key)
    for visit in (visitor, owner):
        visit.context.close()
        assert visit.errors == []


def test_the_card_asks_again_on_a_phone_in_the_dark(browser: Any, app: Server) -> None:
    from axe_playwright_python.sync_playwright import Axe

    visit = Visit(browser, app.url, PHONE, "dark")
    page = open_adapters(visit)
    page.evaluate("document.body.classList.add('dark')")
    card = page.locator(".lt-version", has_text="Served now")
    card.get_by_text("Name, visitors and files").click()
    card.get_by_role("button", name="Ask the pinned questions").click()
    found = page.locator("#adapters-found")
    found.get_by_text("0 of 3 broke").wait_for()
    first = found.locator("tbody td").first.bounding_box()
    assert first and first["x"] + first["width"] <= PHONE["width"], "the change is on the screen"
    page.locator("#adapters-pinned > button").click()
    page.wait_for_selector("#pinned-list li", state="visible")
    violations = Axe().run(page, context="#lt-adapters").response["violations"]
    assert not violations, [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in violations]
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    shoot(page, "pinned-phone-dark")
    visit.context.close()
    assert visit.errors == []
