"""Streams of answers: notices when a visitor disconnects from one of Gradio's.

A page, or a `gradio_client`, reads its answers from one stream per session (`/queue/data?session_hash=…`), a plain HTTP
client from one per call (`/call/<name>/<event id>`, where the event is the session). A stream that the server ends is
complete; one that the other side ends means that the visitor has left.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class DisconnectWatcher:
    """ASGI middleware; calls `on_disconnect(session)` on the server's loop, so that must not block."""

    def __init__(self, app: ASGIApp, on_disconnect: Callable[[str], None], streams: Streams) -> None:
        self.app, self._on_disconnect, self._streams = app, on_disconnect, streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = session_of(scope)
        if not session:
            await self.app(scope, receive, send)
            return
        is_over = False

        async def watched(message: Message) -> None:
            nonlocal is_over
            await send(message)
            is_over = message["type"] == "http.response.body" and not message.get("more_body")

        self._streams.num_open += 1
        try:
            await self.app(scope, receive, watched)
        finally:
            self._streams.num_open -= 1
            if not is_over:
                self._on_disconnect(session)


class Streams:
    """The number of streams that are open."""

    def __init__(self) -> None:
        self.num_open = 0


def session_of(scope: Scope) -> str:
    """The session whose answers this request reads; empty if it reads none."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return ""
    parts = scope["path"].strip("/").split("/")
    if parts[-2:] == ["queue", "data"]:
        return parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
    is_call = len(parts) >= 3 and (parts[-3] == "call" or parts[-4:-2] == ["call", "v2"])
    return parts[-1] if is_call else ""
