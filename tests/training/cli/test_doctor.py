"""The command `doctor`: lines and cost as text, the whole report as JSON, and a status that says whether one fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training import __main__ as command_line
from training.doctor.report import Report


@pytest.mark.slow
def test_lines_as_text_and_then_as_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second time only the surroundings are looked at; a token that is missing then fails."""
    words = ["doctor", "--short", "--dollars-per-hour", "2.5"]
    assert command_line.main(words) == 0
    text = capsys.readouterr().out
    assert "at most three minutes" in text and "at $2.50 an hour" in text
    assert "pass  Greedy tokens:" in text and "skip  CUDA graphs:" in text and "GRPO step" not in text
    [path] = (home / "doctor").glob("*.json")
    first = Report.model_validate_json(path.read_text())
    assert str(path) in text and first.form == "short" and first.key.card in text
    assert command_line.main([*words, "--publish-to", "me/adapter", "--json"]) == 1
    second = Report.model_validate(json.loads(capsys.readouterr().out))
    lines = {line.name: line for line in second.lines}
    assert lines["token"].status == "fail" and "to publish to me/adapter" in lines["token"].evidence
    kept = {line.name: line for line in first.lines}
    assert lines["tokens"] == kept["tokens"] and not second.is_good


def test_a_setting_that_is_none(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["doctor", "--max-steps", "many"]) == 2
    assert "max_steps" in capsys.readouterr().err
