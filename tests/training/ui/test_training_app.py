"""A Space that is not set up starts all the same, and the page says what is missing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import app
from inference.common.errors import UserError
from inference.common.settings import load_settings
from tests.support.app_process import Process
from tests.support.serving import WAIT_SECONDS
from training.admin.access import Access
from training.ui.training_app import grade_expected


@pytest.fixture
def duplicated(tmp_path: Path) -> Iterator[Process]:
    """A Space with no token, no login, no bucket and no network, whose base cannot be had."""
    process = Process(tmp_path / "home", SPACE_ID="me/look", SPACE_HOST="me-look.hf.space", LOOKTHINK_BASE="no/base")
    yield process
    process.popen.kill()
    process.popen.wait()


@pytest.mark.slow
def test_the_page_is_there_and_says_what_is_missing(duplicated: Process) -> None:
    duplicated.wait_for("no/base cannot be loaded")
    assert duplicated.popen.poll() is None
    health = httpx.get(f"{duplicated.url}/healthz", timeout=WAIT_SECONDS)
    assert (health.status_code, health.json()["status"]) == (503, "failed")
    page = httpx.get(f"{duplicated.url}/config", timeout=WAIT_SECONDS).text
    for said in ("Not everything is set up", "A GPU.", "A token.", "A bucket.", "A login.", "offers no login"):
        assert said in page
    assert "Traceback" not in "".join(duplicated.lines)


def test_a_base_that_cannot_be_loaded_ends_the_app_but_not_a_space(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    def fails() -> None:
        raise UserError("The base <no/base> cannot be loaded.")

    from training.ui.training_app import TrainingApp

    monkeypatch.setattr(app, "_load_engine", lambda settings: fails())
    settings = load_settings(env={"LOOKTHINK_HOME": str(home), "LOOKTHINK_BASE": "starter"})
    app.prepare(settings)
    for env, stays in (({}, False), ({"SPACE_ID": "me/look"}, True)):
        monkeypatch.setenv("SPACE_ID", env.get("SPACE_ID", ""))
        side = TrainingApp(settings, Access(home, env))
        blocks, service = app.build_app(settings, side)
        if stays:
            app._wait_for_model(service, side, threading.Event())
            assert "The model." in side.setup_html() and "no/base" not in side.setup_html()
        else:
            with pytest.raises(UserError, match="cannot be loaded"):
                app._wait_for_model(service, side, threading.Event())
        service.adapters.stop()


QUESTION = "How long is it?\nA. 10 cm\nB. 12 cm\nC. 14 cm"


@pytest.mark.parametrize(
    ("expected", "completion", "is_correct"),
    [
        ("B", "<think>r</think><answer>12 cm</answer>", True),
        ("12 cm", "<think>r</think><answer>B</answer>", True),
        ("B", "I think it is 12 cm.", True),
        ("B", "<think>r</think><answer>10 cm</answer>", False),
        ("12 cm", "<think>r</think><answer>A</answer>", False),
    ],
)
def test_the_options_of_a_question_are_known_to_the_verdict(expected: str, completion: str, is_correct: bool) -> None:
    assert grade_expected(expected, completion, QUESTION).correct is is_correct
