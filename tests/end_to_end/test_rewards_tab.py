"""Rewards in a real browser, on a small record by the real writer: weights, a tolerance that is graded, and Start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.engine.engine import Engine
from tests.support.browser import LAPTOP, MARKS, PHONE, Visit, browser
from tests.support.recorded_run import record_rollouts
from tests.support.samples import random_adapter
from tests.support.serving import ADMIN_TOKEN, Server, serve
from training.config.run_config import load_config
from training.runs.folder import RunFolder
from training.runs.store import RunStore

__all__ = ["browser"]
pytestmark = MARKS
SHOTS = os.environ.get("LOOKTHINK_SHOTS")
RUN = "charts"
SECONDS = 60


@pytest.fixture(scope="module")
def app(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("rewards")
    store = RunStore(folder / "home")
    small = {"prompts_per_step": 2, "num_generations": 4, "max_steps": 24, "warmup_steps": 0}
    config = load_config("starter", {**small, "rewards": {"format_reward": 0.5, "accuracy_reward": 1.0}})
    record = store.submit(config, "admin", name=RUN)
    store.withdraw(record.id)
    path = RunFolder.create(record.folder, config) if not record.folder.exists() else RunFolder(record.folder)
    record_rollouts(path, config, num_steps=24)
    with serve(engine, folder / "home", random_adapter(folder / "first")) as running:
        yield running


def shoot(visit: Visit, name: str) -> None:
    if SHOTS:
        visit.page.wait_for_timeout(500)
        visit.page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


def figure(visit: Visit, label: str) -> str:
    """What the page says a figure would be."""
    row = visit.page.locator("#rewards-figures tr").filter(has_text=label)
    return str(row.locator("td").last.inner_text())


def set_field(visit: Visit, selector: str, value: str) -> None:
    visit.page.locator(selector).fill(value)
    visit.page.locator(selector).press("Tab")


def opened(browser: Any, app: Server, *options: Any) -> Visit:
    """The address of the run's rewards, after the log-in."""
    visit = Visit(browser, app.url, *options)
    visit.context.set_default_timeout(SECONDS * 1000)
    visit.page.evaluate(f"location.hash = '#/train/rewards/{RUN}'")  # on a phone Train may be in a menu
    visit.page.locator("#train-token").fill(ADMIN_TOKEN)
    visit.page.locator("#train-login button[type=submit]").click()
    return visit


def test_rewards_are_weighed_graded_and_taken_into_start(browser: Any, app: Server) -> None:
    visit = opened(browser, app, LAPTOP)
    page = visit.page
    page.get_by_text("192 answers to 48 problems are compared").wait_for()
    page.locator(f"#rewards-status [data-run={RUN}]").wait_for()
    page.locator("#train-tabs").get_by_role("tab", name="Runs", exact=True).click()
    page.wait_for_function("location.hash === '#/train/runs'")  # the first address was reached, and is left
    page.go_back()
    page.wait_for_function(f"location.hash === '#/train/rewards/{RUN}'")
    page.locator("#rewards-figures table").wait_for()
    assert page.evaluate("location.hash") == f"#/train/rewards/{RUN}"
    assert figure(visit, "swap places") == "0 (0 %)"

    page.locator("#rewards-weight-1 input[type=range]").press("Home")  # a key moves a weight, as the pointer does
    swaps = page.locator("#rewards-figures tr").filter(has_text="swap places").locator("td").last
    swaps.and_(page.locator(":not(:text-is('0 (0 %)'))")).wait_for()
    page.locator("#rewards-reset").click()
    swaps.and_(page.get_by_text("0 (0 %)", exact=True)).wait_for()
    set_field(visit, "#rewards-weight-1 input[type=number]", "0.2")  # right is worth less than well formed
    page.locator("#rewards-groups .lt-group").first.wait_for()
    assert figure(visit, "swap places") != "0 (0 %)" and figure(visit, "Problems with another best") != "0 (0 %)"
    assert "was " in page.locator("#rewards-groups .lt-rollout").first.inner_text()
    shoot(visit, "rewards-laptop")

    set_field(visit, "#train-lab-tolerance input, #train-lab-tolerance textarea", "0.05")
    page.get_by_text("192 grades must be made first: 192 of accuracy_reward").wait_for()
    shoot(visit, "rewards-to-grade")
    page.locator("#rewards-grade").click()
    page.get_by_text("192 answers to 48 problems are compared").wait_for()
    assert float(figure(visit, "Mean reward")) > 0
    page.locator("#rewards-take").click()
    page.wait_for_function("document.querySelector('#train-start')?.offsetParent")
    page.get_by_text("--tolerance 0.05").wait_for()
    assert "--rewards '{format_reward: 0.5, accuracy_reward: 0.2}'" in visit.text("#train-estimate .lt-command")
    assert visit.errors == [] and visit.outside == []
    visit.context.close()


@pytest.mark.long
def test_a_dataset_is_sampled_afresh(browser: Any, app: Server) -> None:
    """By the served adapter; the sample is in the list then, and is scored by other weights."""
    visit = opened(browser, app, LAPTOP)
    page = visit.page
    page.locator("#rewards-figures table").wait_for()
    page.locator("#rewards-fresh > button").click()
    page.locator("#train-lab-problems").locator("input, textarea").fill("3")
    page.locator("#rewards-sample").click()
    page.locator("#rewards-stop").wait_for()
    shoot(visit, "rewards-sampling")
    page.get_by_text("24 answers to 3 problems are compared").wait_for()
    page.get_by_text("These are answers of the adapter").wait_for()
    assert page.locator("#rewards-run input").input_value().endswith(" · starter")
    page.wait_for_function("location.hash.startsWith('#/train/rewards/sample-')")
    shoot(visit, "rewards-sample")
    assert visit.errors == [] and visit.outside == []
    visit.context.close()


def test_code_is_refused_and_the_page_fits_a_phone(browser: Any, app: Server) -> None:
    visit = opened(browser, app, PHONE, "dark")
    page = visit.page
    page.get_by_text("192 answers to 48 problems are compared").wait_for()
    page.locator("#rewards-more input").fill("lambda completions, **columns: [1.0]")
    page.locator("#rewards-more input").press("Enter")
    page.locator("#rewards-add").click()
    page.get_by_text("not of the form module:function").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shoot(visit, "rewards-phone-dark")
    visit.context.close()
