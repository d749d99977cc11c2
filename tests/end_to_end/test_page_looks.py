"""How the page looks and what it is to assistive technology, on a laptop and a phone, by day and by night.

The screenshots are kept for looking at; LOOKTHINK_SHOTS names a folder for them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from tests.support.browser import ENDED, LAPTOP, MARKS, PHONE, SCHEMES, browser, server, visit
from tests.support.serving import WAIT_SECONDS, Server

__all__ = ["browser", "server", "visit"]
pytestmark = MARKS
SHOTS = os.environ.get("LOOKTHINK_SHOTS")


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(SHOTS or tmp_path_factory.mktemp("shots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("device", [pytest.param("laptop", marks=pytest.mark.matrix), "phone"])
def test_screenshots(visit: Any, server: Server, shots: Path, device: str, scheme: str) -> None:
    page = visit(LAPTOP if device == "laptop" else PHONE, scheme)

    def shoot(name: str) -> None:
        page.page.wait_for_timeout(400)
        page.page.screenshot(path=shots / f"{device}-{scheme}-{name}.png", full_page=name != "start")

    shoot("start")
    page.take_example(1)
    with server.steered(prefix="<think>Bar A is 1. Bar C is 2. \\(1 + 2 = 3\\).</think> <answer>"):
        page.set_length(4)
        page.page.click("#ask-run")
        page.wait_state(*ENDED)
        shoot("ask")
        page.page.get_by_role("tab", name="Compare").click()
        page.page.click("#compare-run")
        page.wait_state(*ENDED, panel="compare-tuned")
        shoot("compare")
    page.page.get_by_role("tab", name="About").click()
    shoot("about")
    dark = page.page.evaluate("document.body.classList.contains('dark')")
    assert dark is (scheme == "dark")
    assert page.page.evaluate("document.documentElement.scrollWidth") <= page.page.viewport_size["width"]


def violations(page: Any) -> dict[str, list[str]]:
    """axe's findings: rule to the elements it found."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return {rule["id"]: [node["html"][:300] for node in rule["nodes"]] for rule in found}


@pytest.fixture(scope="module")
def gradios_own(browser: Any) -> set[str]:
    """The rules that a bare Gradio page with the same components breaks."""
    with gr.Blocks(analytics_enabled=False) as bare:
        gr.HTML("<h1>Bare</h1>")
        with gr.Tabs(), gr.Tab("One"), gr.Row(), gr.Column():
            gr.Image(type="filepath", label="Picture", sources=["upload", "clipboard", "webcam"])
            gr.Textbox(label="Question")
            gr.Button("Go", variant="primary")
            gr.Button("Stop", interactive=False)
            with gr.Accordion("More"):
                gr.Dropdown(["a", "b"], label="Adapter")
                gr.Slider(0, 2, 0, label="Temperature")
                gr.Number(0, label="Seed")
            gr.Markdown("Text")
    _, url, _ = bare.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", ssr_mode=False)
    page = browser.new_page()
    page.set_default_timeout(WAIT_SECONDS * 1000)
    page.goto(url)
    page.get_by_text("Text").wait_for()
    found = set(violations(page))
    page.close()
    bare.close(verbose=False)
    return found


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_new_violations_of_accessibility(visit: Any, server: Server, gradios_own: set[str], scheme: str) -> None:
    page = visit(LAPTOP, scheme)
    seen = {"start": violations(page.page)}
    page.take_example(1)
    page.set_length(3)
    with server.steered(prefix="<think>Bar A is 1.</think> <answer>24</answer>"):
        page.page.click("#ask-run")
        page.wait_state(*ENDED)
    seen["ask"] = violations(page.page)
    page.page.get_by_role("tab", name="Compare").click()
    page.page.click("#compare-run")
    page.wait_state(*ENDED, panel="compare-tuned")
    seen["compare"] = violations(page.page)
    page.page.get_by_role("tab", name="About").click()
    page.page.wait_for_selector(".lt-about :is(h1, h2, h3, p)")
    seen["about"] = violations(page.page)
    for where, found in seen.items():
        new = {rule: nodes for rule, nodes in found.items() if rule not in gradios_own}
        assert not new, f"{where}: {new}"
        ours = {rule: [node for node in nodes if "lt-" in node] for rule, nodes in found.items()}
        assert not any(ours.values()), f"{where}: {ours}"


@pytest.mark.parametrize("size", [(1280, 720), (390, 844)])
def test_ask_is_above_the_fold_and_nothing_jumps_while_it_streams(
    visit: Any, server: Server, size: tuple[int, int]
) -> None:
    """The sum of all layout shifts, those within half a second of a click left out, as browsers report it."""
    page = visit({"width": size[0], "height": size[1]})
    box = page.page.locator("#ask-run").bounding_box()
    assert box["y"] + box["height"] <= size[1]
    page.page.evaluate(
        "window.shift = 0; new PerformanceObserver((list) => list.getEntries().forEach((entry) => {"
        " if (!entry.hadRecentInput) window.shift += entry.value; })).observe({ type: 'layout-shift' })"
    )
    for example, start in enumerate(("<think>First", "First I look at the picture. Then")):
        with server.steered(prefix=start):
            page.take_example(example)
            page.set_length(250)
            page.press_run()
            page.wait_state(*ENDED)
        page.page.wait_for_timeout(500)
    assert page.page.evaluate("window.shift") < 0.05
