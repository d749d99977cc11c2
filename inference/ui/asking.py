"""Who asks, as Gradio tells it to a handler, and how a refusal is headed."""

from __future__ import annotations

import gradio as gr

from inference.common.errors import Busy, UserError
from inference.server.visitors import Visitor, is_on_space, visitor_id_of


def asker_of(request: gr.Request) -> Visitor:
    """The visitor and the session of a call, as of now."""
    peer = request.client.host if request.client else None
    visitor = visitor_id_of(peer, request.headers.get("x-forwarded-for"), is_on_space())
    return Visitor(visitor, request.session_hash or "")


def error_title(error: Exception) -> str:
    """The heading of the toast."""
    if isinstance(error, Busy):
        return "Busy just now"
    return "This cannot be asked" if isinstance(error, UserError) else "Something broke"
