"""Runs in a real browser, with 300 of them: search, pages, names, the queue's order, a comparison, and opening one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest

from inference.engine.engine import Engine
from tests.end_to_end.test_watch_tab import log_in
from tests.support.browser import LAPTOP, MARKS, Visit, browser
from tests.support.samples import random_adapter
from tests.support.serving import WAIT_SECONDS, Server, serve
from training.config.run_config import load_config
from training.runs.store import RunStore
from training.ui.base.guard import CANNOT, HIDDEN

__all__ = ["browser"]
pytestmark = MARKS
NUM_RUNS = 300


@pytest.fixture(scope="module")
def app(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("runs")
    home = folder / "home"
    store = RunStore(home)
    for number in range(NUM_RUNS):
        config = load_config("starter", {"max_steps": 20, "learning_rate": 1e-4 if number % 2 else 2e-4})
        record = store.submit(config, "admin", name=f"run-{number:03}")
        if number < NUM_RUNS - 3:
            store.withdraw(record.id)
    with serve(engine, home, random_adapter(folder / "first")) as running:
        yield running


@pytest.fixture(scope="module")
def visit(browser: Any, app: Server) -> Iterator[Visit]:
    found = Visit(browser, app.url, LAPTOP)
    log_in(found)
    found.page.locator("#train-tabs").get_by_role("tab", name="Runs").click()
    found.page.locator("#train-runs tbody tr").first.wait_for()
    yield found
    assert found.errors == []
    found.context.close()


def rows(visit: Visit) -> list[str]:
    return [
        text.strip().split("\n")[0] for text in visit.page.locator("#train-runs tbody tr:visible").all_inner_texts()
    ]


def test_300_runs_are_searched_and_turned_over(visit: Visit) -> None:
    page = visit.page
    assert rows(visit) == [f"run-{number}" for number in range(299, 274, -1)]
    assert "1 to 25 of 300 runs" in visit.text("#train-runs .lt-pages")
    page.locator("#train-runs").get_by_role("button", name="Older").click()
    assert rows(visit)[0] == "run-274"
    page.locator("#train-runs-search input").fill("run-1 cancelled")
    assert "1 to 25 of 100 runs" in visit.text("#train-runs .lt-pages") and rows(visit)[0] == "run-199"
    page.locator("#train-runs-search select").select_option("queued")
    assert "No run is like that" in visit.text("#train-runs .lt-pages")
    page.locator("#train-runs-search input").fill("")
    assert rows(visit) == ["run-299", "run-298", "run-297"]


def test_a_queued_run_starts_earlier_and_has_a_name_and_a_note(visit: Visit, app: Server) -> None:
    page, store = visit.page, RunStore(app.settings.home)
    page.locator("#train-runs input[data-run='run-299']").check()
    page.locator("#train-earlier").click()
    until = time.monotonic() + WAIT_SECONDS
    while [record.id for record in store.queue()] != ["run-297", "run-299", "run-298"]:
        assert time.monotonic() < until, "the queue kept its order"
        page.wait_for_timeout(100)
    page.locator("#train-title input").fill("Charts <b>again</b>")
    page.locator("#train-about textarea, #train-about input").fill("With the higher rate")
    page.locator("#train-describe-save").click()
    page.locator("#train-runs").get_by_text("Charts <b>again</b>").wait_for()
    page.locator("#train-runs-search input").fill("higher rate")
    assert len(rows(visit)) == 1, "a note is searched too"
    page.locator("#train-runs-search input").fill("")
    page.locator("#train-runs input[data-run='run-298']").check()
    page.locator("#train-comparison").get_by_text("learning_rate").wait_for()
    assert "0.0002" in visit.text("#train-comparison") and "max_steps" not in visit.text("#train-comparison")


def test_a_click_opens_a_run_and_the_actions_stay_in_sight(visit: Visit) -> None:
    page = visit.page
    page.locator("#train-runs-search select").select_option("")
    page.evaluate("window.scrollTo(0, 0)")
    box = page.locator("#train-actions").bounding_box()
    assert box["y"] + box["height"] <= LAPTOP["height"] + 1, "the bar of actions is below the fold"
    page.locator("#train-runs a[data-open='run-280']").click()
    page.locator("#watch-status").get_by_text("run-280").wait_for()


def test_a_refusal_is_shown(browser: Any) -> None:
    """Gradio shows errors of events in its queue alone; an action of Train must not be one of the others."""

    def refuse() -> None:
        raise gr.Error("Too much.", title=CANNOT, print_exception=False, duration=None)

    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.Button("Act").click(refuse, None, None, **HIDDEN)
    blocks.launch(prevent_thread_lock=True, quiet=True)
    try:
        page = browser.new_page()
        page.goto(blocks.local_url)
        page.get_by_role("button", name="Act").click()
        page.get_by_text("Too much.").wait_for()
        page.close()
    finally:
        blocks.close(verbose=False)
