"""The Runs section on a full disk: the owner sees what takes room there and deletes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gradio as gr
import pytest

from inference.common.errors import UserError
from inference.common.settings import load_settings
from tests.support.run_folders import add_checkpoint, begun_run
from tests.support.small_disk import fill, small_disk
from training.admin.access import Access, Caller
from training.ui.base.download import Downloads
from training.ui.sections.runs import RunsPanel
from training.ui.training_app import TrainingApp

__all__ = ["small_disk"]  # a fixture


def test_room_is_made_on_the_page_of_a_full_disk(
    small_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = small_disk("16m")
    settings = load_settings(env={"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(home)}, has_gpu=False)
    for name in ("one", "two"):
        add_checkpoint(begun_run(home / "runs" / name), 2)
    (home / "runs" / "one" / "config.json").write_text('{"telepathy": 1}')
    fill(home)
    context = TrainingApp(settings, Access(home)).context(lambda: None)
    with gr.Blocks():
        panel = RunsPanel(context, gr.Textbox(), Downloads())
    monkeypatch.setattr(gr, "Info", lambda words: None)  # it needs a request
    caller = Caller("admin")
    table, *_, shown, choice = panel.refresh(caller, [], "")
    assert 'data-run="two"' in str(table) and 'data-run="one"' in str(table)
    assert "0.00 of 0.02 GB are free" in str(shown)
    assert "later version, with settings unknown here (telepathy)" in str(shown) and "<td>filler</td>" in str(shown)
    assert isinstance(choice, dict) and set(choice["choices"]) == {"runs/one", "runs/two"}
    *_, choice = panel._free(caller, [], "", "runs/one")
    assert isinstance(choice, dict) and choice["choices"] == ["runs/two"] and not (home / "runs" / "one").exists()
    for name in ("", None, ["runs/two"], "filler", "../two", "runs/one"):
        with pytest.raises(UserError):
            panel._free(caller, [], "", name)
    assert (home / "filler").exists() and (home / "runs" / "two").is_dir()
