"""The Train tab on the real app, started as anybody starts it: a run that outlives the page and the app.

One story in one browser: log in, start a run, watch it, reload, kill the app, start it again, see the run end, promote
its adapter, ask with it, roll back, and put the records in order.

Another: a newcomer makes a dataset of own pictures, sees its audit, trains on it, and asks with the result.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.adapters.served import serving
from inference.common.settings import load_settings
from tests import ROOT
from tests.support.browser import ENDED, LAPTOP, MARKS, PHONE, Visit, browser
from training.runs.store import RunStore
from training.starter.problems import Problem, make_problem

__all__ = ["browser"]
pytestmark = [*MARKS, pytest.mark.slow]

SHOTS = os.environ.get("LOOKTHINK_SHOTS")
TOKEN = "a token of the test's own"
WAIT_SECONDS = 240
STEPS = 24
SMALL = {
    "max-steps": STEPS,
    "prompts-per-step": 2,
    "num-generations": 4,
    "max-completion-length": 48,
    "eval-rows": 8,
    "price": 2.5,
    "max-hours": 1,
}
SMALLER = {"data-train-rows": 60, "data-test-rows": 8, "data-validation-rows": 16}
"""Under Advanced."""
OWN, OWN_STEPS = "my-bars", 10
"""The name of a set, and the steps of the run on it."""
OWN_RUN = {
    "max-steps": OWN_STEPS,
    "prompts-per-step": 2,
    "num-generations": 2,
    "max-completion-length": 24,
    "price": 2.5,
    "max-hours": 1,
}
EXPECTED_ERRORS = (
    "403 (Forbidden)",
    "ERR_CONNECTION",
    "ERR_SOCKET_NOT_CONNECTED",
    "ERR_INCOMPLETE",
    "ERR_EMPTY",
    "Failed to fetch",
    "500 (",
)
"""What a console says of a wrong token, of an app that is dead, and of a refusal."""


class App:
    """`python app.py` as a process of its own."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.home, self.url = home, f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOOKTHINK_", "GRADIO_"))}
        own = {"LOOKTHINK_HOME": str(self.home), "LOOKTHINK_BASE": "starter", "LOOKTHINK_ADMIN_TOKEN": TOKEN}
        env = kept | own | {"GRADIO_SERVER_PORT": str(self.port), "OMP_NUM_THREADS": "1", "LOOKTHINK_LOG": "json"}
        with (self.home.parent / "app.log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=env, stdout=log, stderr=log)
        until = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=5) as answer:
                    if json.load(answer)["status"] == "ready":
                        return
            except OSError:
                pass
            time.sleep(0.2)
        raise AssertionError(f"the app does not serve: {(self.home.parent / 'app.log').read_text()[-2000:]}")

    def end(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(WAIT_SECONDS)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    running = App(tmp_path_factory.mktemp("train") / "train-home")
    running.home.mkdir()
    running.start()
    yield running
    store = RunStore(running.home)
    if store.active():
        from training.launch.local import LocalLauncher

        launcher = LocalLauncher(store)
        launcher.cancel(store.active().id)  # type: ignore[union-attr]
        until = time.monotonic() + WAIT_SECONDS
        while store.active() and time.monotonic() < until:
            launcher.reconcile()
            time.sleep(0.2)
    running.end(signal.SIGTERM)


class Admin(Visit):
    """A page whose reader trains."""

    def log_in(self) -> None:
        self.page.get_by_role("tab", name="Train").click()
        self.page.fill("#train-token", TOKEN)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_selector("#train-start")

    def come_back(self) -> None:
        """Load the page anew, and open Train; no log-in is asked for."""
        self.page.goto(self.url)
        self.page.wait_for_selector(".lt-ready[data-ready=true]")
        self.page.get_by_role("tab", name="Train").click()
        self.page.wait_for_selector("#train-tabs")

    def open(self, section: str) -> None:
        self.page.locator("#train-tabs").get_by_role("tab", name=section, exact=True).click()

    def set(self, name: str, value: Any) -> None:
        field = self.page.locator(f"#train-{name} :is(input, textarea)").first
        field.fill(str(value))
        field.press("Tab")

    def points(self) -> str:
        """The reward's plot in words."""
        return self.page.locator("#watch-plots .lt-plot-area").first.get_attribute("aria-label") or ""

    def wait_for(self, what: Any, words: str) -> Any:
        until = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < until:
            if found := what():
                return found
            self.page.wait_for_timeout(200)
        raise AssertionError(f"never {words}; the page says {self.text('#train-sections')[:600]}")

    def check_access(self, section: str) -> None:
        """No barrier of our own making for who cannot see or point, in a section of the tab."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page, context="#train-sections").response["violations"]
        ours = {v["id"]: [node["html"][:200] for node in v["nodes"] if "lt-" in node["html"]] for v in found}
        assert not any(ours.values()), f"{section}: {ours}"

    def shoot(self, name: str) -> None:
        if SHOTS:
            self.page.wait_for_timeout(400)
            self.page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


@pytest.mark.long
def test_a_run_outlives_the_page_and_the_app(browser: Any, app: App) -> None:
    store = RunStore(app.home)
    visit = Admin(browser, app.url, LAPTOP)
    visit.page.set_default_timeout(WAIT_SECONDS * 1000)
    the_gate_stays_shut(visit)
    visit.log_in()
    run_id = started(visit, store)
    visit.wait_for(visit.points, "a point in the plot")
    first = visit.points()
    visit.wait_for(lambda: visit.points() != first, "a second point in the plot")
    visit.shoot("laptop-light-train-watch")
    visit.come_back()
    visit.wait_for(lambda: run_id in visit.text("#watch-status"), "the same run after a reload")

    app.end(signal.SIGKILL)
    assert store.get(run_id).status == "running"
    app.start()
    visit.come_back()
    visit.open("Watch")  # where it opens by itself unless the run has ended meanwhile
    visit.wait_for(visit.points, "the plots after a restart")
    visit.wait_for(lambda: store.get(run_id).status not in ("running", "stopping"), "the end of the run")
    record = store.get(run_id)
    assert (record.status, record.step, record.reason) == ("succeeded", STEPS, "")
    visit.wait_for(lambda: f"{STEPS} of {STEPS}" in visit.text("#watch-status"), "the end on the page")
    compared = json.loads((record.folder / "adapter/comparison.json").read_text())
    assert (compared["decision"], compared["num_rows"]) == ("waits", SMALLER["data-validation-rows"])

    promoted_and_rolled_back(visit, app, run_id)
    runs_in_order(visit, store, run_id)
    on_a_phone_at_night(browser, visit, app)
    assert visit.outside == []
    assert [e for e in visit.errors if not any(known in e for known in EXPECTED_ERRORS)] == []
    visit.context.close()


def the_gate_stays_shut(visit: Admin) -> None:
    """Before the log-in there is nothing; a wrong token is told."""
    page = visit.page
    page.get_by_role("tab", name="Train").click()
    page.fill("#train-token", "not the token at all")
    page.get_by_role("button", name="Log in").click()
    visit.wait_for(lambda: "not the admin token" in visit.text("#train-login"), "a word on the wrong token")
    assert page.locator("#train-sections").count() == 0 or not page.locator("#train-sections").is_visible()
    visit.shoot("laptop-light-train-login")


def started(visit: Admin, store: RunStore) -> str:
    """Fill the form, see what it says, and start the run."""
    page = visit.page
    for name, value in SMALL.items():
        visit.set(name, value)
    page.locator("#train-advanced > button").click()
    page.wait_for_selector("#train-data-train-rows")
    for name, value in SMALLER.items():
        visit.set(name, value)
    visit.set("warmup-steps", 99)
    visit.wait_for(lambda: "warmup_steps 99" in visit.text("#train-estimate"), "a refusal before the button")
    page.click("#train-start")
    page.get_by_text("warmup_steps 99").last.wait_for()
    assert store.list() == []
    visit.set("warmup-steps", 2)
    visit.wait_for(lambda: f"{8 * STEPS}" in visit.text("#train-estimate"), "the number of completions")
    assert "unknown" not in visit.text("#train-estimate") and "Memory" in visit.text("#train-estimate")
    visit.shoot("laptop-light-train-start")
    visit.check_access("Start")
    page.click("#train-start")
    page.wait_for_selector("#watch-status", state="visible")
    [record] = store.list()
    assert record.asked_by == "admin" and record.max_hours == 1 and record.dollars_per_hour == 2.5
    assert record.run_config.max_steps == STEPS
    return record.id


def promoted_and_rolled_back(visit: Admin, app: App, run_id: str) -> None:
    """The run's adapter answers visitors, and then the former one again."""
    page = visit.page
    settings = load_settings(env={"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(app.home)}, has_gpu=False)
    before = serving(settings).name
    visit.open("Adapters")
    page.locator("#adapters-list button[data-act=promote]").first.click()
    visit.wait_for(lambda: run_id in (serving(settings).name or ""), "the promotion")
    visit.wait_for(lambda: run_id in visit.text("#adapters-served"), "the promotion on the page")
    visit.shoot("laptop-light-train-adapters")
    page.get_by_role("tab", name="Ask").click()
    visit.take_example(1)
    page.click("#ask-run")
    visit.wait_state(*ENDED)
    visit.wait_for(lambda: run_id in visit.text("#lt-top"), "the new adapter in the header")
    page.get_by_role("tab", name="Train").click()
    visit.open("Adapters")
    page.locator("#adapters-served button[data-act]").first.click()
    visit.wait_for(lambda: serving(settings).name == before, "the roll back")


def runs_in_order(visit: Admin, store: RunStore, run_id: str) -> None:
    """Runs: download, compare, sort; delete is asked twice."""
    page = visit.page
    visit.open("Start")
    page.click("#train-start")
    visit.wait_for(lambda: len(store.list()) == 2, "a second run")
    second = store.list()[0].id
    visit.wait_for(lambda: second in visit.text("#watch-status"), "the second run under Watch")
    visit.open("Runs")
    page.locator(f"#train-runs input[data-run='{second}']").check()
    page.wait_for_selector("#train-cancel:not([disabled])")
    page.click("#train-cancel")
    visit.wait_for(lambda: store.get(second).status in ("cancelled", "interrupted"), "the end of the second run")
    visit.wait_for(lambda: "running" not in visit.text("#train-runs"), "the end in the table")
    page.locator(f"#train-runs input[data-run='{run_id}']").check()
    page.wait_for_selector("#train-comparison .lt-plot")
    visit.shoot("laptop-light-train-runs")
    visit.check_access("Runs")
    heads = page.locator("#train-runs th button")
    heads.filter(has_text="Steps").click()
    assert page.locator("#train-runs tbody tr").first.inner_text().count(run_id)
    heads.filter(has_text="Steps").click()
    assert page.locator("#train-runs tbody tr").first.inner_text().count(second)
    page.locator(f"#train-runs input[data-run='{second}']").uncheck()
    page.wait_for_selector("#train-download:not([disabled])")
    with page.expect_download() as fetched:
        page.click("#train-download")
    with zipfile.ZipFile(fetched.value.path()) as archive:
        assert archive.testzip() is None
        assert f"{run_id}/adapter/adapter_model.safetensors" in archive.namelist()
    page.click("#train-delete")
    page.wait_for_selector("#train-confirm", state="visible")
    assert store.get(run_id).folder.is_dir()
    page.click("#train-delete-sure")
    page.get_by_text(f"{run_id} is deleted.").wait_for()
    visit.wait_for(lambda: [record.id for record in store.list()] == [second], "the deletion")
    assert not (store.folder / run_id).exists()


def choose(visit: Admin, dropdown: str, name: str) -> None:
    """Choose a name in a dropdown."""
    visit.page.locator(f"{dropdown} input").click()
    visit.page.locator(dropdown).get_by_role("option", name=name, exact=True).click()


def own_files(folder: Path) -> tuple[list[tuple[Path, Problem]], Path]:
    """Two pictures to label by hand, and a ZIP of twenty more with a table."""
    made = [make_problem(random.Random(number), "train") for number in range(22)]
    by_hand = [(folder / f"photo {number}.png", problem) for number, problem in enumerate(made[:2])]
    for path, problem in by_hand:
        problem.image.save(path)
    table = io.StringIO()
    csv.writer(table).writerows(
        [("picture", "what", "right")]
        + [(f"images/{number}.png", problem.problem, problem.answer) for number, problem in enumerate(made[2:])]
    )
    with zipfile.ZipFile(folder / "bars.zip", "w") as archive:
        archive.writestr("bars/all.csv", table.getvalue())
        for number, problem in enumerate(made[2:]):
            buffer = io.BytesIO()
            problem.image.save(buffer, "PNG")
            archive.writestr(f"bars/images/{number}.png", buffer.getvalue())
    return by_hand, folder / "bars.zip"


@pytest.mark.long
def test_a_newcomer_trains_on_own_pictures(browser: Any, app: App) -> None:
    """Two are labelled by hand, twenty come from a ZIP; they are audited, a run trains on them, and its adapter
    answers."""
    visit, store = Admin(browser, app.url, LAPTOP), RunStore(app.home)
    visit.page.set_default_timeout(WAIT_SECONDS * 1000)
    visit.log_in()
    page, (by_hand, archive) = visit.page, own_files(app.home.parent)
    visit.open("Data")
    page.locator("#data-name input").fill(OWN)
    page.locator("#data-name input").press("Enter")
    for number, (path, problem) in enumerate(by_hand, 1):
        page.set_input_files("#data-picture input[type=file]", path)
        page.wait_for_selector("#data-picture img")
        page.fill("#data-question textarea", problem.problem)
        page.fill("#data-answer textarea", problem.answer)
        page.click("#data-add")
        visit.wait_for(lambda n=number: f"Row {n} of {OWN} is saved" in visit.text("#data-done"), "a row is saved")
        visit.wait_for(lambda: not page.locator("#data-picture img").count(), "the fields are empty again")
    visit.shoot("laptop-light-train-data-label")
    page.locator("#data-upload > button").click()
    page.set_input_files("#data-files input[type=file]", archive)
    visit.wait_for(lambda: "Choose the columns" in visit.text("#data-preview"), "a word on unknown columns")
    for ours, theirs in {"image": "picture", "problem": "what", "solution": "right"}.items():
        choose(visit, f"#data-column-{ours}", theirs)
    visit.wait_for(lambda: "problem = what" in visit.text("#data-preview"), "the rows of the upload")
    visit.shoot("laptop-light-train-data-upload")
    page.click("#data-take")
    visit.wait_for(lambda: f"20 rows added to {OWN}" in visit.text("#data-done"), "the rows of the upload in the set")

    visit.come_back()
    visit.open("Data")
    choose(visit, "#data-name", OWN)
    visit.wait_for(lambda: "22 rows" in visit.text("#data-rows"), "the set after a reload")
    card = page.locator("#data-rows article").first
    card.locator("summary").click()
    card.locator("textarea[name=problem]").fill("What is to be seen here?")
    card.locator("button[data-act=save]").click()
    visit.wait_for(lambda: "What is to be seen here?" in visit.text("#data-rows .lt-own-problem >> nth=0"), "it")
    page.click("#data-audit")
    visit.wait_for(lambda: "Auditing:" in visit.text("#data-audited"), "the progress of the audit")
    visit.wait_for(lambda: "Golds against themselves" in visit.text("#data-audited"), "the audit")
    visit.shoot("laptop-light-train-data")
    visit.check_access("Data")

    visit.open("Start")
    choose(visit, "#train-data-dataset", OWN)
    for name, value in OWN_RUN.items():
        visit.set(name, value)
    page.locator("#train-advanced > button").click()
    page.wait_for_selector("#train-warmup-steps")
    visit.set("warmup-steps", 2)
    visit.wait_for(lambda: f"{OWN_STEPS * 4}" in visit.text("#train-estimate"), "the estimate of the run on the set")
    before = {record.id for record in store.list()}
    page.click("#train-start")
    visit.wait_for(lambda: len(store.list()) > len(before), "a run on the set")
    [run_id] = {record.id for record in store.list()} - before
    visit.wait_for(lambda: store.get(run_id).status not in ("queued", "starting", "running"), "its end")
    record = store.get(run_id)
    assert (record.status, record.step, record.reason) == ("succeeded", OWN_STEPS, "")
    data = record.run_config.data
    assert (data.dataset, data.test_rows, record.run_config.eval_rows) == (str(app.home / "sets" / OWN), 4, 4)
    asked_with(visit, run_id, by_hand[0])
    assert visit.errors == [] and visit.outside == []
    visit.context.close()
    phone = Admin(browser, app.url, PHONE, "dark")
    phone.log_in()
    phone.open("Data")
    choose(phone, "#data-name", OWN)
    phone.wait_for(lambda: "22 rows" in phone.text("#data-rows"), "the set on the phone")
    phone.shoot("phone-dark-train-data")
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    phone.check_access("Data")
    phone.context.close()


def asked_with(visit: Admin, run_id: str, asked: tuple[Path, Problem]) -> None:
    """A run's adapter is put into service, and answers on one of its owner's pictures."""
    page, (picture, problem) = visit.page, asked
    visit.open("Adapters")
    page.locator("#adapters-list button[data-act=promote]").first.click()
    visit.wait_for(lambda: run_id in visit.text("#adapters-served"), "the promotion of the run on the set")
    page.get_by_role("tab", name="Ask").click()
    page.set_input_files("#ask-picture input[type=file]", picture)
    page.wait_for_selector("#ask-picture img")
    page.fill("#ask-question textarea", problem.problem)
    page.click("#ask-run")
    visit.wait_state(*ENDED)
    visit.wait_for(lambda: run_id in visit.text("#lt-top"), "the adapter of the set in the header")


def on_a_phone_at_night(browser: Any, visit: Admin, app: App) -> None:
    """Another browser has to log in; the tab fits a phone."""
    phone = Admin(browser, app.url, PHONE, "dark")
    phone.page.set_default_timeout(WAIT_SECONDS * 1000)
    phone.log_in()
    for section in ("Start", "Watch", "Runs", "Adapters"):
        phone.open(section)
        phone.page.wait_for_timeout(600)
        assert phone.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], section
        phone.shoot(f"phone-dark-train-{section.lower()}")
        phone.check_access(section)
    phone.page.click("#train-log-out")
    phone.page.wait_for_selector("#ask-panel .lt-hint")
    phone.page.get_by_role("tab", name="Train").click()
    phone.page.wait_for_selector("#train-token")
    assert phone.page.locator("#train-start").count() == 0 or not phone.page.locator("#train-start").is_visible()
    assert phone.errors == [] and phone.outside == []
    phone.context.close()
