"""The choice of a run. In a module of its own because Gradio writes a stub (.pyi) beside each component class."""

from __future__ import annotations

from typing import Any

import gradio as gr


class RunChoice(gr.Dropdown):
    """A dropdown that hands over what was chosen untouched: the handler looks it up among the runs that there are.

    Gradio's own check knows only the choices that it sent itself, and so none of a page that was open over a restart.
    """

    is_template = True

    def preprocess(self, payload: Any) -> str:
        """What the page says is chosen; empty for anything that is no text."""
        return payload if isinstance(payload, str) else ""
