"""Gradio components whose input our handlers check. Gradio writes a stub (.pyi) beside this module."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.components.gallery import GalleryData, GalleryImage
from gradio.data_classes import FileData, ImageData, ListFiles
from gradio.processing_utils import save_bytes_to_cache

from inference.common.errors import UserError
from inference.prompt.image import read_data_uri

_Choice = str | int | float | list[str | int | float] | list[int | None] | None


class Picture(gr.Image):
    """An image input that hands over the uploaded file untouched: `load_image` alone decides what is a picture."""

    is_template = True

    def preprocess(self, payload: ImageData | None) -> str | None:
        """The path of the upload."""
        if payload is not None and payload.path is None:
            raise gr.Error("Send the picture as an uploaded file.", print_exception=False)
        return None if payload is None else payload.path


class MorePictures(gr.File):
    """Further pictures, handed over as their uploaded files untouched, in their order."""

    is_template = True

    def preprocess(self, payload: ListFiles | FileData | None) -> list[str] | None:
        """The paths of the uploads."""
        files = payload.root if isinstance(payload, ListFiles) else [payload] if payload is not None else []
        if any(not file.path for file in files):
            raise gr.Error("Send the pictures as uploaded files.", print_exception=False)
        return [file.path for file in files] or None


class PictureGallery(gr.Gallery):
    """As `MorePictures`, shown small and in order, each to be taken away."""

    is_template = True

    def preprocess(self, payload: GalleryData | None) -> list[str] | None:  # type: ignore[override]
        """The paths of the uploads."""
        paths = [one.image.path if isinstance(one, GalleryImage) else None for one in payload.root] if payload else []
        if not all(paths):
            raise gr.Error("Send the pictures as uploaded files.", print_exception=False)
        return [path for path in paths if path] or None


class LiveDropdown(gr.Dropdown):
    """A dropdown whose choices change while pages are open: the handler checks what was chosen.

    Gradio would compare it with the choices of when the page was opened, or with none after a restart.
    """

    is_template = True

    def preprocess(self, payload: _Choice) -> _Choice:
        """The value as the page sent it."""
        return payload


class LiveSlider(gr.Slider):
    """A slider whose ends change while pages are open: the handler checks the value."""

    is_template = True

    def preprocess(self, payload: float) -> float:
        """The value as the page sent it."""
        return payload


def with_uploads(field: Any, value: object) -> object:
    """The value of an endpoint's input, where texts in the place of pictures, which are data URIs, become uploads.

    Raises `gr.Error` for a text that is none.
    """
    if isinstance(field, MorePictures):
        several = value if isinstance(value, list) else [value]
        return [_uploaded(field, one) for one in several] if value is not None else None
    return _uploaded(field, value) if isinstance(field, Picture) else value


def _uploaded(field: gr.Image | gr.File, value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        path = save_bytes_to_cache(read_data_uri(value), "picture.bin", field.GRADIO_CACHE)
    except UserError as error:
        raise gr.Error(str(error), title="This cannot be asked", print_exception=False) from None
    return {"path": path, "meta": {"_type": "gradio.FileData"}}
