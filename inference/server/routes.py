"""The requests that reach Gradio: those to routes that a page or a client needs, with JSON of bounded work.

Gradio has routes for what this app has not (loaded apps, workflows, recordings, editing by a model, links that store a
page's state). Some fetch an address that the caller names, some write files, some print what was sent; all of them
are closed, and a new one of a later Gradio stays closed until it is named here. Paths are compared whole.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable

from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.common.logs import failure

API = "/gradio_api"
UPLOAD_ROUTE = f"{API}/upload"
OPENAI = "/v1"
CHAT_ROUTE = f"{OPENAI}/chat/completions"
MCP_ROUTE = "/mcp"
PICTURE_ROUTES = (UPLOAD_ROUTE, CHAT_ROUTE, MCP_ROUTE)
"""The routes whose bodies hold pictures: the first takes a form, the others JSON with data URIs."""
_RELEASE = "lookthink.release_body"
_OPEN = re.compile(
    r"/(?:(?:info|openapi\.json|app_id|user|login_check|startup-events|theme\.css|reset|cancel)/?"
    r"|upload|upload_progress|queue/(?:join|data|status)"
    r"|(?:run|api)/[^/]+/?|call/(?:v2/)?[^/]+(?:/[^/]*)?"
    r"|file=/.*)",  # the path of a file here, never an address
    re.DOTALL,
)
"""The routes of Gradio's interface that are open, after `API`."""
MAX_JSON_VALUES = 5_000
"""Values within one body: Gradio walks through them several times. An event of the page has under a hundred."""
MAX_JSON_DEPTH = 32
"""Lists and objects within each other; Gradio walks through them by recursion."""
TOO_DEEP = f"This request nests values more than {MAX_JSON_DEPTH} deep, which is the limit. Send them flat."
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""A text, also one that is not closed: what was read once is never read again, so any body takes linear time."""
_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
BROKEN = "Something broke on our side. Try again; the failure has been logged."


def route_of(scope: Scope) -> str:
    """The path within the app, without the prefix of a proxy (`root_path`), as the router gets it."""
    return get_route_path(scope)


def is_upload(scope: Scope) -> bool:
    """True for the one route that takes a file."""
    return route_of(scope) == UPLOAD_ROUTE


def carries_pictures(scope: Scope) -> bool:
    """True for the routes whose bodies may be as large as pictures are, and count as uploads."""
    return route_of(scope) in PICTURE_ROUTES


def on_release(scope: Scope, release: Callable[[], None]) -> None:
    """Let `release_body` call this, once the app has unpacked the body."""
    scope[_RELEASE] = release


def release_body(scope: Scope) -> None:
    """Give back the body's share of the memory for bodies, before the request ends."""
    scope.get(_RELEASE, lambda: None)()


def is_form(scope: Scope) -> bool:
    """True if the body is a form by its header; every other body of a request to this app is JSON."""
    return Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower() in _FORMS


class OpenRoutes:
    """Refuses with 404 what no page and no client of this app needs of Gradio, before anything is done for it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(route_of(scope)):
            await refusal(404, "There is nothing at this address.")(scope, receive, send)
            return
        await self.app(scope, receive, send)


class Failures:
    """Answers with words where the app fails before its response has begun; logs the frames."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:  # of whatever kind: Gradio's routes raise what their callers' values cause
            if scope["type"] != "http" or has_begun:
                raise
            failure("A request failed.", error)
            await refusal(500, BROKEN)(scope, receive, send)


def is_open(route: str) -> bool:
    """True for the app's own routes and those of Gradio's interface that are needed.

    >>> is_open("/gradio_api/file=/tmp/a.png"), is_open("/gradio_api/file=http://10.0.0.1/")
    (True, False)
    """
    return not f"{route}/".startswith(f"{API}/") or bool(_OPEN.fullmatch(route.removeprefix(API)))


async def json_refusal(body: bytes) -> JSONResponse | None:
    """The refusal of a body that is not JSON or would be too much work; it is read on a thread of its own."""
    problem = await asyncio.to_thread(_problem_of, body) if body else ""
    return refusal(400, problem) if problem else None


def _problem_of(body: bytes) -> str:
    if _num_values(body) > MAX_JSON_VALUES and _num_values(_TEXT.sub(b"", body)) > MAX_JSON_VALUES:
        return f"This request holds more than {MAX_JSON_VALUES:,} values, which is the limit. Send fewer."
    try:  # as text, since of bytes `json` also takes UTF-16 and UTF-32, in which nothing above is counted right
        level = [json.loads(body.decode("utf-8-sig"))]
    except RecursionError:
        return TOO_DEEP
    except ValueError:
        return "The body of this request is not JSON that can be read. Send a JSON object."
    for _ in range(MAX_JSON_DEPTH):
        lists = [value for value in level if isinstance(value, list)]
        objects = [list(value.values()) for value in level if isinstance(value, dict)]
        level = [value for values in (*lists, *objects) for value in values]
        if not level:
            return ""
    return TOO_DEEP


def _num_values(body: bytes) -> int:
    """At least as many values as the JSON has; nothing is built to count them."""
    return sum(body.count(mark) for mark in (b",", b"[", b"{"))


class Refusal(JSONResponse):
    """A refusal as Gradio's page and `gradio_client` read it, and under `/v1` as OpenAI's clients do."""

    def __init__(self, status: int, detail: str, headers: dict[str, str]) -> None:
        super().__init__({"detail": detail}, status, headers)
        self._detail = detail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if f"{route_of(scope)}/".startswith(f"{OPENAI}/"):
            self.body = self.render({"error": openai_error(self._detail, self.status_code)})
            self.headers["content-length"] = str(len(self.body))
        await super().__call__(scope, receive, send)


def refusal(status: int, detail: str, wait_seconds: float = 0.0) -> Refusal:
    """A refusal; `wait_seconds` become `Retry-After`.

    The connection is closed, as the rest of the body may still be on its way.
    """
    headers = {"connection": "close"}
    if wait_seconds:
        headers["retry-after"] = str(max(1, round(wait_seconds)))
    return Refusal(status, detail, headers)


def openai_error(message: str, status: int, param: str | None = None, code: str | None = None) -> dict[str, str | None]:
    """The object that OpenAI's clients find under `error`."""
    kinds = {429: "rate_limit_error", 500: "server_error", 503: "server_error"}
    words = message.encode("utf-8", "replace").decode()
    return {"message": words, "type": kinds.get(status, "invalid_request_error"), "param": param, "code": code}
