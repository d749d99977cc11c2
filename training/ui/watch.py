"""The Watch section: how a run stands, its curves, what is wrong with it, its log and its newest rollouts."""

from __future__ import annotations

from training.runs import RunStore
from training.ui.live import Guard, Live


def build_watch(guard: Guard, store: RunStore) -> Live:
    """The section's contents, inside its sub-tab; nothing of a run is in it before a look at it (`Live.follow`).

    `guard` is the tab's wrapper of handlers: `fn(caller, *values)` becomes a handler for Gradio.
    """
    raise NotImplementedError
