"""An input of several files, which the handler checks. Gradio writes a stub (.pyi) beside this module."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.data_classes import FileData, ListFiles
from gradio_client.utils import is_http_url_like


class UploadedFiles(gr.File):
    """Hands over each upload with the name that its sender gave it."""

    is_template = True

    def preprocess(self, payload: ListFiles | FileData | None) -> list[tuple[str, str]]:  # type: ignore[override]
        """Path and name of each file."""
        files = [] if payload is None else list(payload) if isinstance(payload, ListFiles) else [payload]
        return [(file.path, file.orig_name or Path(file.path).name) for file in files]

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """As Gradio does it, but nothing is fetched from an address that a client names."""
        if url_or_file_path is not None and is_http_url_like(str(url_or_file_path)):
            raise gr.Error("Files are not fetched from addresses; upload them.", print_exception=False)
        return await super().async_move_resource_to_block_cache(url_or_file_path)
