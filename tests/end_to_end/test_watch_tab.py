"""Watch and Adapters in a real browser, beside a real run of the starter: one server and one run for all of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from inference.common.files import append_line
from inference.engine.engine import Engine
from tests.support.browser import LAPTOP, MARKS, PHONE, SCHEMES, Visit, browser
from tests.support.samples import problems, random_adapter
from tests.support.serving import ADMIN_TOKEN, Server, serve
from training.config.run_config import load_config
from training.launch.local import LocalLauncher
from training.launch.watcher import Watcher
from training.learn.pinned import PinnedQuestions
from training.runs.folder import RunFolder
from training.runs.record import RunRecord
from training.runs.rollout_file import RolloutFile
from training.runs.store import RunStore

__all__ = ["browser"]
pytestmark = MARKS
SHOTS = os.environ.get("LOOKTHINK_SHOTS")
STEPS = 12
LOOKS = 2, 4, 7
"""Steps after which the run stands still until the page shows them."""
RUN_SECONDS = 400
"""How long the run may take on a busy machine."""
HOSTILE = '<img src="x" onerror="window.struck = 1">'
"""As a data set, a model, or whoever edits a file may write."""


def small_run(store: RunStore) -> RunRecord:
    """Steps of eight completions, and an evaluation on four rows."""
    small = {"prompts_per_step": 2, "num_generations": 4, "micro_batch_size": 8, "max_completion_length": 40}
    other = {"warmup_steps": 0, "save_steps": 3, "eval_rows": 4, "report_to": []}
    data = {"train_rows": 40, "test_rows": 8}
    config = load_config("starter", {"max_steps": STEPS, "data": data, **small, **other})
    return store.submit(config, "admin", dollars_per_hour=2.5, max_dollars=1.0)


@dataclass
class Seen:
    """What stood on the page while the run trained."""

    visit: Visit
    record: RunRecord
    store: RunStore
    anonymous: str = ""
    """What a page that nobody has logged in on was sent."""
    before: str = ""
    """Watch before there was a run."""
    reward: list[str] = field(default_factory=list)
    """The reward's plot in words, each time it had changed."""
    held: tuple[str, str] = ("", "")
    """The completions as they stood when they were held, and some steps later."""
    reloaded: str = ""
    """The name of the run shown after a reload."""

    def open(self, section: str) -> None:
        self.visit.page.locator("#train-tabs").get_by_role("tab", name=section, exact=True).click()

    def shoot(self, name: str) -> None:
        if SHOTS:
            self.visit.page.wait_for_timeout(300)
            self.visit.page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


def log_in(visit: Visit) -> None:
    visit.page.get_by_role("tab", name="Train").click()
    visit.page.locator("#train-token").fill(ADMIN_TOKEN)
    visit.page.locator("#train-login button[type=submit]").click()
    visit.page.wait_for_selector("#train-tabs")


@pytest.fixture(scope="module")
def app(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("watch")
    with serve(engine, folder / "home", random_adapter(folder / "first")) as running:
        yield running


@pytest.fixture(scope="module")
def seen(browser: Any, app: Server) -> Iterator[Seen]:
    """A run from its start to its end, watched from one page that is reloaded once."""
    store = RunStore(app.settings.home)
    launcher = LocalLauncher(store)
    watcher = Watcher(launcher)
    visit = Visit(browser, app.url, LAPTOP)
    log_in(visit)
    page = visit.page
    page.locator("#train-tabs").get_by_role("tab", name="Watch").click()
    page.wait_for_selector("#lt-watch .lt-empty")
    before = visit.text("#lt-watch .lt-empty")
    record = small_run(store)
    found = Seen(visit, record, store, before=before)
    watcher.start()
    try:
        found.open("Runs")
        found.open("Watch")
        watch(found)
        yield found
    finally:
        active = store.active()
        if active:
            launcher.cancel(active.id)
        until = time.monotonic() + RUN_SECONDS
        while store.active() and time.monotonic() < until:
            time.sleep(0.2)
        watcher.stop()
        visit.context.close()


@contextlib.contextmanager
def standing_still(found: Seen, steps: int) -> Iterator[None]:
    """The run halted once it has made so many steps, so that a busy machine has time to look at its page."""
    until, folder = time.monotonic() + RUN_SECONDS, RunFolder(found.record.folder)
    while len(folder.history()) < steps:
        assert time.monotonic() < until, f"it never came to step {steps}"
        time.sleep(0.01)
    trainer = psutil.Process(found.store.get(found.record.id).pid)
    trainer.suspend()
    try:
        yield
    finally:
        trainer.resume()


def watch(found: Seen) -> None:
    """Nothing is pressed but the hold; the page follows by itself."""
    page = found.visit.page
    plot = page.locator("#watch-plots .lt-plot-area").first
    rollouts = page.locator("#watch-rollouts .lt-group-step").first
    for number, steps in enumerate(LOOKS):
        with standing_still(found, steps):
            page.wait_for_function(
                "seen => { const plot = document.querySelector('#watch-plots .lt-plot-area');"
                " return plot && !seen.includes(plot.getAttribute('aria-label')); }",
                arg=found.reward,
            )
            found.reward.append(plot.get_attribute("aria-label") or "")
            if number == 1:
                found.shoot("watch-training")
                page.locator("#watch-follow input").uncheck()
                found.held = (rollouts.inner_text(), "")
    found.held = (found.held[0], rollouts.inner_text())
    page.reload()
    page.get_by_role("tab", name="Train").click()
    page.wait_for_selector("#watch-status .lt-run-name")
    found.reloaded = found.visit.text("#watch-status .lt-run-name")
    page.wait_for_selector("#watch-status [data-status=succeeded]", timeout=RUN_SECONDS * 1000)
    found.record = found.store.get(found.record.id)


def test_a_run_is_watched_from_its_first_step_to_its_end(seen: Seen) -> None:
    assert "Nothing has been trained yet" in seen.before and "Start" in seen.before
    assert len(seen.reward) >= 3, "the plots did not grow"
    assert seen.held[0] == seen.held[1] != "", "held completions were replaced"
    assert seen.reloaded == seen.record.id
    status = seen.visit.text("#watch-status")
    assert f"{STEPS} of {STEPS}" in status and "of $1.00" in status and "Done" in status
    assert seen.visit.page.locator("#watch-plots .lt-plot-area").count() == 6
    assert seen.visit.page.locator("#watch-rollouts img").first.evaluate("image => image.naturalWidth") > 0
    assert seen.visit.page.locator("#watch-rollouts .lt-group").first.locator(".lt-rollout").count() == 4
    assert seen.visit.page.locator("#watch-log pre").inner_text().strip()


def test_a_finished_run_shows_its_result_and_what_can_be_done(seen: Seen) -> None:
    result = seen.visit.page.locator("#watch-status .lt-result")
    words = result.inner_text()
    assert "rows cannot tell" in words and "validation rows" in words, "verdict, and against the served adapter"
    assert result.locator("table").count() == 2 and "Correct (lenient): " in words, "by kind"
    labels = result.locator("a, button").all_inner_texts()
    assert labels == ["Try it", "Compare it with the base", "Put it into service"]
    assert "FutureWarning" not in seen.visit.text("#watch-log") and "Loading weights" not in seen.visit.text(
        "#watch-log"
    )


def test_any_step_is_looked_at_and_filtered(seen: Seen) -> None:
    page = seen.visit.page
    first = page.locator("#watch-rollouts .lt-group-step").first
    page.locator("#watch-step input[type=range]").press("Home")
    first.get_by_text("Step 1", exact=True).wait_for()
    assert not page.locator("#watch-follow input").is_checked(), "a key chooses a step too"
    page.locator("#watch-step input[type=number]").fill("2")
    page.locator("#watch-step input[type=number]").press("Tab")
    first.get_by_text("Step 2", exact=True).wait_for()
    assert not page.locator("#watch-follow input").is_checked(), "a step that was chosen stays"
    assert page.locator("#watch-rollouts .lt-expected dt").first.inner_text() == "Expected answer"
    page.wait_for_function("hash => location.hash === hash", arg=f"#/train/watch/{seen.record.id}/2")
    page.locator("#watch-rollouts .lt-group").last.locator("summary").click()
    answer = page.locator("#watch-rollouts .lt-group").last.locator(".lt-rollout-head a").last.get_attribute("href")
    other = seen.visit.context.new_page()
    other.goto("about:blank")
    other.goto(f"{page.url.partition('#')[0]}{answer}")
    other.wait_for_function("href => document.activeElement?.getAttribute('href') === href", arg=answer)
    assert other.locator("#watch-rollouts .lt-group[open]").count() == 1 and other.url.endswith(str(answer))
    other.close()
    page.locator("#watch-only").get_by_text("All wrong").click()
    page.wait_for_function(
        "![...document.querySelectorAll('#watch-rollouts .lt-group-sum')]"
        ".some((sum) => !sum.textContent.startsWith('0 of 4 correct'))"
    )
    page.locator("#watch-only").get_by_text("All", exact=True).click()
    page.locator("#watch-follow input").check()
    first.get_by_text(f"Step {STEPS}", exact=True).wait_for()


def test_the_tokens_of_an_answer_tell_what_the_steps_changed(seen: Seen) -> None:
    page = seen.visit.page
    rollouts = RolloutFile(seen.record.folder)
    _, step, number, place, text = max(
        (len(one["text"]), step, number, place, one["text"])
        for step in (7, 8, 9)
        for number, group in enumerate(rollouts.groups(step), 1)
        for place, one in enumerate(group["completions"], 1)
    )
    address = f"#/train/watch/{seen.record.id}/{step}/{number}/{place}"
    page.goto("about:blank")
    page.goto(f"{seen.visit.url}/{address}")
    answer = page.locator(f"#watch-rollouts .lt-rollout:has(a[href='{address}'])")
    panel = answer.locator(".lt-taught")
    answer.get_by_role("button", name="Tokens").click()
    panel.get_by_text("From step 6 to step 9").wait_for()
    assert panel.locator(".lt-taught-tokens").inner_text().split() == text.split()
    tokens = panel.locator(".lt-taught-tokens i")
    tokens.nth(0).hover()
    now = panel.locator(".lt-taught-now")
    assert now.inner_text() == tokens.nth(0).get_attribute("data-words") and "nats, from" in now.inner_text()
    panel.locator(".lt-taught-tokens").focus()
    page.keyboard.press("ArrowRight")
    assert now.inner_text() == tokens.nth(1).get_attribute("data-words")
    assert "The text gives" not in panel.inner_text(), "the very tokens that were sampled"
    panel.locator("summary").click()
    assert panel.locator("tbody tr").count() == tokens.count()
    seen.shoot("tokens-laptop-light")
    panel.locator("select").first.select_option("0")
    panel.get_by_text("From the base to step 9").wait_for()
    page.emulate_media(color_scheme="dark")
    page.evaluate("document.body.classList.add('dark')")
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    seen.shoot("tokens-phone-dark")
    page.set_viewport_size(LAPTOP)
    page.emulate_media(color_scheme="light")
    page.evaluate("document.body.classList.remove('dark')")
    panel.get_by_role("button", name="Close").click()
    panel.wait_for(state="detached")
    answer.get_by_role("button", name="Tokens").click()
    panel.wait_for()  # stays open for the check of accessibility
    page.locator("#watch-follow input").check()


def test_curves_tell_their_values_zoom_and_say_what_they_mean(seen: Seen) -> None:
    page = seen.visit.page
    plot = page.locator("#watch-plots .lt-plot").first
    plot.scroll_into_view_if_needed()
    lines = plot.locator(".lt-plot-lines")
    box = lines.bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 20)
    assert plot.locator(".lt-plot-tip").inner_text().startswith("step 1")
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.up()
    assert plot.locator(".lt-plot-x span").last.inner_text() in ("6", "7"), "zoomed to the first half"
    assert page.locator("#watch-plots .lt-zoomed").count() == 6, "all plots show the same steps"
    page.mouse.dblclick(box["x"] + 20, box["y"] + 20)
    assert plot.locator(".lt-plot-x span").last.inner_text() == str(STEPS)
    plot.locator(".lt-plot-area").focus()
    page.keyboard.press("End")
    last = plot.locator(".lt-plot-tip").inner_text().split("\n")
    assert last[0] == f"step {STEPS}" and last[1] == plot.locator(".lt-plot-now").inner_text()
    page.keyboard.press("Escape")
    plot.locator("summary").click()
    assert "Training raises it" in plot.locator("figcaption").inner_text()


def test_nothing_is_sent_to_who_is_not_logged_in(seen: Seen, browser: Any) -> None:
    stranger = Visit(browser, seen.visit.url, LAPTOP)
    stranger.page.get_by_role("tab", name="Train").click()
    stranger.page.wait_for_selector("#train-token")
    sent = stranger.page.evaluate("fetch('config').then((answer) => answer.text())")
    assert seen.record.id not in sent + stranger.page.content()
    stranger.context.close()


def test_foreign_text_stays_text(seen: Seen) -> None:
    row = {"text": HOSTILE, "rewards": {HOSTILE: 1.0}, "reasons": {HOSTILE: HOSTILE}, "advantage": 1.0}
    group = {
        "step": STEPS + 1,
        "prompt": HOSTILE,
        "image": f"../../{HOSTILE}",
        "completions": [row, row | {"advantage": -1.0}],
    }
    append_line(seen.record.folder / "rollouts.jsonl", group)
    seen.open("Runs")
    seen.open("Watch")
    first = seen.visit.page.locator("#watch-rollouts .lt-group").first
    first.get_by_text(f"Step {STEPS + 1}").wait_for()
    assert HOSTILE in first.inner_text()
    assert seen.visit.page.locator("img[src=x]").count() == 0
    assert seen.visit.page.evaluate("window.struck") is None


def test_an_adapter_is_promoted_and_rolled_back(seen: Seen, app: Server) -> None:
    page = seen.visit.page
    seen.open("Adapters")
    served = page.locator("#adapters-served h2")
    served.get_by_text("first").wait_for()
    card = page.locator(".lt-version", has_text=f"run {seen.record.id}")
    assert "validation rows" in card.inner_text(), "the comparison is not told"
    card.locator("summary").first.click()
    assert card.locator("table").count() == 2
    seen.shoot("adapters")
    card.get_by_role("button", name="Promote").click()
    served.get_by_text(seen.record.id).wait_for()
    page.locator("#adapters-done").get_by_text("answers from now on").wait_for()
    name = served.inner_text()
    assert json.loads((app.settings.home / "served.json").read_text())["served"]["adapter"] == name
    assert app.service.adapters.offer.served == name
    seen.shoot("adapters-promoted")
    page.get_by_role("button", name="Roll back to first").click()
    served.get_by_text("first", exact=True).wait_for()
    assert app.service.adapters.offer.served == "first"
    assert page.locator("#adapters-served button").count() == 0


def test_put_into_service_from_watch_its_run_shows_what_broke(seen: Seen, app: Server) -> None:
    problem, page = problems(1, seed=3)[0], seen.visit.page
    PinnedQuestions(app.settings.home).add(problem.image, problem.problem, problem.answer)
    seen.open("Watch")
    result = page.locator("#watch-status .lt-result")
    result.get_by_role("button", name="Put it into service").click()
    result.get_by_text(re.compile(r"\d of 1 broke")).wait_for()
    result.get_by_text("Against the base.").wait_for()
    assert "Answer of first" in result.inner_text()
    seen.shoot("watch-promoted")
    seen.open("Adapters")
    page.get_by_role("button", name="Roll back to first").click()
    page.locator("#adapters-served h2").get_by_text("first", exact=True).wait_for()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_looks_and_accessibility(seen: Seen, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = seen.visit.page
    page.emulate_media(color_scheme=scheme)
    page.evaluate(f"document.body.classList.toggle('dark', {str(scheme == 'dark').lower()})")
    for section, root in (("Watch", "#lt-watch"), ("Adapters", "#lt-adapters")):
        seen.open(section)
        page.locator(root).wait_for()
        page.wait_for_timeout(500)
        violations = Axe().run(page, context=root).response["violations"]
        assert not violations, [(found["id"], [node["html"][:200] for node in found["nodes"]]) for found in violations]
        for device, size in (("phone", PHONE), ("laptop", LAPTOP)):
            page.set_viewport_size(size)
            page.wait_for_timeout(200)
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], (section, device)
            seen.shoot(f"{section.lower()}-{device}-{scheme}")
    assert seen.visit.errors == [] and seen.visit.outside == []
