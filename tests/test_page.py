"""The page in a real browser: what a visitor does, sees and hears; screenshots are kept for looking at.

Needs Debian's Chromium (`/usr/bin/chromium`, or what CHROMIUM names). LOOKTHINK_SHOTS names a folder for the
screenshots.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from inference.engine import Engine
from tests.samples import problems, random_adapter
from tests.serving import WAIT_SECONDS, Server, serve

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).is_file(), reason=f"no Chromium at {CHROMIUM}: install Debian's chromium"),
]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LAPTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
HOSTILE = (
    "<think>Look: <img src=x onerror=\"window.hurt=1\"> ![x](http://outside.example/x.png) and \\(a<b\\) **so** "
    "<script>window.hurt=1</script> \\(\\href{javascript:window.hurt=1}{x}\\)</think> <answer>$\\frac{3}{4}$</answer>"
)


@pytest.fixture(scope="module")
def server(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    with serve(engine, folder / "home", random_adapter(folder / "test-adapter")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("LOOKTHINK_SHOTS") or tmp_path_factory.mktemp("shots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Visit:
    """One open page, watched: no error in its console, no request to another host."""

    def __init__(self, browser: Any, url: str, viewport: dict[str, int], scheme: str = "light") -> None:
        self.url = url
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
        self.context.set_default_timeout(WAIT_SECONDS * 1000)
        self.page = self.context.new_page()
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self._note(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        self.page.goto(url)
        self.page.wait_for_selector("#ask-panel .lt-hint")
        self.page.wait_for_selector(".lt-ready[data-ready=true]")

    def _note(self, url: str) -> None:
        if not url.startswith((self.url, "data:", "blob:")):
            self.outside.append(url)

    def take_example(self, index: int = 0, tab: str = "ask") -> None:
        question = self.page.locator(f"#{tab}-question textarea")
        before = question.input_value()
        self.page.locator(f"#{tab}-examples button").nth(index).click()
        self.page.wait_for_function(
            f"document.querySelector('#{tab}-question textarea').value !== {before!r}", timeout=WAIT_SECONDS * 1000
        )
        self.page.wait_for_selector(f"#{tab}-picture img")

    def open_more(self, tab: str = "ask") -> None:
        if not self.page.locator(f"#{tab}-length").is_visible():
            self.page.locator(f"#{tab}-more > button").click()

    def set_length(self, tokens: int, tab: str = "ask") -> None:
        self.open_more(tab)
        field = self.page.locator(f"#{tab}-length input[type=number]")
        field.fill(str(tokens))
        field.press("Tab")

    def wait_state(self, *states: str, panel: str = "ask-panel") -> str:
        wanted = ", ".join(f"#{panel} .lt-status[data-state={state}]" for state in states)
        self.page.wait_for_selector(wanted, state="attached")
        return self.page.locator(f"#{panel} .lt-status").get_attribute("data-state")

    def wait_notes(self, words: str) -> None:
        self.page.locator("#ask-panel .lt-notes").get_by_text(words).wait_for()

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Any]:
    opened: list[Visit] = []

    def open_page(viewport: dict[str, int] = LAPTOP, scheme: str = "light") -> Visit:
        opened.append(Visit(browser, server.url, viewport, scheme))
        return opened[-1]

    yield open_page
    for one in opened:
        one.context.close()
    assert [one.outside for one in opened] == [[] for _ in opened], "the page asked another host for something"
    assert [one.errors for one in opened] == [[] for _ in opened]


ENDED = ("done", "cut-off")


def test_ask_an_example(visit: Any) -> None:
    page = visit()
    page.take_example(1)
    page.open_more()
    assert page.page.locator("#ask-expected :is(input, textarea)").first.input_value()
    page.page.click("#ask-run")
    page.wait_state(*ENDED)
    assert re.search(r"\d s · [\d,]+ tokens? · \d+ tokens/s", page.text("#ask-panel .lt-figures"))
    assert page.page.locator("#ask-run").is_enabled() and page.page.locator("#ask-stop").is_disabled()


def test_the_thought_folds_and_the_answer_stands_apart(visit: Any, server: Server) -> None:
    page = visit()
    page.take_example()
    page.set_length(16)
    with server.steered(prefix="<think>3 + 4 = 7.</think> <answer>24</answer>"):
        page.page.click("#ask-run")
        page.wait_state(*ENDED)
    title = page.page.locator("#ask-panel .lt-thought > button")
    shown = title.inner_text().replace("▼", "").strip()
    assert re.fullmatch(r"Thought for [\d.]+ s · \d+ tokens? · \d+ tokens/s", shown)
    assert page.text("#ask-panel .lt-short") == "24"
    assert not page.page.locator("#ask-panel .lt-thinking p").is_visible()
    title.click()
    assert page.text("#ask-panel .lt-thinking p") == "3 + 4 = 7."


def test_what_a_model_writes_is_shown_and_never_obeyed(visit: Any, server: Server) -> None:
    page = visit()
    page.take_example()
    page.set_length(1)
    with server.steered(prefix=HOSTILE):
        page.page.click("#ask-run")
        page.wait_state(*ENDED)
    page.page.wait_for_selector("#ask-panel .lt-answer .katex")
    page.page.locator("#ask-panel .lt-thought > button").click()
    page.page.wait_for_selector("#ask-panel .lt-thinking .katex")
    assert "<img src=x" in page.text("#ask-panel .lt-thinking .md")
    assert page.page.locator("#ask-panel :is(.lt-thinking, .lt-answer) :is(img, script, a, iframe)").count() == 0
    assert page.page.evaluate("window.hurt") is None


def test_stop_ends_it_and_says_so(visit: Any, server: Server) -> None:
    page = visit()
    page.take_example()
    page.set_length(1024)
    with server.steered(prefix="<think>First", is_endless=True):
        page.page.click("#ask-run")
        page.wait_state("thinking")
        page.page.click("#ask-stop")
        assert page.wait_state("stopped", *ENDED) == "stopped"
    assert "You stopped" in page.text("#ask-panel .lt-notes")
    assert page.page.locator("#ask-run").is_enabled()


def test_cut_off_is_said_and_continue_goes_on(visit: Any, server: Server) -> None:
    page = visit()
    page.take_example()
    page.set_length(6)
    with server.steered(prefix="<think>First", is_endless=True):
        page.page.click("#ask-run")
        page.wait_state("cut-off")
        assert "after 6 tokens" in page.text("#ask-panel .lt-notes")
        before = page.text("#ask-panel .lt-thinking .md")
        page.page.click("#ask-continue")
        page.wait_notes("after 12 tokens")
    assert page.text("#ask-panel .lt-thinking .md").startswith(before.strip()[:5])


def test_compare_shows_both_sides_and_the_difference(visit: Any) -> None:
    page = visit()
    page.take_example(2)
    question = page.page.locator("#ask-question textarea").input_value()
    page.page.get_by_role("tab", name="Compare").click()
    page.page.wait_for_selector("#compare-picture img")
    assert page.page.locator("#compare-question textarea").input_value() == question
    page.set_length(40, tab="compare")
    page.page.click("#compare-run")
    page.wait_state(*ENDED, panel="compare-base")
    page.wait_state(*ENDED, panel="compare-tuned")
    assert page.text("#compare-words").strip().endswith(".")
    for side in ("base", "tuned"):
        assert "tokens/s" in page.text(f"#compare-{side} .lt-figures")


def test_a_new_problem_comes_with_its_answer(visit: Any) -> None:
    page = visit()
    page.page.click("#ask-new")
    page.page.wait_for_selector("#ask-picture img")
    first = page.page.locator("#ask-picture img").get_attribute("src")
    assert page.page.locator("#ask-question textarea").input_value()
    page.page.click("#ask-new")
    page.page.wait_for_function(f"document.querySelector('#ask-picture img')?.getAttribute('src') !== {first!r}")


def test_a_bad_upload_is_told_at_once_and_taken_away(visit: Any, tmp_path: Path) -> None:
    page = visit()
    (tmp_path / "words.png").write_text("just words")
    page.page.set_input_files("#ask-picture input[type=file]", str(tmp_path / "words.png"))
    page.page.get_by_text("not a picture that can be read").wait_for()
    page.page.get_by_text("Drop a picture here").first.wait_for()
    problems(1)[0].image.save(tmp_path / "good.png")
    page.page.set_input_files("#ask-picture input[type=file]", str(tmp_path / "good.png"))
    page.page.wait_for_selector("#ask-picture img")
    page.errors = [error for error in page.errors if "words.png" not in error and "404" not in error]


def test_asking_nothing_says_what_is_missing(visit: Any) -> None:
    page = visit()
    page.page.click("#ask-run")
    page.wait_state("failed")
    assert "There is no picture" in page.text("#ask-panel .lt-notes")
    page.take_example()
    page.page.fill("#ask-question textarea", " ")
    page.page.click("#ask-run")
    page.wait_notes("no question")


def test_the_keyboard_is_enough(visit: Any, server: Server) -> None:
    page = visit()
    page.page.locator("#ask-examples button").first.focus()
    page.page.keyboard.press("Enter")
    page.page.wait_for_selector("#ask-picture img")
    page.set_length(1024)
    page.page.locator("#ask-question textarea").focus()
    with server.steered(prefix="<think>First", is_endless=True):
        page.page.keyboard.press("Control+Enter")
        page.wait_state("thinking")
        page.page.keyboard.press("Escape")
        assert page.wait_state("stopped", *ENDED) == "stopped"
    page.page.locator("#ask-question textarea").focus()
    seen = []
    for _ in range(4):
        page.page.keyboard.press("Tab")
        seen.append(page.page.evaluate("document.activeElement.innerText"))
        assert page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert "Ask" in seen


def test_on_a_phone_the_answer_comes_into_sight(visit: Any, server: Server) -> None:
    page = visit(PHONE)
    page.take_example()
    page.page.evaluate("scrollTo(0, 0)")
    with server.steered(prefix="<think>" + "So it goes on. " * 20 + "</think> <answer>24</answer>"):
        page.page.evaluate("document.querySelector('#ask-run').click()")
        page.wait_state(*ENDED)
    page.page.wait_for_function(
        "(() => { const box = document.querySelector('#ask-panel .lt-short').getBoundingClientRect();"
        " return box.top >= 0 && box.bottom <= innerHeight; })()"
    )
    assert page.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", ["laptop", "phone"])
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


def _violations(page: Any) -> dict[str, list[str]]:
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
    found = set(_violations(page))
    page.close()
    bare.close(verbose=False)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_new_violations_of_accessibility(visit: Any, server: Server, gradios_own: set[str], scheme: str) -> None:
    page = visit(LAPTOP, scheme)
    seen = {"start": _violations(page.page)}
    page.take_example(1)
    page.set_length(3)
    with server.steered(prefix="<think>Bar A is 1.</think> <answer>24</answer>"):
        page.page.click("#ask-run")
        page.wait_state(*ENDED)
    page.page.locator("#ask-panel .lt-thought > button").click()
    seen["ask"] = _violations(page.page)
    page.page.get_by_role("tab", name="Compare").click()
    page.page.click("#compare-run")
    page.wait_state(*ENDED, panel="compare-tuned")
    seen["compare"] = _violations(page.page)
    page.page.get_by_role("tab", name="About").click()
    page.page.wait_for_timeout(300)
    seen["about"] = _violations(page.page)
    for where, found in seen.items():
        new = {rule: nodes for rule, nodes in found.items() if rule not in gradios_own}
        assert not new, f"{where}: {new}"
        ours = {rule: [node for node in nodes if "lt-" in node] for rule, nodes in found.items()}
        assert not any(ours.values()), f"{where}: {ours}"
