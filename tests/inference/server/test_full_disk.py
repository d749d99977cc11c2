"""Where pictures cannot be kept, the app starts all the same, and an upload is answered in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gradio as gr
import pytest
from gradio.routes import App
from starlette.testclient import TestClient

from inference.common.errors import UserError
from inference.server.lifecycle import _uploads_folder, disk_refused
from tests.support.small_disk import fill, small_disk

__all__ = ["small_disk"]  # a fixture


def test_an_upload_on_a_full_disk_is_answered_in_words(
    small_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = small_disk("1m")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(disk))
    with gr.Blocks() as blocks:
        gr.Image()
    blocks.max_file_size = None  # as `launch` sets it
    app = App.create_app(blocks, app_kwargs={"exception_handlers": {OSError: disk_refused}})
    picture = {"files": ("a.png", bytes(100_000), "image/png")}
    with TestClient(app) as client:
        assert client.post("/gradio_api/upload", files=picture).status_code == 200
        fill(disk)
        refused = client.post("/gradio_api/upload", files=picture)
    assert refused.status_code == 507
    assert refused.json()["error"].startswith("The picture cannot be kept here (No space left on device). Tell the")


def test_the_app_starts_on_a_read_only_disk(small_disk: Callable[[str], Path], tmp_path: Path) -> None:
    small_disk("1m")
    disk = small_disk("ro")
    folder = _uploads_folder(disk / "home")
    assert disk not in folder.parents and folder.is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made"):
        _uploads_folder(tmp_path / "file")
