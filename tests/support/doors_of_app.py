"""Every door of a running app, listed from the app itself, and callers who have no right to any."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import inspect
import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import itsdangerous

from tests.support.serving import WAIT_SECONDS, Server

OURS_IN_PUBLIC = ("inference.", "gradio.", "training.ui.learn.")
"""Handlers of these modules are open to everybody; all others are the admin's."""
STREAM_SECONDS = 0.3
"""What comes of a stream in this time is looked at; some never end."""


@dataclass(frozen=True)
class Handler:
    """An event of the page, which is an endpoint whether it is shown or not."""

    index: int
    name: str
    is_admin: bool
    num_inputs: int


@dataclass(frozen=True)
class Stranger:
    """A caller without a right, and what they send."""

    name: str
    headers: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    address: str = "127.0.0.1"
    """The address that they come from, by which the app tells visitors apart."""


@dataclass(frozen=True)
class Answer:
    """What came back from one door."""

    door: str
    stranger: str
    status: int
    text: str
    is_admin: bool = False

    @property
    def succeeded(self) -> bool:
        """True if the handler gave a result."""
        if not self.text.startswith(("event:", "data:")):
            return self.status == 200
        return "event: complete" in self.text or '"success":true' in self.text


def handlers(blocks: Any) -> list[Handler]:
    """All that run on the server."""
    found = []
    for index, fn in blocks.fns.items():
        if fn.fn is None:
            continue
        module = inspect.unwrap(fn.fn).__module__ or ""
        found.append(Handler(index, str(fn.api_name), not f"{module}.".startswith(OURS_IN_PUBLIC), len(fn.inputs)))
    return found


def routes(app: Any) -> set[tuple[str, str]]:
    """Method and path of all routes, those of Gradio's own router included; of two that differ in a slash, one."""
    found: set[tuple[str, str]] = set()
    for route in app.routes:
        inner = route.effective_candidates() if hasattr(route, "effective_candidates") else [route]
        for one in inner:
            methods = getattr(one, "methods", None) or {"GET", "POST"}
            found |= {(method, one.path.rstrip("/") or "/") for method in methods}
    return found


def strangers(server: Server) -> list[Stranger]:
    """Everybody who must be refused."""
    own, name, token = server.url, server.access.cookie_name, server.admin_token
    session = server.access.log_in({"host": own.removeprefix("http://"), "origin": own}, "test", token)
    login = {"userinfo": {"name": "a", "preferred_username": "a", "profile": "", "picture": ""}}
    login |= {"access_token": "hf_x", "scope": "", "expires_at": time.time() + 999}
    key = hashlib.sha256(b"-v4").hexdigest()  # what Gradio signs sessions with where there is no OAuth secret
    signed = itsdangerous.TimestampSigner(key).sign(base64.b64encode(json.dumps({"oauth_info": login}).encode()))
    in_body = {"oauth_token": token, "token": token, "admin_token": token, "session": session, name: session}
    return [
        Stranger("anonymous"),
        Stranger("from the page, not logged in", {"origin": own}),
        Stranger("wrong token", {"origin": own, "authorization": "Bearer wrong", "x-admin-token": "wrong"}),
        Stranger("forged session", {"origin": own}, {name: "x" * 43}),
        Stranger("forged login", {"origin": own}, {"session": signed.decode(), name: "[]"}),
        Stranger("token in the body", {"origin": own}, {}, in_body),
        Stranger("foreign origin", {"origin": "http://evil.example"}, {name: session}),
        Stranger("another port", {"origin": "http://127.0.0.1:1"}, {name: session}),
        Stranger("no origin", {}, {name: session}),
    ]


DOORS = ("run", "queue/join", "call")
"""The ways to a handler: the route without the queue, the queue by its index, and the queue by its name."""


def call_handlers(
    server: Server,
    stranger: Stranger,
    which: list[Handler],
    value: object = None,
    doors: Sequence[str] | Mapping[int, Sequence[str]] = DOORS,
) -> Iterator[Answer]:
    """Each of these handlers with `value` for each input, through these doors: the same for all, or by their index."""
    way = httpx.HTTPTransport(local_address=stranger.address)
    api = f"{server.url}/gradio_api"
    with httpx.Client(base_url=api, timeout=WAIT_SECONDS, headers=stranger.headers, transport=way) as http:
        http.cookies.update(stranger.cookies)
        for handler in which:
            for door in doors[handler.index] if isinstance(doors, Mapping) else doors:
                answer = _through(http, door, handler, [value] * handler.num_inputs, stranger.body)
                name = f"{door} {handler.name}"
                yield Answer(name, stranger.name, answer.status_code, answer.text, handler.is_admin)


def _through(
    http: httpx.Client, door: str, handler: Handler, data: list[object], body: dict[str, Any]
) -> httpx.Response:
    if door == "queue/join":
        session = uuid.uuid4().hex
        asked = {"data": data, "fn_index": handler.index, "session_hash": session, **body}
        joined = http.post("/queue/join", json=asked)
        return http.get("/queue/data", params={"session_hash": session}) if joined.is_success else joined
    made = http.post(f"/{door}/{handler.name}", json={"data": data, **body})
    if door == "call" and made.is_success:
        made = http.get(f"/call/{handler.name}/{made.json()['event_id']}")
    return made


def call_routes(server: Server, stranger: Stranger, paths: list[str], only: str = "") -> Iterator[Answer]:
    """Every route, or those with `only` in them, with each of `paths` in the place of its parameters."""
    alone = httpx.Limits(max_keepalive_connections=0)  # the server hangs up where a request broke it
    way = httpx.HTTPTransport(local_address=stranger.address, limits=alone)
    with httpx.Client(base_url=server.url, timeout=WAIT_SECONDS, headers=stranger.headers, transport=way) as http:
        http.cookies.update(stranger.cookies)
        for method, template in sorted(route for route in routes(server.blocks.app) if only in route[1]):
            for address in dict.fromkeys(_filled(template, path) for path in paths):
                json_body = stranger.body if method in ("POST", "PUT", "PATCH", "DELETE") else None
                request = http.build_request(method, address, json=json_body)
                answer = http.send(request, stream=True)
                yield Answer(f"{method} {address}", stranger.name, answer.status_code, _read(answer))


def _read(answer: httpx.Response) -> str:
    """All of it; of a stream of events what comes at once, as far as Gradio does not break it off."""
    chunks: list[str] = []

    def read() -> None:
        with contextlib.suppress(httpx.HTTPError, httpx.StreamError, OSError):
            chunks.extend(answer.iter_text())

    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(STREAM_SECONDS)
        with contextlib.suppress(OSError):  # it has ended by itself
            answer.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        reader.join(WAIT_SECONDS)
    else:
        read()
    answer.close()
    return "".join(chunks)


def _filled(template: str, value: str) -> str:
    """A route's path with `value` for each parameter."""
    parts = template.split("{")
    return parts[0] + "".join(value + part.partition("}")[2] for part in parts[1:])
