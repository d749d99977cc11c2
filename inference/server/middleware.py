"""What every request passes: a cap on its body, in size and in time, and the headers of its answer."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_POLICY = "; ".join(
    [
        "default-src 'self' data: blob:",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "object-src 'none'",
        "base-uri 'self'",
    ]
)
"""Nothing is loaded from another host, whatever a model writes; inline scripts and eval are how Gradio works."""
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class SecurityHeaders:
    """Adds `HEADERS` to every HTTP answer that does not set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


UPLOAD_ROUTE = "/upload"
"""How the path of Gradio's route for files ends."""
BODY_SECONDS = 120.0
"""A body must have come whole by then; the largest upload needs 170 kB/s."""
_MULTIPART_BYTES = 100_000
"""What stands around a file in an upload."""


class BodyLimit:
    """Refuses a body that is too large (413) or too slow (408), as soon as it is, with or without a Content-Length."""

    def __init__(self, app: ASGIApp, max_upload_bytes: int, max_body_bytes: int) -> None:
        """Bytes of an uploaded file, and of any other request's body."""
        self.app, self._max_upload, self._max_body = app, max_upload_bytes + _MULTIPART_BYTES, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = self._max_upload if scope["path"].rstrip("/").endswith(UPLOAD_ROUTE) else self._max_body
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > most:
            await too_large(most)(scope, receive, send)
            return
        body = _Body(receive, send, most)
        try:
            await self.app(scope, body.receive, body.send)
        except Exception:
            if body.refusal is None:  # else it is what comes of a body that was cut off
                raise
        if body.refusal is not None and not body.is_answered:
            await body.refusal(scope, receive, send)


class _Body:
    """One request's body on its way in. Cut off, it looks to the app like a caller who went away."""

    def __init__(self, receive: Receive, send: Send, most: int) -> None:
        self._receive, self._send, self._left, self._most = receive, send, most, most
        self._until: float | None = time.monotonic() + BODY_SECONDS
        """`None` once the body is whole: what is received then is only the end of the connection."""
        self.refusal: JSONResponse | None = None
        self.is_answered = False

    async def receive(self) -> Message:
        if self.refusal is not None:
            return {"type": "http.disconnect"}
        if self._until is None:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, self._until - time.monotonic()))
        except TimeoutError:
            return self._cut(words(408, f"The request did not come within {BODY_SECONDS:.0f} seconds. Send it again."))
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            return self._cut(too_large(self._most))
        if not message.get("more_body"):
            self._until = None
        return message

    async def send(self, message: Message) -> None:
        """What the app says of a body that was cut off is not sent; the refusal is."""
        if self.refusal is not None and not self.is_answered:
            return
        self.is_answered = True
        await self._send(message)

    def _cut(self, refusal: JSONResponse) -> Message:
        self.refusal = refusal
        return {"type": "http.disconnect"}


def too_large(most: int) -> JSONResponse:
    """The refusal of a body of more than `most` bytes."""
    return words(413, f"This request is larger than {most / 1e6:,.1f} MB, which is the limit. Send less.")


def words(status: int, detail: str, wait_seconds: float = 0.0) -> JSONResponse:
    """A refusal as Gradio's page and `gradio_client` read it; `wait_seconds` become `Retry-After`.

    The connection is closed, as the rest of the body may still be on its way.
    """
    headers = {"connection": "close"}
    if wait_seconds:
        headers["retry-after"] = str(max(1, round(wait_seconds)))
    return JSONResponse({"detail": detail}, status, headers)
