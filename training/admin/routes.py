"""The routes of the admin token, off a Space: `POST /admin/login` and `POST /admin/logout`, for the page to fetch.

    await fetch("admin/login", {method: "POST", body: JSON.stringify({token: typed})})

A log-in is answered with a cookie that no script can read and no page of another site can send; a refusal with its
status and `{"error": words}`. The token is never part of an address, so that no access log holds it.
"""

from __future__ import annotations

import json

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from inference.common.logs import event
from inference.server.visitors import pseudonym, visitor_id_of
from training.admin.access import SESSION_SECONDS, Access, NotAllowed

MAX_BODY_BYTES = 4_096


def access_routes(access: Access) -> list[Route]:
    """The routes for the app's server. On a Space they refuse, since Gradio's login is used there."""

    async def log_in(request: Request) -> Response:
        visitor = _visitor(request, access)
        try:
            access.check_origin(request.headers)
            token = await _token(request)
            session = await run_in_threadpool(access.log_in, request.headers, visitor, token)
        except NotAllowed as refusal:
            event("admin_log_in_refused", visitor=pseudonym(visitor), status=refusal.status)
            return refused(refusal)
        event("admin_logged_in", visitor=pseudonym(visitor))
        answer = JSONResponse({"ok": True})
        is_https = _is_https(request)
        answer.set_cookie(
            access.cookie_name, session, SESSION_SECONDS, secure=is_https, httponly=True, samesite="strict"
        )
        return answer

    async def log_out(request: Request) -> Response:
        try:
            await run_in_threadpool(access.log_out, request.headers, request.cookies)
        except NotAllowed as refusal:
            return refused(refusal)
        answer = JSONResponse({"ok": True})
        answer.delete_cookie(access.cookie_name, secure=_is_https(request), httponly=True, samesite="strict")
        return answer

    return [Route("/admin/login", log_in, methods=["POST"]), Route("/admin/logout", log_out, methods=["POST"])]


def refused(refusal: NotAllowed) -> Response:
    """A refusal as an HTTP answer."""
    headers = {"retry-after": str(max(1, round(refusal.wait_seconds)))} if refusal.wait_seconds else {}
    return JSONResponse({"error": str(refusal)}, refusal.status, headers)


def _is_https(request: Request) -> bool:
    """True if the page was loaded by HTTPS: the cookie is then sent by HTTPS only."""
    return request.headers.get("origin", "").lower().startswith("https://")


def _visitor(request: Request, access: Access) -> str:
    peer = request.client.host if request.client else None
    return visitor_id_of(peer, request.headers.get("x-forwarded-for"), access.is_on_space)


async def _token(request: Request) -> str:
    """The token that the page sent; raises `NotAllowed` for anything but a short JSON object with a token."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            break
    try:
        token = json.loads(body[:MAX_BODY_BYTES]).get("token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    if not isinstance(token, str) or len(body) > MAX_BODY_BYTES:
        raise NotAllowed('A log-in is a JSON object such as {"token": "…"}.', 400)
    return token
