"""The command `estimate`: the same figures as text and as JSON, and a refusal with its remedy."""

from __future__ import annotations

import json

import pytest

from training import __main__ as command_line


def test_figures_as_text_and_as_json(home, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["estimate", "--profile", "a100", "--hardware", "2x H100", "--train-rows", "800"]
    assert command_line.main([*words, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["steps"] == 100 and figures["fits"] and figures["dollars"] is None
    assert figures["basis"] == "arithmetic, within a factor of 2"
    assert command_line.main([*words, "--dollars-per-hour", "8"]) == 0
    text = capsys.readouterr().out
    assert "100 of 64 completions, 6,400 in all" in text and "$8.00 an hour" in text
    assert f"micro-batches of {figures['micro_batch_size']} completions" in text


def test_a_machine_that_cannot_run_it(home, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["estimate", "--profile", "a100", "--train-rows", "800", "--hardware", "8 cores"]) == 1
    assert "has no GPU" in capsys.readouterr().out
    assert command_line.main(["estimate", "--hardware", "abacus"]) == 2
    assert "there is no hardware 'abacus'" in capsys.readouterr().err
