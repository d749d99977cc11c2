"""The Data section: what people wrote is escaped, uploads are never fetched, and Start's numbers fit a small set."""

from __future__ import annotations

import asyncio

import gradio as gr
import pytest

from training.audit.background import FoundAudit
from training.config.run_config import PROFILES, load_config
from training.data.own_sets.sets import OwnRow, SeenRow
from training.data.refusals import Refusal
from training.ui.sections.data import UploadedFiles
from training.ui.sections.data_cards import audit_html, preview_html, rows_html
from training.ui.sections.start import rows_for

EVIL = "<img src=x onerror=alert(1)></textarea><script>"


def test_what_people_wrote_is_escaped() -> None:
    row = OwnRow("0" * 16, "images/x.png", EVIL, EVIL)
    seen = SeenRow(None, EVIL, EVIL, EVIL, False, Refusal("no gold", EVIL))
    shown = rows_html([(row, seen)], 0, 1, 0) + preview_html([seen], 1, EVIL)
    shown += audit_html(FoundAudit([EVIL], [(EVIL, [EVIL], [[EVIL]])], True)) + audit_html(None, EVIL)
    assert "onerror" in shown and "<img" not in shown and "<script" not in shown
    assert shown.count("</textarea>") == 2


def test_a_row_says_why_it_is_not_trained_on() -> None:
    row = OwnRow("0" * 16, "images/x.png", "How many?", "")
    shown = rows_html([(row, SeenRow(None, "How many?", "", "", False, Refusal("no gold", "empty")))], 0, 1, 0)
    assert "Not trained on, no gold: empty" in shown and "<details" not in shown
    good = rows_html([(row, SeenRow(None, "How many?", "3", "3", True))], 0, 30, 2)
    assert "28 rows, and 2 left out" in good and "The grader reads: 3" in good and "1 to 12 of 30" in good


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/x.zip", "https://example.org/x.zip"])
def test_an_upload_is_never_fetched(address: str) -> None:
    with gr.Blocks(analytics_enabled=False):
        files = UploadedFiles(file_count="multiple")
    with pytest.raises(gr.Error, match="not fetched"):
        asyncio.run(files.async_move_resource_to_block_cache(address))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("num_rows", [2, 5, 22, 10_000])
def test_the_numbers_of_rows_fit_a_set(profile: str, num_rows: int) -> None:
    """`load_config` takes them, and they leave most rows to train on."""
    config = load_config(profile)
    train, test_share, test, validation, evaluated = rows_for(config, num_rows).values()
    data = {"dataset": ".", "test_share": test_share, "test_rows": test, "validation_rows": validation}
    if config.choose_checkpoint and validation == "0":
        return  # such a small set is refused in words
    changed = load_config(profile, {"data": data, "eval_rows": evaluated})
    left = num_rows - int(test) - int(validation)
    assert train == "" and left >= num_rows // 2 and changed.eval_rows <= int(test)
