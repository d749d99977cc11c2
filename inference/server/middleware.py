"""ASGI middleware around every HTTP request: limits per visitor and on its body, response headers, disconnects.

A page load is a hundred small GET requests and is not counted: only requests with a body can cost something. Open
requests count for everybody, as each holds a connection. `/healthz` is never limited, nor is the owner, nor a log-in:
limits that others use up keep nobody out who may train here.

A page, or a `gradio_client`, reads its answers from one stream per session (`/queue/data?session_hash=…`), a plain HTTP
client from one per call (`/call/<name>/<event id>`, where the event is the session). A stream that the server ends is
complete; one that the other side ends means that the visitor has left.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.common.logs import event
from inference.common.settings import Limits
from inference.server.delivery import Delivery, Start
from inference.server.routes import (
    API,
    Failures,
    OpenRoutes,
    carries_pictures,
    is_form,
    is_upload,
    json_refusal,
    on_release,
    refusal,
    route_of,
)
from inference.server.visitors import OWNER, RateLimit, current_visitor, pseudonym, visitor_id_of, whole_seconds

HEALTH_PATH = "/healthz"
UNLIMITED = (HEALTH_PATH, "/admin/login", "/login/huggingface", "/login/callback")
"""Paths that no visitor's limit holds; the last two are Gradio's, on a Space."""
CONTENT_POLICY = "; ".join(
    [
        "default-src 'self' data: blob:",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "object-src 'none'",
        "base-uri 'self'",
    ]
)
"""Nothing is loaded from another host, whatever a model writes. Gradio needs inline scripts and eval."""
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
BODY_SECONDS = 120.0
"""A body must be complete by then; the largest upload needs 170 kB/s."""
_PREVIEW_TAG = re.compile(rb"<meta\s+(?:property=\"og:|name=\"twitter:)[^>]*>")
_BASE_TAG = re.compile(rb"<base\s[^>]*>")
"""What comes after it is relative to the address that it names."""
_CALL = re.compile(rf"{API}/call/(?:v2/)?[^/]+/([^/]+)")
"""The stream of one call; its event is the session."""
_MULTIPART_BYTES = 100_000
"""The most that a multipart form adds to the file in an upload."""
SHARE_FIELD = "share"
"""The field of the page's address that names a shared answer: such a page stays out of search engines."""
NO_INDEX_TAG = b'<meta name="robots" content="noindex">'
MAX_HELD_BYTES = 64_000_000
"""Bodies with data URIs that are in memory at a time, of all visitors; one of the largest is always let in."""
IsOwner = Callable[[Mapping[str, str]], bool]
_HOUR = 3600
_WITH_BODY = ("POST", "PUT", "PATCH", "DELETE")
_ALL = "all"


class SecurityHeaders:
    """Adds `HEADERS` to every HTTP response that does not set them itself."""

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


class BodyLimit:
    """Refuses a body as soon as it is too large (413) or too slow (408), with or without a Content-Length.

    JSON is read whole before the app sees it, and refused (400) if it is none or holds too much.
    """

    def __init__(self, app: ASGIApp, max_upload_bytes: int, max_body_bytes: int) -> None:
        """Bytes of an uploaded file, and of any other request's body."""
        self.app, self._max_body = app, max_body_bytes
        self._max_upload = max_upload_bytes + _MULTIPART_BYTES
        self._max_with_pictures = max_upload_bytes * 4 // 3 + max_body_bytes  # base64 takes four bytes for three
        self._held = _Held()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_large = carries_pictures(scope) and not is_upload(scope)
        limit = self._max_upload if is_upload(scope) else self._max_with_pictures if is_large else self._max_body
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > limit:
            await too_large(limit)(scope, receive, send)
            return
        body = _Body(receive, send, limit, self._held if is_large else None)
        on_release(scope, body.release)
        try:
            if scope["method"] in _WITH_BODY and not is_form(scope) and not is_upload(scope):
                await body.read_json()
            if body.refusal is None:
                await self.app(scope, body.receive, body.send)
        except Exception:
            if body.refusal is None:  # else the error comes from the body being cut off
                raise
        finally:
            body.release()
        if body.refusal is not None and not body.has_response:
            await body.refusal(scope, receive, send)


class VisitorLimits:
    """Refuses with 429 what one visitor sends too much of, and with 503 if all visitors together are too many."""

    def __init__(self, app: ASGIApp, limits: Limits, on_space: bool, is_owner: IsOwner) -> None:
        """`is_owner` tells by its cookies whether a request comes from a browser that is logged in."""
        self.app, self._limits, self._on_space, self._is_owner = app, limits, on_space, is_owner
        self._calls = RateLimit(limits.calls_per_minute, 60)
        self._uploads = RateLimit(limits.uploads_mb_per_hour, _HOUR)
        self._all_uploads = RateLimit(limits.all_uploads_mb_per_hour, _HOUR, max_keys=1)
        self._open: Counter[str] = Counter()
        """Open requests by visitor; a visitor without one has no entry."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or route_of(scope) in UNLIMITED:
            await self.app(scope, receive, send)
            return
        if self._is_owner(HTTPConnection(scope).cookies):
            current_visitor.set(OWNER)
            await self.app(scope, receive, send)
            return
        peer = scope["client"][0] if scope.get("client") else None
        visitor = visitor_id_of(peer, Headers(scope=scope).get("x-forwarded-for"), self._on_space)
        response = self._refusal(scope, visitor)
        if response is not None:
            event("refused", visitor=pseudonym(visitor), status=response.status_code)
            await response(scope, receive, send)
            return
        current_visitor.set(visitor)
        self._open[visitor] += 1
        try:
            await self.app(scope, self._metered(scope, visitor, receive), send)
        finally:
            self._open[visitor] -= 1
            if not self._open[visitor]:
                del self._open[visitor]

    def _refusal(self, scope: Scope, visitor: str) -> JSONResponse | None:
        """The refusal of this request; `None` if it is accepted."""
        limits = self._limits
        if self._open.total() >= limits.all_connections:
            return refusal(503, "Too many visitors are here just now; try again in a minute.", 60)
        if self._open[visitor] >= limits.connections:
            return refusal(429, f"You have {limits.connections} requests open; close a page or wait for an answer.", 10)
        if scope["method"] not in _WITH_BODY:
            return None
        wait = self._calls.take(visitor)
        if wait:
            return refusal(429, f"That was too much at once; try again in {whole_seconds(wait)}.", wait)
        if not carries_pictures(scope):
            return None
        wait, whose = self._uploads.take(visitor, 0.001), "you have"
        if not wait:
            wait, whose = self._all_uploads.take(_ALL, 0.001), "everybody together has"
        if wait:
            return refusal(429, f"In the last hour {whose} uploaded as much as is allowed; try again later.", wait)
        return None

    def _metered(self, scope: Scope, visitor: str, receive: Receive) -> Receive:
        """`receive`, which takes an upload's bytes off the allowances as they come."""
        if not carries_pictures(scope):
            return receive

        async def receive_metered() -> Message:
            message = await receive()
            megabytes = len(message.get("body", b"")) / 1e6
            self._uploads.owe(visitor, megabytes)
            self._all_uploads.owe(_ALL, megabytes)
            return message

        return receive_metered


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


class LinkPreview:
    """Puts `tags` first into the head of the page, and takes out those of Gradio's that name Gradio's address."""

    def __init__(self, app: ASGIApp, tags: str, last_tags: str = "") -> None:
        """`last_tags` come at the end of the head."""
        self.app, self._tags, self._last = app, tags.encode(), last_tags.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or route_of(scope) != "/":
            await self.app(scope, receive, send)
            return
        start: Message = {}
        content = bytearray()
        is_shared = SHARE_FIELD in parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        tags = (NO_INDEX_TAG if is_shared else b"") + self._tags

        async def rewritten(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            content.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            page = _PREVIEW_TAG.sub(b"", bytes(content))
            page = _BASE_TAG.sub(lambda base: base[0] + tags, page, count=1)
            page = page.replace(b"</head>", self._last + b"</head>", 1)
            headers = MutableHeaders(scope=start)
            headers["content-length"] = str(len(page))
            if is_shared:
                headers["x-robots-tag"] = "noindex"
            await send(start)
            await send({"type": "http.response.body", "body": page})

        await self.app(scope, receive, rewritten)


class Streams:
    """The number of streams that are open."""

    def __init__(self) -> None:
        self.num_open = 0


def middleware(
    limits: Limits,
    on_space: bool,
    on_disconnect: Callable[[str], None],
    streams: Streams,
    link_tags: str = "",
    is_owner: IsOwner = lambda cookies: False,
    start: Start | None = None,
) -> list[Middleware]:
    """The middleware around Gradio's own routes, outermost first."""
    return [
        Middleware(SecurityHeaders),
        Middleware(Failures),
        Middleware(Delivery, start),
        Middleware(VisitorLimits, limits=limits, on_space=on_space, is_owner=is_owner),
        Middleware(OpenRoutes),
        Middleware(BodyLimit, int(limits.max_upload_mb * 1e6), int(limits.max_request_kb * 1e3)),
        Middleware(DisconnectWatcher, on_disconnect=on_disconnect, streams=streams),
        Middleware(LinkPreview, link_tags + (start.tags if start else ""), start.styles if start else ""),
    ]


def too_large(limit: int) -> JSONResponse:
    """The refusal of a body of more than `limit` bytes."""
    return refusal(413, f"This request is larger than {limit / 1e6:,.1f} MB, which is the limit. Send less.")


def session_of(scope: Scope) -> str:
    """The session whose answers this request reads; empty if it reads none."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return ""
    route = route_of(scope)
    if route == f"{API}/queue/data":
        return parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
    call = _CALL.fullmatch(route)
    return call[1] if call else ""


class _Held:
    """Bytes of bodies in memory."""

    def __init__(self) -> None:
        self.num_bytes = 0


class _Body:
    """One request's body on its way in. If it is cut off, the app sees a client that disconnected."""

    def __init__(self, receive: Receive, send: Send, limit: int, held: _Held | None) -> None:
        """`held` counts what all bodies take that are read whole and may be large."""
        self._receive, self._send, self._left, self._limit = receive, send, limit, limit
        self._held, self._num_held = held, 0
        self._until: float | None = time.monotonic() + BODY_SECONDS
        """`None` once the body is complete: after that only the end of the connection is received."""
        self.refusal: JSONResponse | None = None
        self.has_response = False
        self._whole: Message | None = None
        """A body that was read before the app asked for it."""

    async def read_json(self) -> None:
        """Read the body to its end; `refusal` is set if the app must not see it."""
        parts: list[bytes] = []
        while self.refusal is None:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                self._whole = message
                return
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                self._whole = {"type": "http.request", "body": b"".join(parts), "more_body": False}
                self.refusal = await json_refusal(self._whole["body"])
                return

    async def receive(self) -> Message:
        if self.refusal is not None:
            return {"type": "http.disconnect"}
        if self._whole is not None:
            whole, self._whole = self._whole, None
            return whole
        if self._until is None:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, self._until - time.monotonic()))
        except TimeoutError:
            return self._cut(refusal(408, f"The request took longer than {BODY_SECONDS:.0f} seconds. Send it again."))
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            return self._cut(too_large(self._limit))
        if self._held is not None and not self._hold(self._held, len(message.get("body", b""))):
            return self._cut(refusal(503, "Many pictures are being sent just now; send yours again in a minute.", 10))
        if not message.get("more_body"):
            self._until = None
        return message

    async def send(self, message: Message) -> None:
        """Once the body was cut off, the refusal is sent in the place of the app's response."""
        if self.refusal is not None and not self.has_response:
            return
        self.has_response = True
        await self._send(message)

    def _hold(self, held: _Held, num_bytes: int) -> bool:
        """Take these bytes; False if others have too many."""
        if held.num_bytes > self._num_held and held.num_bytes + num_bytes > MAX_HELD_BYTES:
            return False
        self._num_held += num_bytes
        held.num_bytes += num_bytes
        return True

    def release(self) -> None:
        """Give them back; the app has what it needs of the body."""
        if self._held is not None:
            self._held.num_bytes -= self._num_held
        self._num_held = 0

    def _cut(self, response: JSONResponse) -> Message:
        self.refusal = response
        return {"type": "http.disconnect"}
