"""The page in a real browser: what a visitor does, and what the page says to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from inference.ui.about import PROGRAMS
from tests.support.browser import ENDED, MARKS, PHONE, RUNNING, browser, server, visit
from tests.support.samples import problems
from tests.support.serving import ADAPTER, Server

__all__ = ["browser", "server", "visit"]
pytestmark = MARKS
HOSTILE = (
    '<think>Look: <img src=x onerror="window.hurt=1"> ![x](http://outside.example/x.png) and \\(a<b\\) **so** '
    "<script>window.hurt=1</script> \\(\\href{javascript:window.hurt=1}{x}\\)</think> <answer>$\\frac{3}{4}$</answer>"
)


def test_an_example_asks_on_one_click(visit: Any) -> None:
    """Until then the card shows a recorded answer; the starter's notice, once closed, stays away."""
    page = visit()
    assert "Recorded" in page.text("#ask-panel .lt-played")
    assert page.page.locator(".lt-starter p").bounding_box()["height"] < 30, "one line"
    page.page.click(".lt-close")
    page.page.reload()
    page.page.wait_for_selector("#ask-panel .lt-played")
    assert not page.page.locator(".lt-starter").is_visible()
    page.page.locator("#ask-examples button").nth(1).click()
    page.wait_state(*ENDED)
    page.open_more()
    assert page.page.locator("#ask-expected :is(input, textarea)").first.input_value()
    assert not page.page.locator(".lt-played").is_visible()
    assert re.search(r"\d s · [\d,]+ tokens? · \d+ tokens/s", page.text("#ask-panel .lt-figures"))
    assert page.page.locator("#ask-run").is_enabled() and page.page.locator("#ask-stop").is_disabled()


def test_the_thought_stays_in_sight_and_folds_where_it_is_long(visit: Any, server: Server) -> None:
    page = visit()
    page.take_example()
    page.set_length(1)
    box, unfold = page.page.locator("#ask-panel .block.lt-thinking"), page.page.locator("#ask-panel .lt-unfold")

    def ask(thought: str) -> float:
        page.mark_old()
        with server.steered(prefix=f"{thought} <answer>24</answer>"):
            page.page.click("#ask-run")
            page.wait_state(*ENDED)
        assert page.text("#ask-panel .lt-short") == "24"
        return box.bounding_box()["height"]

    ask("<think>3 + 4 = 7.</think>")
    shown = page.text("#ask-panel .lt-thought-title > span").strip()
    assert re.fullmatch(r"Thought for [\d.]+ s · \d+ tokens? · \d+ tokens/s", shown)
    assert page.text("#ask-panel .lt-thinking p") == "3 + 4 = 7." and not unfold.is_visible()
    long = "<think>" + "One more line.\n\n" * 20 + "</think>"
    folded = ask(long)
    unfold.click()
    page.page.wait_for_function(f"document.querySelector('#ask-panel .block.lt-thinking').clientHeight > {2 * folded}")
    page.page.reload()
    page.page.wait_for_selector(".lt-ready[data-ready=true]")
    page.take_example()
    page.set_length(1)
    assert ask(long) > 2 * folded, "the choice is remembered"
    unfold.click()
    page.page.wait_for_function(f"document.querySelector('#ask-panel .block.lt-thinking').clientHeight <= {folded}")


def test_reasoning_without_tags_is_shown_as_reasoning(visit: Any, server: Server) -> None:
    page = visit()
    page.take_example(1)
    page.set_length(1)
    with server.steered(prefix="- Bar A is 3.\n- Bar B is 4.\n\n$3 + 4 = 7$. The answer is 7"):
        page.page.click("#ask-run")
        page.wait_state(*ENDED)
    assert page.text("#ask-panel .lt-thought-title > span") == "Reasoning (without the tags)"
    assert page.page.locator("#ask-panel .lt-thinking :is(li, .katex)").count() == 3
    assert page.text("#ask-panel .lt-short").startswith("7")


def test_an_answer_can_be_copied_and_asked_again_and_the_history_brings_it_back(visit: Any, server: Server) -> None:
    page = visit()
    page.take_example(1)
    page.page.click(".lt-clear")
    page.set_length(2)
    question = page.page.input_value("#ask-question textarea")
    with server.steered(prefix="<think>3 + 4 = 7.</think> <answer>\\frac{1}{2}</answer>"):
        page.page.click("#ask-run")
        page.wait_state(*ENDED)
        page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.page.click("#ask-panel .lt-copy")
        page.page.wait_for_selector("#ask-panel .lt-copy[data-copied]")
        assert page.page.evaluate("navigator.clipboard.readText()") == "\\frac{1}{2}"
        page.page.click("#ask-again")
        page.page.locator("#ask-panel .lt-notes").get_by_text("Sampled at temperature 0.7 with seed 1.").wait_for()
    page.page.wait_for_function("document.querySelectorAll('.lt-kept').length === 2")
    page.page.reload()
    page.page.wait_for_selector(".lt-ready[data-ready=true]")
    page.page.locator(".lt-kept").nth(0).click()
    page.page.wait_for_selector("#ask-picture img")
    page.page.locator("#ask-panel .lt-notes").get_by_text("with seed 1.").wait_for()
    page.page.wait_for_selector("#ask-panel .lt-short .katex")
    assert page.page.input_value("#ask-question textarea") == question
    page.page.click("#ask-again")
    page.page.locator("#ask-panel .lt-notes").get_by_text("with seed 2.").wait_for()
    page.page.locator(".lt-drop").first.click()
    page.page.wait_for_function("document.querySelectorAll('.lt-kept').length === 2")
    page.page.click(".lt-clear")
    page.page.wait_for_function("document.querySelectorAll('.lt-kept').length === 0")


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
    named = page.page.locator(".lt-about .lt-address").all_text_contents()
    assert len(named) == len(PROGRAMS) and set(named) == {server.url.rstrip("/")}
    page.page.locator(".lt-about summary").get_by_text("OpenAI").click()
    assert f'OpenAI(base_url="{server.url.rstrip("/")}/v1"' in page.text(".lt-about details:nth-of-type(4) pre")


def test_a_screen_reader_hears_the_answer_once(visit: Any, server: Server) -> None:
    """Not its growth: what is read out changes with the end alone."""
    page = visit()
    page.take_example()
    page.page.locator("#lt-spoken p").wait_for(state="attached")  # of the example
    page.page.evaluate(
        "() => { window.spoken = []; new MutationObserver(() => "
        "spoken.push(document.querySelector('#lt-spoken').textContent))"
        ".observe(document.querySelector('#lt-spoken'), { childList: true, subtree: true }); }"
    )
    with server.steered(prefix="<think>Half.</think> <answer>one half"):
        page.page.click("#ask-run")
        page.wait_state(*ENDED)
        page.page.wait_for_function("spoken.length > 0")
    page.page.wait_for_timeout(500)
    spoken = page.page.evaluate("spoken")
    assert len(spoken) == 1 and spoken[0].endswith(page.text("#ask-panel .block.lt-answer").strip())
    assert page.page.locator("#lt-spoken").get_attribute("aria-live") == "polite"


def test_a_link_skips_the_header(visit: Any) -> None:
    page = visit()
    page.page.keyboard.press("Tab")
    link = page.page.locator(".lt-skip")
    assert link.evaluate("(one) => one === document.activeElement") and link.bounding_box()["x"] >= 0
    page.page.keyboard.press("Enter")
    page.page.keyboard.press("Tab")
    assert page.page.evaluate("document.activeElement.closest('#lt-tabs > [role=tabpanel]') !== null")
    assert "#" not in page.page.url, "the address stays"


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
    assert (page.text("#compare-base h2"), page.text("#compare-tuned h2")) == ("The base", ADAPTER)


def test_compare_takes_one_model_at_two_temperatures(visit: Any) -> None:
    page = visit()
    page.page.get_by_role("tab", name="Compare").click()
    page.take_example(2, tab="compare")
    page.set_length(4, tab="compare")
    page.page.locator("#compare-adapter input").click()
    page.page.get_by_role("option", name="Base alone").click()
    page.page.click("#compare-run")
    page.wait_state("failed", panel="compare-base")
    assert "Both sides are 'base' at temperature 0." in page.text("#compare-base .lt-notes")
    page.page.locator("#compare-temperature input[type=number]").fill("0.9")
    page.page.locator("#compare-temperature input[type=number]").press("Tab")
    page.page.wait_for_timeout(300)
    page.page.click("#compare-run")
    page.wait_state(*ENDED, panel="compare-tuned")
    page.page.wait_for_function("document.querySelector('#compare-words').innerText.trim().endsWith('.')")
    assert page.text("#compare-base h2") == "The base at temperature 0"
    assert page.text("#compare-tuned h2") == "The base at temperature 0.9"


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
    page.page.get_by_text("paste a picture anywhere").first.wait_for()
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
    page.page.keyboard.press("Escape")
    page.wait_state("stopped", *ENDED)
    page.mark_old()
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
