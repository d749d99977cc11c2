"""A Hub on loopback: the routes that the real clients need, behind `HF_ENDPOINT`.

    hub = Hub()
    hub.repo("dataset", "owner/name").commit({"train.jsonl": b"..."})
    with serve(hub) as url: ...

Its repositories are in memory (`tests.support.hub.repos`). Errors have the statuses and headers of the Hub, because the
clients decide by them; `hub.faults` (`tests.support.hub.faults`) injects faults. `tests.support.hub.client` points the
clients of this process here. Reads are in `tests.support.hub.reading`, commits in `tests.support.hub.commits`.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.hub import buckets as hub_buckets
from tests.support.hub import commits as hub_commits
from tests.support.hub import jobs as hub_jobs
from tests.support.hub import oauth as hub_oauth
from tests.support.hub import reading as hub_reading
from tests.support.hub import spaces as hub_spaces
from tests.support.hub.faults import NONSENSE, Fault, strike
from tests.support.hub.http import Answer, Refused, Request, Routes
from tests.support.hub.repos import Hub

ROUTES: Routes = (
    *hub_commits.ROUTES,
    *hub_jobs.ROUTES,
    *hub_oauth.ROUTES,
    *hub_reading.ROUTES,
    *hub_spaces.ROUTES,
    *hub_buckets.ROUTES,
)
"""All else is answered with 404."""


def answer(
    hub: Hub, method: str, target: str, body: bytes, user: str | None, range: str | None = None, host: str = ""
) -> Answer:
    """What the Hub says to one request."""
    address = urlsplit(target)
    if hub.failure is not None:
        return Answer(hub.failure, b"the Hub is out of order")
    for methods, pattern, handler in ROUTES:
        match = pattern.fullmatch(address.path)
        if match and method in methods.split():
            parts = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
            try:
                return handler(hub, Request(method, parts, parse_qs(address.query), body, user, range, host))
            except Refused as refused:
                return refused.answer
    return Answer(404, b"no such route")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else head and body of an answer, sent apart, are 40 ms apart
    hub: Hub

    def do_GET(self) -> None:
        hub = self.hub
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.requests.append((self.command, self.path))
        if token := self._token():
            hub.more.setdefault("tokens_seen", set()).add(token)
        fault = strike(hub.faults, self.command, urlsplit(self.path).path)
        if fault is not None and fault.kind == "refused":
            return self._cut()
        found = self._struck(fault) if fault is not None else None
        self._send(found or self._answer(body), fault)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _token(self) -> str:
        kind, _, token = (self.headers.get("Authorization") or "").partition(" ")
        return token.strip() if kind == "Bearer" else ""  # a Space changes its codes with another kind

    def _answer(self, body: bytes) -> Answer:
        token = self._token()
        if token and token not in self.hub.tokens:
            return Refused(401, "", "Invalid credentials in Authorization header").answer
        host = f"http://{self.headers.get('Host')}"
        user = self.hub.tokens.get(token)
        return answer(self.hub, self.command, self.path, body, user, self.headers.get("Range"), host)

    def _struck(self, fault: Fault) -> Answer | None:
        """What a fault says in the Hub's place; nothing where the request is served all the same."""
        if fault.kind == "slow":
            (fault.gate.wait if fault.gate else time.sleep)(fault.seconds)
        if fault.kind in NONSENSE:
            return self._nonsense(fault.kind)
        if not fault.kind.isdigit():
            return None
        status = int(fault.kind)
        if status == 401:
            return Refused(401, "", "Invalid credentials in Authorization header").answer
        headers = {"Retry-After": str(fault.retry_after)} if status == 429 else {}
        return Answer(status, b"injected", headers)

    def _nonsense(self, kind: str) -> Answer:
        if kind == "html":
            return Answer(200, b"<!doctype html><title>Log in</title>", {"Content-Type": "text/html"})
        if kind == "shape":
            return Answer(200, b'[{"id": 1}, "x"]', {"Content-Type": "application/json"})
        return Answer(302, b"", {"Location": self.hub.more["elsewhere"] + self.path})

    def _send(self, found: Answer, fault: Fault | None) -> None:
        if fault is not None and fault.kind == "lost":
            return self._cut()
        self.send_response(found.status)
        for name, value in found.headers.items():
            self.send_header(name, value)
        if found.stream is None:
            self.send_header("Content-Length", str(len(found.body)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if fault is not None and fault.kind == "reset":
            if self.command != "HEAD":
                self.wfile.write(found.body[: len(found.body) // 2])
            return self._cut()
        if self.command != "HEAD":
            for piece in found.stream if found.stream is not None else (found.body,):
                self.wfile.write(piece)
                self.wfile.flush()

    def _cut(self) -> None:
        """End the connection as a machine does that goes away: with a reset, not with a goodbye."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: `hub.requests` keeps them."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Quiet where a client or a fault ended the connection; our own mistakes are shown."""
        if not isinstance(sys.exception(), (ConnectionError, ValueError)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextlib.contextmanager
def serve(hub: Hub, port: int = 0) -> Iterator[str]:
    """Serve on a free port (or this one) of the loopback interface; gives the address for `HF_ENDPOINT`."""
    listeners = hub.more.setdefault("on_create", [])
    if hub_spaces.created not in listeners:
        listeners.append(hub_spaces.created)
    handler = type("Handler", (_Handler,), {"hub": hub})
    with _Server(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
