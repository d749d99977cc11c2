"""Gradio components whose input our handlers check. Gradio writes a stub (.pyi) beside this module."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.data_classes import ImageData
from gradio_client.utils import is_http_url_like

_Choice = str | int | float | list[str | int | float] | list[int | None] | None


class Picture(gr.Image):
    """An image input that hands over the uploaded file untouched: `load_image` alone decides what is a picture."""

    is_template = True

    def preprocess(self, payload: ImageData | None) -> str | None:
        """The path of the upload."""
        if payload is not None and payload.path is None:
            raise gr.Error("Send the picture as an uploaded file.", print_exception=False)
        return None if payload is None else payload.path

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """As Gradio does it, but nothing is fetched from an address that a client names."""
        if url_or_file_path is not None and is_http_url_like(str(url_or_file_path)):
            raise gr.Error("Pictures are not fetched from addresses; upload the file.", print_exception=False)
        return await super().async_move_resource_to_block_cache(url_or_file_path)


class LiveDropdown(gr.Dropdown):
    """A dropdown whose choices change while pages are open: the handler checks what was chosen.

    Gradio would compare it with the choices of when the page was opened, or with none after a restart.
    """

    is_template = True

    def preprocess(self, payload: _Choice) -> _Choice:
        """The value as the page sent it."""
        return payload
