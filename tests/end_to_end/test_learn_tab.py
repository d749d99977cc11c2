"""The Learn tab in a real browser, with the shipped record: replayed, looked through, asked, and promoted from."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

from inference.adapters.record import LEARN_FOLDER
from inference.adapters.served import promote, roll_back
from inference.common.settings import STARTER
from inference.engine.engine import Engine
from tests.support.browser import LAPTOP, MARKS, VIEWPORTS, Visit, browser
from tests.support.samples import problems, random_adapter
from tests.support.serving import ADMIN_TOKEN, Server, serve
from training.learn.pinned import PinnedQuestions
from training.learn.record import REPLAY

__all__ = ["browser"]
pytestmark = MARKS


@pytest.fixture(scope="module")
def server(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("learn") / "home"
    random_adapter(home / "adapters" / "without-record")
    with serve(engine, home, STARTER / "adapter") as running:
        yield running


def wait_idle(server: Server, seconds: float = 60) -> None:
    """Until the queue has no request any more."""
    ends, queue = time.monotonic() + seconds, server.service.queue
    while queue.is_answering or queue.num_waiting:
        assert time.monotonic() < ends, "requests go on"
        time.sleep(0.05)


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


@pytest.mark.parametrize("viewport", VIEWPORTS)
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


def test_another_record_is_played_by_its_own_steps(visit: Any, server: Server) -> None:
    """One with a single checkpoint, after one with eight, and back."""
    short = server.settings.home / "adapters" / "short-record"
    shutil.copytree(STARTER / "adapter", short)
    path = short / LEARN_FOLDER / REPLAY
    replay = json.loads(path.read_text(encoding="utf-8"))
    rows = [row | {"sides": row["sides"][::8]} for row in replay["rows"]]
    path.write_text(json.dumps({"steps": replay["steps"][::8], "rows": rows}), encoding="utf-8")
    server.service.adapters.look()
    page = visit(log_in=True)
    page.wait_for_selector(".lt-replay", state="visible")
    for name, last, at in (
        ("short-record", "1", "Step 200"),
        ("", "8", "Step 5"),
        ("short-record", "1", "Step 200"),
    ):
        page.evaluate(f"location.hash = '#/learn/{name}'")
        page.wait_for_function(f"document.querySelector('.lt-replay input').max === '{last}'")
        page.get_by_text("The base: ").wait_for()
        page.get_by_role("button", name="Play").click()
        page.locator(".lt-replay-bar span[data-at]", has_text=f"{at}: ").wait_for()
        page.wait_for_timeout(1600)  # longer than a checkpoint is shown
        assert page.locator(".lt-replay-bar span[data-at]:not([hidden])").count() == 1
        if last == "1":
            page.get_by_role("button", name="Play").wait_for()
        else:
            page.get_by_role("button", name="Pause").click()
    shutil.rmtree(short)


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
    page.get_by_text("No checkpoints of this adapter's run are on this machine").wait_for()


def test_the_owner_alone_may_promote_the_best_strength(visit: Any, server: Server) -> None:
    visitor = visit()
    visitor.wait_for_selector(".lt-replay", state="visible")
    assert visitor.locator("#learn-promote").count() == 0
    pinned = PinnedQuestions(server.settings.home)
    pinned.add(problems(1)[0].image, problems(1)[0].problem, problems(1)[0].answer)
    page = visit(log_in=True)
    page.locator("#learn-promote").click()
    page.wait_for_function("document.querySelector('.lt-facts').innerText.includes('-at-')")
    assert server.service.offer.serving.by == "admin"
    page.locator("#learn-told").get_by_text("of 1 broke").wait_for()
    record = page.locator("#learn-record")
    record.get_by_text("This adapter is starter-adapter at 75 % of its strength").wait_for()
    assert page.locator("#learn-promote").count() == 0, "no copy is made of a copy"
    record.get_by_role("row", name="75 % (this adapter)").wait_for()
    page.locator("#learn-new").click()
    page.wait_for_selector("#learn-picture img")
    page.locator("#learn-steps").click()
    page.get_by_role("alert").get_by_text("Choose starter-adapter, whose run it comes from").wait_for()
    record.get_by_role("link", name="starter-adapter").click()
    page.wait_for_selector(".lt-replay", state="visible")
    assert page.evaluate("location.hash") == "#/learn/starter-adapter"
    roll_back(server.settings.home, "admin", settings=server.settings)
    server.service.adapters.look()
    shutil.rmtree(server.settings.home / "adapters", ignore_errors=True)


@pytest.mark.parametrize("viewport", VIEWPORTS)
def test_an_answer_is_probed_under_it(browser: Any, server: Server, viewport: dict[str, int]) -> None:
    visit = Visit(browser, server.url, viewport)
    page = visit.page
    assert page.locator("#ask-probes").count() == 0, "there is no answer yet"
    page.locator("#ask-examples button").first.click()
    page.wait_for_selector("#ask-probes", state="visible")
    page.locator("#ask-probe-thought").click()
    page.locator("#ask-probe-found").get_by_text("the thought with one number changed").wait_for()
    page.locator("#ask-probe-look").click()
    page.wait_for_selector("#ask-probe-found .lt-maps img")
    assert page.locator(".lt-cells").first.locator("i").count() == 16
    page.locator("#ask-probe-votes").click()
    page.wait_for_selector("#ask-probe-found .lt-votes")
    votes = page.locator(".lt-votes li span:last-child").all_inner_texts()
    assert sum(int(text.split()[0]) for text in votes) == 8
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("#ask-picture [aria-label='Remove Image'], #ask-picture [title='Clear']").first.click()
    page.wait_for_selector("#ask-probes", state="hidden")
    visit.context.close()
    assert visit.errors == []


def answered(browser: Any, server: Server, index: int = 0) -> Visit:
    """A page with an answer to an example, and its probes."""
    visit = Visit(browser, server.url, LAPTOP)
    visit.page.locator("#ask-examples button").nth(index).click()
    visit.page.wait_for_selector("#ask-probes", state="visible")
    return visit


def test_an_answer_of_the_history_ends_the_probe_of_another(browser: Any, server: Server) -> None:
    visit = answered(browser, server)
    page = visit.page
    page.wait_for_selector("#ask-history .lt-kept")
    with server.steered(is_endless=True):
        page.locator("#ask-probe-votes").click()
        page.locator("#ask-probe-found").get_by_text("of 8 requests").wait_for()
        page.locator("#ask-history .lt-kept").first.click()
        page.wait_for_selector("#ask-probes", state="hidden")
        wait_idle(server, 5)
    visit.context.close()
    assert visit.errors == []


@pytest.mark.parametrize("leave", ["close", "reload"])
def test_a_page_that_is_left_asks_for_nothing_more(browser: Any, server: Server, leave: str) -> None:
    visit = answered(browser, server)
    with server.steered(is_endless=True):
        visit.page.locator("#ask-probe-look").click()
        visit.page.locator("#ask-probe-found").get_by_text("requests are answered").wait_for()
        visit.page.close() if leave == "close" else visit.page.reload()
        wait_idle(server, 5)
        time.sleep(1)
        assert not server.service.queue.is_answering, "no further group was asked"
    visit.context.close()


@pytest.mark.parametrize("viewport", VIEWPORTS)
def test_both_answers_of_a_comparison_are_probed(browser: Any, server: Server, viewport: dict[str, int]) -> None:
    """Each with its own model: the base's answer is asked of the base."""
    visit = Visit(browser, server.url, viewport)
    page = visit.page
    page.get_by_role("tab", name="Compare").click()
    page.locator("#compare-examples button").first.click()
    page.wait_for_selector("#compare-tuned-probes", state="visible")
    assert page.locator("#compare-tuned-probes h2").inner_text().startswith("starter-adapter: does the thought matter?")
    asked: list[str | None] = []
    submit = server.service.queue.submit
    server.service.queue.submit = lambda rows, *args: asked.extend(row.adapter for row in rows) or submit(rows, *args)
    try:
        for side, adapter in (("tuned", "starter-adapter"), ("base", None)):
            asked.clear()
            page.locator(f"#compare-{side}-probe-votes").click()
            page.wait_for_selector(f"#compare-{side}-probe-found .lt-votes")
            assert asked == [adapter] * 8
        page.wait_for_selector("#compare-tuned-probe-found .lt-votes")
    finally:
        del server.service.queue.submit
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("#compare-new").click()
    page.wait_for_selector("#compare-base-probes", state="hidden")
    visit.context.close()
    assert visit.errors == []


def test_a_probe_tells_that_its_adapter_was_withdrawn(browser: Any, server: Server) -> None:
    promote(server.settings.home, random_adapter(server.settings.home / "other"), "admin", settings=server.settings)
    server.service.adapters.look()
    visit = answered(browser, server)
    page = visit.page
    name = server.service.offer.served
    roll_back(server.settings.home, "admin", settings=server.settings)
    shutil.rmtree(server.settings.home / "adapters" / name)
    server.service.adapters.look()
    page.locator("#ask-probe-votes").click()
    page.locator("#ask-probe-found").get_by_role("alert").get_by_text(f"There is no adapter '{name}'").wait_for()
    visit.context.close()
    assert visit.errors == []
