"""The Adapters section: every version with its evaluation, which one is served, promote and roll back."""

from __future__ import annotations

from inference.settings import Settings
from training.runs import RunStore
from training.ui.live import Guard, Live


def build_adapters(guard: Guard, settings: Settings, store: RunStore) -> Live:
    """The section's contents, inside its sub-tab; nothing of an adapter is in it before a look at it (`Live.follow`).

    `guard` is the tab's wrapper of handlers: `fn(caller, *values)` becomes a handler for Gradio.
    """
    raise NotImplementedError
