"""What every test has: a home of its own, no network, one torch thread, and the starter engine to share."""

from __future__ import annotations

import os

# Before anything imports a library that reads them.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1")
os.environ.update(TOKENIZERS_PARALLELISM="false", MPLBACKEND="Agg")

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from inference.common.settings import STARTER
from tests.support.hub.client import hub, hub_client, hub_url, impatient

__all__ = ["hub", "hub_client", "hub_url", "impatient"]  # fixtures: a local Hub, and the real clients pointed at it

if TYPE_CHECKING:
    from inference.engine.engine import Engine

hypothesis.settings.register_profile(
    "shared machine",
    deadline=None,  # a slow example is not a wrong one
    derandomize="LOOKTHINK_TORTURE" not in os.environ,  # seeds: the same commit has the same result every time
)
hypothesis.settings.load_profile("shared machine")

REQUIRE_BROWSER = bool(os.environ.get("LOOKTHINK_REQUIRE_BROWSER"))
"""Set by `.ci/run`: a browser test that is skipped then fails, and so does a whole run without one that passed."""
_passed_in_browser: list[str] = []
IN_TORTURE = "LOOKTHINK_TORTURE" in os.environ
WITH_LONG = "LOOKTHINK_LONG" in os.environ
WITH_MATRIX = "LOOKTHINK_MATRIX" in os.environ
"""Set by `make check`, which also runs the tests that take the better part of a minute or more."""
_RECORD = os.environ.get("LOOKTHINK_TORTURE_RECORD")
"""`make torture` names a folder here. The file `passed` in it has a line for each test that passed, with its seconds;
those are left out when it is called again. The file `figures` has what the tests measured."""
_passed_whole: dict[str, float] = {}
"""Seconds of the tests whose own part has passed; what is after it may still fail."""


@pytest.fixture(scope="session", autouse=True)
def _session_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A home for what lives longer than a test, such as a server."""
    os.environ["LOOKTHINK_HOME"] = str(tmp_path_factory.mktemp("session-home"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty LOOKTHINK_HOME, and none of the machine's own LOOKTHINK_* and Space settings."""
    for name in list(os.environ):
        if name.startswith(("LOOKTHINK_", "SPACE_")) or name in ("HF_TOKEN", "GRADIO_SERVER_PORT"):
            monkeypatch.delenv(name)
    folder = tmp_path / "home"
    monkeypatch.setenv("LOOKTHINK_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The starter, loaded once. A test that adds an adapter removes it again."""
    from inference.engine.engine import Engine

    return Engine.load(STARTER)


@pytest.fixture
def figure(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Says a figure that a test measured: on the screen, and in the record of `make torture`."""

    def say(words: str) -> None:
        with capsys.disabled():
            print(f"\n{words}")
        if _RECORD:
            with (Path(_RECORD) / "figures").open("a", encoding="utf-8") as figures:
                figures.write(f"{words}\n")

    return say


@pytest.fixture(scope="session")
def problems() -> Any:
    """A dozen held-out starter problems, as a `datasets.Dataset`."""
    from training.starter.problems import load_problems

    return load_problems("test", 12, seed=7)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files with the most slow tests come first, so that no worker is left alone with one of them at the end.

    Torture is skipped unless it is asked for. Long tests, the matrix of views, and what passed in torture before are
    left out.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("browser"))
    items.sort(key=lambda item: -slow[item.path])
    for item in items:
        torture = item.get_closest_marker("torture")
        if torture is not None and not IN_TORTURE and not torture.kwargs.get("sampled"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: `make torture` runs it"))
    done = set(recorded(Path(_RECORD))) if _RECORD else set()
    left_out = [name for name, is_asked_for in (("long", WITH_LONG), ("matrix", WITH_MATRIX)) if not is_asked_for]
    out = {item for item in items if item.nodeid in done or any(map(item.get_closest_marker, left_out))}
    config.hook.pytest_deselected(items=[item for item in items if item in out])
    items[:] = [item for item in items if item not in out]


def recorded(folder: Path) -> list[str]:
    """The tests that have passed, by the record in this folder."""
    file = folder / "passed"
    return [line.partition("\t")[2] for line in file.read_text("utf-8").splitlines()] if file.exists() else []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Turns a skipped browser test into a failure where a browser is required."""
    report = yield
    if REQUIRE_BROWSER and report.skipped and item.get_closest_marker("browser"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, but a browser is required here: {report.longrepr}"
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Notes the browser tests and the torture that passed; with several workers the main process hears of all."""
    if report.when == "call" and report.passed and "browser" in report.keywords:
        _passed_in_browser.append(report.nodeid)
    if _RECORD and report.passed and report.when == "call":
        _passed_whole[report.nodeid] = report.duration
    if _RECORD and report.passed and report.when == "teardown" and report.nodeid in _passed_whole:
        with (Path(_RECORD) / "passed").open("a", encoding="utf-8") as passed:
            passed.write(f"{_passed_whole[report.nodeid]:.1f}\t{report.nodeid}\n")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where a browser is required, a run in which no browser test passed fails. Torture that is done is no failure."""
    if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and _RECORD and recorded(Path(_RECORD)):
        session.exitstatus = pytest.ExitCode.OK  # all of it has passed before
    is_worker = hasattr(session.config, "workerinput")
    if REQUIRE_BROWSER and not is_worker and not _passed_in_browser and session.exitstatus == pytest.ExitCode.OK:
        print("\nno browser test ran, but a browser is required here (LOOKTHINK_REQUIRE_BROWSER)")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
