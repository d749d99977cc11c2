"""The report: where it is kept, for what it counts, and that it can be shown to everybody."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from inference.common.settings import load_settings
from inference.engine.fast_paths import machine_key
from training.doctor.report import Line, Report, harmless, keep_report, new_report, read_report

LINE = Line(name="base", title="Base", status="pass", evidence="it loads")


def report(**values: object) -> Report:
    return new_report("me/base", "short", [LINE], **{"time": 5.0, "seconds": 72.0} | values)


def test_it_is_kept_at_home_and_in_the_bucket_and_outlives_the_home(home: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    settings = load_settings(env={"LOOKTHINK_HOME": str(home), "LOOKTHINK_STATE": str(state)})
    assert read_report("me/base", settings) is None
    [only] = keep_report(report(), settings)
    assert only.is_relative_to(home), "a bucket that is not mounted does not become a folder"
    state.mkdir()
    assert len(keep_report(report(time=6.0), settings)) == 2
    only.unlink()
    found = read_report("me/base", settings)
    assert found is not None and found.time == 6.0 and found.lines == (LINE,)
    assert read_report("me/base", settings, replace(machine_key(), driver="999.1")) is None
    assert read_report("me/other", settings) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 2}'])
def test_a_damaged_report_is_none(content: str, home: Path) -> None:
    settings = load_settings(env={"LOOKTHINK_HOME": str(home)})
    [path] = keep_report(report(), settings)
    path.write_text(content)
    assert read_report("me/base", settings) is None


def test_a_folder_that_refuses_is_logged(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    home.mkdir()
    (home / "doctor").write_text("a file in the way")
    assert keep_report(report(), load_settings(env={"LOOKTHINK_HOME": str(home)})) == []
    assert "the doctor's report cannot be written" in caplog.text


@pytest.mark.parametrize(
    ("price", "words"),
    [
        (None, "72 s; the price of this machine is not known (--dollars-per-hour)"),
        (2.5, "72 s, $0.050 at $2.50 an hour"),
    ],
)
def test_the_cost(price: float | None, words: str) -> None:
    assert report(dollars_per_hour=price).cost == words


def test_it_can_be_attached_to_a_bug_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_a_secret_of_the_owner")
    text = harmless(f"hf_a_secret_of_the_owner reads {Path.home()}/models")
    assert text == "[secret] reads ~/models"
    assert json.loads(report().model_dump_json())["key"]["card"] == machine_key().card


def test_a_line_shows_its_remedy_and_a_failure_counts() -> None:
    bad = LINE.model_copy(update={"status": "fail", "remedy": "mend it"})
    assert LINE.words.split() == ["pass", "Base:", "it", "loads"]
    assert bad.words.splitlines()[1].split() == ["->", "mend", "it"]
    whole = new_report("me/base", "full", [LINE, bad], time=1.0, seconds=1.0)
    assert report().is_good and not whole.is_good
    assert whole.summary == "1 pass, 0 warn, 1 fail, 0 not looked at"
