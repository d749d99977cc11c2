"""How much one visitor may send, and all of them together; ASGI middleware, on the server's own loop.

A page load is a hundred small GET requests and is not counted: what can cost something comes with a body. Requests
that are open count for everybody, as each holds a connection. `/healthz` passes always.
"""

from __future__ import annotations

from collections import Counter

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.common.logs import event
from inference.common.settings import Limits
from inference.server.health import PATH as HEALTH_PATH
from inference.server.middleware import UPLOAD_ROUTE, words
from inference.server.rate_limit import RateLimit, whole_seconds
from inference.server.visitors import pseudonym, visitor_of

_HOUR = 3600
_ALL = "all"


class VisitorLimits:
    """Refuses with 429 what is one visitor's fault, and with 503 what is nobody's; always in words."""

    def __init__(self, app: ASGIApp, limits: Limits, on_space: bool) -> None:
        self.app, self._limits, self._on_space = app, limits, on_space
        self._calls = RateLimit(limits.calls_per_minute, 60)
        self._uploads = RateLimit(limits.uploads_mb_per_hour, _HOUR)
        self._all_uploads = RateLimit(limits.all_uploads_mb_per_hour, _HOUR, max_keys=1)
        self._open: Counter[str] = Counter()
        """Requests that are open, by visitor; a visitor without one has no entry."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == HEALTH_PATH:
            await self.app(scope, receive, send)
            return
        peer = scope["client"][0] if scope.get("client") else None
        visitor = visitor_of(peer, Headers(scope=scope).get("x-forwarded-for"), self._on_space)
        refusal = self._refusal(scope, visitor)
        if refusal is not None:
            event("refused", visitor=pseudonym(visitor), status=refusal.status_code, method=scope["method"])
            await refusal(scope, receive, send)
            return
        self._open[visitor] += 1
        try:
            await self.app(scope, self._weighed(scope, visitor, receive), send)
        finally:
            self._open[visitor] -= 1
            if not self._open[visitor]:
                del self._open[visitor]

    def _refusal(self, scope: Scope, visitor: str) -> JSONResponse | None:
        """Why this request is not taken, if it is not."""
        limits = self._limits
        if self._open.total() >= limits.all_connections:
            return words(503, "Too many visitors are here just now; try again in a minute.", 60)
        if self._open[visitor] >= limits.connections:
            return words(429, f"You have {limits.connections} requests open; close a page or wait for an answer.", 10)
        if scope["method"] not in ("POST", "PUT", "PATCH", "DELETE"):
            return None
        wait = self._calls.take(visitor)
        if wait:
            return words(429, f"That was too much at once; try again in {whole_seconds(wait)}.", wait)
        if not _is_upload(scope):
            return None
        wait, whose = self._uploads.take(visitor, 0.001), "you have"
        if not wait:
            wait, whose = self._all_uploads.take(_ALL, 0.001), "everybody together has"
        if wait:
            return words(429, f"In the last hour {whose} uploaded as much as is allowed; try again later.", wait)
        return None

    def _weighed(self, scope: Scope, visitor: str, receive: Receive) -> Receive:
        """The same, with the bytes of an upload taken off the allowances as they come."""
        if not _is_upload(scope):
            return receive

        async def weigh() -> Message:
            message = await receive()
            megabytes = len(message.get("body", b"")) / 1e6
            self._uploads.owe(visitor, megabytes)
            self._all_uploads.owe(_ALL, megabytes)
            return message

        return weigh


def _is_upload(scope: Scope) -> bool:
    return bool(scope["path"].rstrip("/").endswith(UPLOAD_ROUTE))
