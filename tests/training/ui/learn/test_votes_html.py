"""The share of votes as confidence, in words and as a plot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from inference.adapters.record import RECORD_FILE, evaluation_of
from inference.common.settings import STARTER
from training.ui.learn.votes_html import calibration_html, vote_words

NOT_MEASURED = "has not been measured"


def adapter_with(path: Path, calibration: object) -> Path:
    """The shipped adapter with this calibration in its evaluation."""
    adapter = shutil.copytree(STARTER / "adapter", path / "adapter", ignore=shutil.ignore_patterns("learn"))
    (adapter / RECORD_FILE).write_text(json.dumps(evaluation_of(adapter) | {"calibration": calibration}))
    return adapter


@pytest.mark.parametrize("is_base", [False, True])
def test_the_shipped_starter_tells_how_often_a_share_is_right(is_base: bool) -> None:
    """Of every share that it was measured at, base and adapter apart."""
    adapter = STARTER / "adapter"
    found = evaluation_of(adapter)["calibration"]
    one = found["base-sampled" if is_base else "adapter-sampled"]["bins"][-1]
    words = vote_words(adapter, is_base, one["confidence"])
    assert f"{100 * one['right']['value']:.0f} %" in words and f"{one['right']['num_rows']}" in words
    assert calibration_html(adapter).count("<figure") == 2


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    assert NOT_MEASURED in vote_words(None, True, 0.5) and NOT_MEASURED in vote_words(tmp_path, False, 0.5)
    assert calibration_html(tmp_path) == ""


@pytest.mark.parametrize(
    "bins",
    [
        "x",
        [3],
        [{"confidence": "<b>"}],
        [{"confidence": 0.5, "right": {"value": float("inf")}}],
        [{"right": 3}] * 10_000,
    ],
)
def test_what_is_no_figure_is_left_out(tmp_path: Path, bins: object) -> None:
    adapter = adapter_with(tmp_path, {"adapter-sampled": {"bins": bins, "sentence": "<script>"}})
    assert calibration_html(adapter) == "" and NOT_MEASURED in vote_words(adapter, False, 0.5)


def test_foreign_text_stays_text(tmp_path: Path) -> None:
    right = {"value": 0.5, "low": 0.4, "high": 0.6, "num_rows": 9}
    measured = {"base-sampled": {"bins": [{"confidence": 0.5, "right": right}], "sentence": "<script>"}}
    html = calibration_html(adapter_with(tmp_path, measured))
    assert "<script" not in html and "--y:50.0%" in html
