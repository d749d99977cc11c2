"""The page's Gradio blocks, which fetch nothing and fail in words, and components whose input our handlers check.

Gradio writes a stub (.pyi) beside this module.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.data_classes import ImageData
from gradio_client.utils import is_http_url_like

from inference.common.logs import failure
from inference.server.routes import BROKEN

_Choice = str | int | float | list[str | int | float] | list[int | None] | None


class Page(gr.Blocks):
    """What every event of the page and every call of an endpoint passes through."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **options: Any) -> Any:
        """As Gradio does it, but nothing is fetched from an address that a client names, whatever the component."""
        if _names_address(inputs):
            raise gr.Error("Files are not fetched from addresses; upload the file.", print_exception=False)
        return await super().preprocess_data(block_fn, inputs, *args, **options)

    async def process_api(self, *args: Any, **options: Any) -> dict[str, Any]:
        """As Gradio does it; of anything but a `gr.Error` the client learns, in words, only that it broke."""
        try:
            return await super().process_api(*args, **options)
        except gr.Error:
            raise
        except Exception as error:  # Gradio raises any kind on values that do not fit; its messages quote them
            failure("A request failed.", error)
            raise gr.Error(BROKEN, title="Something broke", print_exception=False) from None


def _names_address(values: object) -> bool:
    """True if a file within the values, which are those of JSON, has an address for its path."""
    left = [values]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if is_http_url_like(str(value.get("path", ""))):
                return True
            left.extend(value.values())
        elif isinstance(value, list | tuple):
            left.extend(value)
    return False


class Picture(gr.Image):
    """An image input that hands over the uploaded file untouched: `load_image` alone decides what is a picture."""

    is_template = True

    def preprocess(self, payload: ImageData | None) -> str | None:
        """The path of the upload."""
        if payload is not None and payload.path is None:
            raise gr.Error("Send the picture as an uploaded file.", print_exception=False)
        return None if payload is None else payload.path


class LiveDropdown(gr.Dropdown):
    """A dropdown whose choices change while pages are open: the handler checks what was chosen.

    Gradio would compare it with the choices of when the page was opened, or with none after a restart.
    """

    is_template = True

    def preprocess(self, payload: _Choice) -> _Choice:
        """The value as the page sent it."""
        return payload
