"""What every test has: a home of its own, no network, one torch thread, and the starter engine to share."""

from __future__ import annotations

import os

# Before anything imports a library that reads them.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1")
os.environ.update(TOKENIZERS_PARALLELISM="false", MPLBACKEND="Agg")

from collections import Counter
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


@pytest.fixture(scope="session")
def problems() -> Any:
    """A dozen held-out starter problems, as a `datasets.Dataset`."""
    from training.starter.problems import load_problems

    return load_problems("test", 12, seed=7)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests come first, so that no worker is left alone with one of them at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("browser"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Turns a skipped browser test into a failure where a browser is required."""
    report = yield
    if REQUIRE_BROWSER and report.skipped and item.get_closest_marker("browser"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, but a browser is required here: {report.longrepr}"
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Counts the browser tests that passed; with several workers the main process hears of them all."""
    if report.when == "call" and report.passed and "browser" in report.keywords:
        _passed_in_browser.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where a browser is required, a run in which no browser test passed fails."""
    is_worker = hasattr(session.config, "workerinput")
    if REQUIRE_BROWSER and not is_worker and not _passed_in_browser and session.exitstatus == pytest.ExitCode.OK:
        print("\nno browser test ran, but a browser is required here (LOOKTHINK_REQUIRE_BROWSER)")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
