"""The choice of an adapter. In a module of its own because Gradio writes a stub (.pyi) beside each component class."""

from __future__ import annotations

from typing import Any

import gradio as gr


class AdapterChoice(gr.Dropdown):
    """A dropdown whose choices change while pages are open: `Service.adapter_named` alone decides what there is."""

    is_template = True

    def preprocess(self, payload: Any) -> Any:
        """What the page sent, as it is: Gradio would compare it with the choices of when the page was opened."""
        return payload
