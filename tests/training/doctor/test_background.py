"""The doctor as a process: at a Space's first start beside its visitors, and one at a time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from inference.common.errors import UserError
from inference.common.settings import Settings, load_settings
from inference.engine.engine import Engine, Request
from inference.server.queue import RequestQueue
from tests.support.samples import SMALL_RUN, problems
from tests.support.serving import WAIT_SECONDS
from training.config.run_config import load_config
from training.doctor import background
from training.doctor.background import Examination, FirstLook
from training.runs.store import RunStore


@pytest.fixture
def settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("LOOKTHINK_BASE", "starter")
    monkeypatch.setenv("SPACE_ID", "me/look")
    monkeypatch.setattr(background, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(background, "NICENESS", 0)  # other tests may leave nothing to the lowest priority
    return load_settings()


@pytest.mark.slow
def test_a_new_space_is_looked_at_once_beside_its_visitors(settings: Settings, engine: Engine) -> None:
    examination, store = Examination(settings), RunStore(settings.home)
    queue = RequestQueue(lambda: engine)
    first = FirstLook(settings, queue, store, examination)
    queue.wait_loaded()
    first.look()
    assert examination.is_running
    with pytest.raises(UserError, match="is being looked at already"):
        examination.start(load_config("starter"))
    [problem] = problems(1)
    submission = queue.submit([Request(problem.image.convert("RGB"), problem.problem, max_new_tokens=2)])
    assert submission.wait(WAIT_SECONDS) and submission.error is None, "it is answered meanwhile"
    assert examination.is_running
    first.look()
    assert examination.wait(600)
    report = examination.report(load_config("starter"))
    assert report is not None and report.form == "short", examination.output
    assert any(line.startswith("pass  Base:") for line in examination.output)
    assert not background.LINES.match("  warnings.warn(") and background.LINES.match("warn  Clock: 40 s off")
    first.look()
    for fresh in (first, FirstLook(settings, queue, store, examination)):
        fresh.look()
        assert not examination.is_running, "and not again"


@pytest.mark.parametrize("case", ["no space", "still loading", "a run", "just asked", "no room"])
def test_when_it_is_not_looked_at(
    case: str, settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    examination, store, queue = Examination(settings), RunStore(settings.home), RequestQueue(lambda: engine)
    queue.wait_loaded()
    if case == "no space":
        monkeypatch.delenv("SPACE_ID")
    elif case == "still loading":
        queue.engine = None
    elif case == "a run":
        record = store.submit(load_config("starter", SMALL_RUN), "me")
        store.transition(record, "starting", launch="a" * 16)
    elif case == "just asked":
        monkeypatch.setattr(background, "QUIET_SECONDS", 60.0)
    else:
        monkeypatch.setattr(background, "free_bytes_here", lambda: 1e6)
        caplog.set_level("INFO")
    first = FirstLook(settings, queue, store, examination)
    first.look()
    first.look()
    assert not examination.is_running and not (settings.home / "doctor").exists()
    assert (case == "no room") == ("0.0 GB are free beside the model that answers" in caplog.text)


def test_a_job_that_is_stopped_ends_the_doctor(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(load_config("starter").model_dump_json())
    began = time.monotonic()
    background.look_before(tmp_path / "config.json", {"LOOKTHINK_HOME": str(settings.home)}, lambda: True)
    assert time.monotonic() - began < 30


def test_a_disk_that_refuses(settings: Settings) -> None:
    settings.home.mkdir()
    (settings.home / "doctor").write_text("in the way")
    with pytest.raises(UserError, match="the doctor cannot be started"):
        Examination(settings).start(load_config("starter"))
    assert Examination(settings).output == []
