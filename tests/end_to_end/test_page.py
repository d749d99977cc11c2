"""The page in a real browser: what a visitor does, and what the page says to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.support.browser import ENDED, MARKS, PHONE, RUNNING, browser, server, visit
from tests.support.samples import problems
from tests.support.serving import Server

__all__ = ["browser", "server", "visit"]
pytestmark = MARKS
HOSTILE = (
    '<think>Look: <img src=x onerror="window.hurt=1"> ![x](http://outside.example/x.png) and \\(a<b\\) **so** '
    "<script>window.hurt=1</script> \\(\\href{javascript:window.hurt=1}{x}\\)</think> <answer>$\\frac{3}{4}$</answer>"
)


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


def test_of_an_unknown_picture_no_large_answer_is_shown(visit: Any, server: Server, tmp_path: Path) -> None:
    """A sentence stands in its place; the answer follows in small letters, in both panels of Compare too."""
    from PIL import Image

    Image.effect_noise((200, 160), 90).convert("RGB").save(tmp_path / "noise.png")
    page = visit()
    page.page.set_input_files("#ask-picture input[type=file]", str(tmp_path / "noise.png"))
    page.page.wait_for_selector("#ask-picture img")
    page.page.fill("#ask-question textarea", "How many?")
    page.set_length(4)
    with server.steered(prefix="<think>I see 24.</think> <answer>24</answer>"):
        page.page.click("#ask-run")
        page.wait_state(*ENDED)
        page.page.get_by_role("tab", name="Compare").click()
        page.page.wait_for_selector("#compare-picture img")
        page.page.click("#compare-run")
        page.wait_state(*ENDED, panel="compare-tuned")
    for panel in ("#compare-base", "#compare-tuned"):
        assert "so its answer means nothing" in page.text(f"{panel} .lt-unknown")
        assert page.page.locator(f"{panel} .lt-short").count() == 0
        assert "24" in page.text(f"{panel} .prose.lt-answer")
    page.page.get_by_role("tab", name="Ask").click()
    assert "times as far" in page.text("#ask-panel .lt-unknown")


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
    with page.endless(server):
        page.wait_state(*RUNNING)
        page.page.click("#ask-stop")
        assert page.wait_state("stopped", *ENDED) == "stopped"
    assert "You stopped" in page.text("#ask-panel .lt-notes")
    assert page.page.locator("#ask-run").is_enabled()


def test_cut_off_is_said_and_continue_goes_on(visit: Any, server: Server) -> None:
    page = visit()
    with page.endless(server, length=6):
        page.wait_state("cut-off")
        assert "after 6 tokens" in page.text("#ask-panel .lt-notes")
        before = page.text("#ask-panel .lt-thinking .md")
        page.page.click("#ask-continue")
        page.wait_notes("after 12 tokens")
    assert page.text("#ask-panel .lt-thinking .md").startswith(before.strip()[:5])


def test_about_shows_the_address_of_this_page(visit: Any, server: Server) -> None:
    page = visit()
    page.page.get_by_role("tab", name="About").click()
    assert page.text(".lt-about .lt-address") == server.url.rstrip("/")
    assert f'Client("{server.url.rstrip("/")}")' in page.text(".lt-about pre")


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
    page.page.wait_for_timeout(300)
    assert page.page.get_by_text("There is no picture").count() == 1, "it is said in one place"
    page.page.get_by_role("tab", name="Compare").click()
    page.page.click("#compare-run")
    page.wait_state("failed", panel="compare-base")
    page.wait_state("failed", panel="compare-tuned")
    assert page.page.locator("#lt-tabs [role=alert]:visible").count() == 1
    page.page.get_by_role("tab", name="Ask").click()
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
        page.wait_state(*RUNNING)
        page.page.keyboard.press("Escape")
        assert page.wait_state("stopped", *ENDED) == "stopped"
    page.page.locator("#ask-question textarea").focus()
    seen = []
    for _ in range(4):
        page.page.keyboard.press("Tab")
        seen.append(page.page.evaluate("document.activeElement.innerText"))
        assert page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert "Ask" in seen


def in_sight(selector: str) -> str:
    """JavaScript: true if something matches and all that does is wholly in the window."""
    return (
        f"(() => {{ const all = [...document.querySelectorAll({selector!r})].map(e => e.getBoundingClientRect());"
        " return all.length > 0 && all.every(box => box.height && box.top >= 0 && box.bottom <= innerHeight); })()"
    )


def test_on_a_phone_the_answer_comes_into_sight(visit: Any, server: Server) -> None:
    page = visit(PHONE)
    page.take_example()
    page.page.evaluate("scrollTo(0, 0)")
    with server.steered(prefix="<think>" + "So it goes on. " * 20 + "</think> <answer>24</answer>"):
        page.press_run()
        page.wait_state(*ENDED)
    page.page.wait_for_function(in_sight("#ask-panel .lt-short"))
    assert page.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    with server.steered(prefix="<think>First", is_endless=True):
        page.press_run()
        page.wait_state(*RUNNING)
        page.page.evaluate("() => { window.turned = new Promise((done) => addEventListener('wheel', done)); }")
        page.page.mouse.wheel(0, 1)
        page.page.evaluate("window.turned.then(() => true)")
        page.page.evaluate("scrollTo(0, 0)")
        page.page.evaluate("document.querySelector('#ask-stop').click()")
        page.wait_state("stopped", *ENDED)
    page.page.wait_for_timeout(600)
    assert page.page.evaluate("scrollY") <= 1, "who scrolls meanwhile is left alone"


def test_on_a_phone_both_answers_of_compare_come_into_sight(visit: Any, server: Server) -> None:
    page = visit(PHONE)
    page.page.get_by_role("tab", name="Compare").click()
    page.take_example(1, tab="compare")
    page.set_length(4, tab="compare")

    def compare(answer: str) -> None:
        page.page.evaluate("scrollTo(0, 0)")
        with server.steered(prefix="<think>" + "So it goes on. " * 20 + f"</think> <answer>{answer}</answer>"):
            page.press_run("compare")
            page.wait_state("thinking", "answering", *ENDED, panel="compare-tuned")
            page.page.wait_for_function("!document.querySelector('#compare-run').disabled")

    compare("24")
    page.page.wait_for_function(in_sight(":is(#compare-base, #compare-tuned) .lt-short"))
    for words in (40, 200):  # two that do not fit beside each other, and one that is longer than the window
        compare("Bar A is the lower one. " * words)
        page.page.wait_for_function(
            "(() => { const box = document.querySelector('#compare-tuned .lt-answer').getBoundingClientRect();"
            " return box.top >= 0 && Math.min(box.bottom, box.top + innerHeight / 2) <= innerHeight; })()"
        )
    assert page.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
