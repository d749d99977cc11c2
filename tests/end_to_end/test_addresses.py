"""The addresses of the page in a real browser: each tab, adapter, run and comparison has one, and it can be sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from inference.adapters.shown import change_shown
from inference.engine.engine import Engine
from tests.support.browser import LAPTOP, MARKS, VIEWPORTS, Visit, browser
from tests.support.proxy import proxy
from tests.support.samples import random_adapter
from tests.support.serving import ADAPTER, ADMIN_TOKEN, WAIT_SECONDS, Server, serve
from training.config.run_config import load_config
from training.runs.store import RunStore

__all__ = ["browser"]
pytestmark = MARKS
OTHER = "an other+adapter"


@pytest.fixture(scope="module")
def server(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("addresses")
    random_adapter(folder / "home" / "adapters" / OTHER)
    change_shown(folder / "home", OTHER, is_shown=True)
    with serve(engine, folder / "home", random_adapter(folder / ADAPTER)) as running:
        yield running


@pytest.fixture(scope="module")
def runs(server: Server) -> list[str]:
    store = RunStore(server.settings.home)
    return [store.submit(load_config("starter", {"max_steps": 4, "warmup_steps": 0}), "admin").id for _ in range(3)]


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Any]:
    opened: list[Visit] = []

    def open_at(address: str = "", viewport: dict[str, int] = LAPTOP, log_in: bool = False) -> Visit:
        opened.append(Visit(browser, server.url, viewport))
        visit = opened[-1]
        if log_in:
            visit.page.request.post(
                f"{server.url}/admin/login", data={"token": ADMIN_TOKEN}, headers={"origin": server.url}
            )
        if address:
            visit.page.goto("about:blank")
            visit.page.goto(f"{server.url}/{address}")
        return visit

    yield open_at
    for one in opened:
        one.context.close()
    assert [one.errors for one in opened] == [[] for _ in opened]


def at(visit: Visit, address: str) -> None:
    """Waits until the page stands at this address, and what it names is shown."""
    visit.page.wait_for_function("(hash) => location.hash === hash", arg=address, timeout=WAIT_SECONDS * 1000)


def tab(visit: Visit, name: str) -> str:
    """Presses a tab, and returns what stands in the address then."""
    before = visit.page.evaluate("location.hash")
    visit.page.get_by_role("tab", name=name, exact=True).click()
    visit.page.wait_for_function("(before) => location.hash !== before", arg=before)
    return str(visit.page.evaluate("location.hash"))


def selected(visit: Visit, tabs: str = "#lt-tabs") -> str:
    return visit.text(f"{tabs} > .tab-wrapper [role=tab][aria-selected=true]")


def chosen(visit: Visit) -> str:
    return visit.page.locator("#watch-run input").input_value().split(" · ")[0]


def test_back_forward_and_reload_do_what_a_browser_promises(visit: Any) -> None:
    page = visit()
    assert page.page.evaluate("location.hash") == ""
    assert [tab(page, "Compare"), tab(page, "About"), tab(page, "Train")] == ["#/compare", "#/about", "#/train"]
    page.page.go_back()
    page.page.wait_for_selector(".lt-about", state="visible")
    page.page.go_back()
    page.page.wait_for_selector("#compare-run", state="visible")
    page.page.go_forward()
    page.page.wait_for_selector(".lt-about", state="visible")
    page.page.reload()
    page.page.wait_for_selector(".lt-about", state="visible")
    at(page, "#/about")
    page.page.go_back()
    page.page.go_back()
    page.page.wait_for_selector("#ask-run", state="visible")
    assert selected(page) == "Ask"


@pytest.mark.parametrize("where", ["ask", "compare"])
def test_an_adapter_has_an_address(visit: Any, where: str) -> None:
    page = visit(f"#/{where}/{quote(OTHER)}")
    page.page.wait_for_selector(f"#{where}-run", state="visible")
    page.page.wait_for_function(f"document.querySelector('#{where}-adapter input')?.value === {OTHER!r}")
    at(page, f"#/{where}/{quote(OTHER, '')}")


def test_an_unknown_adapter_is_said_in_words(visit: Any) -> None:
    page = visit("#/ask/%3Cb%3Egone")
    page.page.get_by_text("There is no adapter <b>gone here").wait_for()
    at(page, "#/ask")


@pytest.mark.parametrize("viewport", VIEWPORTS)
def test_a_link_to_a_run_opens_it(visit: Any, runs: list[str], viewport: dict[str, int]) -> None:
    """Of somebody who is logged in; back leads to the run before, and to the section before that."""
    page = visit(f"#/train/watch/{runs[0]}", viewport, log_in=True)
    page.page.wait_for_selector("#watch-status .lt-run-name")
    page.page.wait_for_function(f"document.querySelector('#watch-run input').value.startsWith({runs[0]!r})")
    at(page, f"#/train/watch/{runs[0]}")
    assert page.text("#watch-status .lt-run-name") == runs[0]
    page.page.evaluate(f"location.hash = '#/train/watch/{runs[1]}'")
    page.page.wait_for_function(f"document.querySelector('#watch-run input').value.startsWith({runs[1]!r})")
    page.page.evaluate("location.hash = '#/train/adapters'")
    page.page.wait_for_selector("#lt-adapters", state="visible")
    page.page.go_back()
    page.page.wait_for_selector("#watch-run input", state="visible")
    page.page.go_back()
    page.page.wait_for_function(f"document.querySelector('#watch-run input').value.startsWith({runs[0]!r})")
    page.page.reload()
    page.page.wait_for_selector("#watch-run input", state="visible")
    page.page.wait_for_function(f"document.querySelector('#watch-run input').value.startsWith({runs[0]!r})")


def test_a_link_to_a_run_waits_for_the_log_in(visit: Any, runs: list[str]) -> None:
    page = visit(f"#/train/watch/{runs[0]}")
    page.page.locator("#train-token").fill(ADMIN_TOKEN)
    page.page.locator("#train-login button[type=submit]").click()
    page.page.wait_for_function(f"document.querySelector('#watch-run input')?.value.startsWith({runs[0]!r})")


def test_an_unknown_run_is_said_in_words(visit: Any, runs: list[str]) -> None:
    page = visit("#/train/watch/20200101-000000-gone", log_in=True)
    page.page.get_by_text("There is no 20200101-000000-gone here").wait_for()
    page.page.wait_for_selector("#watch-run input", state="visible")
    at(page, "#/train/watch")


def test_a_comparison_of_runs_has_an_address(visit: Any, runs: list[str]) -> None:
    page = visit("#/train/runs", log_in=True)
    for run in runs[:2]:
        page.page.locator(f"input[data-run='{run}']").check()
        page.page.get_by_text("are compared above" if run == runs[1] else f"{run} queued").first.wait_for()
    page.page.wait_for_function("location.hash.split(',').length === 2")
    address = page.page.evaluate("location.hash")
    assert set(address.rpartition("/")[2].split(",")) == set(runs[:2])
    other = visit(address, log_in=True)
    other.page.get_by_text("2 runs are chosen").wait_for()
    assert other.page.locator("input[data-run]:checked").count() == 2
    assert other.page.locator(f"#train-runs a[data-open='{runs[2]}']").count() == 1


def test_an_adapter_of_train_has_an_address(visit: Any) -> None:
    page = visit(f"#/train/adapters/{quote(OTHER, '')}", log_in=True)
    page.page.wait_for_selector("#lt-adapters article", state="visible")
    page.page.wait_for_function(f"document.activeElement?.textContent === {OTHER!r}")


@pytest.mark.long
def test_the_seventh_tab_of_one_browser_opens(visit: Any, server: Server) -> None:
    """A browser has six connections to a host for all its tabs; an open page keeps none of them."""
    page = visit()
    for _ in range(6):
        other = page.context.new_page()
        other.goto(server.url)
        other.wait_for_selector(".lt-ready[data-ready=true]")
    other.locator("#ask-examples button").first.click()
    other.wait_for_selector("#ask-picture img")


def test_the_page_works_under_a_path_behind_a_proxy(
    browser: Any, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that it asks for is under the path: an answer, a shared address, the log-in, a section."""
    monkeypatch.setenv("GRADIO_ROOT_PATH", "/look")
    with serve(engine, tmp_path / "home", None) as app, proxy(app.url, "/look") as url:
        page = Visit(browser, f"{url}/", LAPTOP)
        outside: list[str] = []
        page.page.on("request", lambda one: outside.append(one.url))
        page.page.reload()
        page.page.locator("#ask-examples button").first.click()
        page.page.wait_for_selector("#ask-panel [data-state=done]")
        assert tab(page, "Train") == "#/train"
        page.page.locator("#train-token").fill(ADMIN_TOKEN)
        page.page.locator("#train-login button[type=submit]").click()
        page.page.wait_for_selector("#train-sections", state="visible")
        page.page.goto("about:blank")
        page.page.goto(f"{url}/#/train/runs")
        page.page.wait_for_selector("#train-runs", state="visible")
        strange = [one for one in outside if not one.startswith((f"{url}/", "data:", "blob:", "about:"))]
        assert strange == [] and page.errors == []
        page.context.close()
