"""Caps on bodies and on visitors, as bare ASGI: every middleware with a small app behind it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from inference.common.settings import DEFAULT_LIMITS
from inference.server import middleware as guard
from inference.server import routes
from inference.server.middleware import (
    BodyLimit,
    DisconnectWatcher,
    SecurityHeaders,
    Streams,
    VisitorLimits,
    session_of,
)
from inference.server.routes import MAX_JSON_VALUES, Failures, OpenRoutes


@dataclass
class Caller:
    """One request and what became of it."""

    chunks: Iterable[bytes] = (b"",)
    path: str = "/gradio_api/queue/join"
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    peer: str = "192.0.2.1"
    query: str = ""
    pause: float = 0.0
    """Seconds before each chunk."""
    sent: list[Any] = field(default_factory=list)

    async def call(self, app: Any) -> Caller:
        chunks = list(self.chunks)
        scope = {
            "type": "http",
            "method": self.method,
            "path": self.path,
            "query_string": self.query.encode(),
            "client": (self.peer, 1),
            "headers": [(name.encode(), value.encode()) for name, value in self.headers.items()],
        }

        async def receive() -> Any:
            await asyncio.sleep(self.pause)
            if chunks:
                return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}
            await asyncio.sleep(3600)

        async def send(message: Any) -> None:
            self.sent.append(message)

        await app(scope, receive, send)
        return self

    @property
    def status(self) -> int:
        starts = [message["status"] for message in self.sent if message["type"] == "http.response.start"]
        assert len(starts) == 1, "an answer has one beginning"
        return starts[0]

    @property
    def detail(self) -> str:
        return json.loads(b"".join(message.get("body", b"") for message in self.sent))["detail"]


async def reads_all(scope: Any, receive: Any, send: Any) -> None:
    """An app that reads the body, and fails as Starlette does if its caller goes away."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RuntimeError("ClientDisconnect")
        size, more = size + len(message["body"]), message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


async def hides_it(scope: Any, receive: Any, send: Any) -> None:
    """An app that answers a caller who goes away with an error of its own."""
    try:
        await reads_all(scope, receive, send)
    except RuntimeError:
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body", "body": b"odd body"})


@pytest.fixture(params=[reads_all, hides_it])
def limited(request: pytest.FixtureRequest) -> BodyLimit:
    return BodyLimit(request.param, max_upload_bytes=5_000_000, max_body_bytes=1_000)


SIZES = [
    ([b"1" * 1000], {}, 200),
    ([b"1" * 500, b"1" * 500], {}, 200),
    ([b"1" * 1001], {}, 413),
    ([b"1"] * 1001, {}, 413),
    ([b""], {"content-length": "1001"}, 413),
    ([b""], {"content-length": "9" * 5000}, 413),
    ([b"1" * 10], {"content-length": "no number"}, 200),
    ([b"1" * 2000], {"content-length": "10"}, 413),
]


@pytest.mark.parametrize(("chunks", "headers", "status"), SIZES)
def test_a_body_is_cut_off_at_its_cap(
    limited: BodyLimit, chunks: list[bytes], headers: dict[str, str], status: int
) -> None:
    caller = asyncio.run(Caller(chunks, headers=headers).call(limited))
    assert caller.status == status
    if status == 413:
        assert "limit" in caller.detail


def test_no_more_is_read_than_the_cap(limited: BodyLimit) -> None:
    read: list[int] = []

    def endless() -> Iterable[bytes]:
        for i in range(10_000):
            read.append(i)
            yield b"x" * 100

    source = iter(endless())
    caller = Caller()

    async def call() -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": next(source), "more_body": True}

        async def send(message: Any) -> None:
            caller.sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b"", "client": None}
        await limited(scope, receive, send)  # type: ignore[arg-type]

    asyncio.run(call())
    assert caller.status == 413 and len(read) == 11


def test_an_upload_may_be_as_large_as_a_file(limited: BodyLimit) -> None:
    """Its path is compared whole: no other one is an upload's, whatever it ends in."""
    fits, too_large = [b"x" * 1_000_000] * 5, [b"x" * 1_000_000] * 6
    others = ("upload/", "uploads", "run/upload", "call/upload", "x/gradio_api/upload", "/upload")
    assert asyncio.run(Caller(fits, path="/gradio_api/upload").call(limited)).status == 200
    for path, status in ((f"/gradio_api/{name}", 413) for name in others):
        assert asyncio.run(Caller(fits, path=path).call(limited)).status == status
    assert asyncio.run(Caller(too_large, path="/gradio_api/upload").call(limited)).status == 413


def test_a_body_that_trickles_is_cut_off(limited: BodyLimit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.05)
    caller = asyncio.run(Caller([b"x"] * 100, pause=0.01).call(limited))
    assert caller.status == 408


def test_headers_stand_on_every_answer() -> None:
    sent = asyncio.run(Caller().call(SecurityHeaders(reads_all))).sent
    assert dict(sent[0]["headers"])[b"x-content-type-options"] == b"nosniff"


def visitors(on_space: bool = False, app: Any = reads_all, **limits: Any) -> VisitorLimits:
    return VisitorLimits(app, DEFAULT_LIMITS.model_copy(update=limits), on_space, lambda cookies: "key" in cookies)


def statuses(app: Any, callers: list[Caller]) -> list[int]:
    async def all_in_turn() -> list[int]:
        return [(await caller.call(app)).status for caller in callers]

    return asyncio.run(all_in_turn())


def test_calls_are_counted_for_each_visitor() -> None:
    app = visitors(calls_per_minute=10)
    assert statuses(app, [Caller() for _ in range(12)]) == [200] * 10 + [429] * 2
    last = asyncio.run(Caller().call(app))
    assert "try again in" in last.detail and b"retry-after" in dict(last.sent[0]["headers"])
    assert statuses(app, [Caller(peer="192.0.2.2"), Caller(method="GET")]) == [200, 200]


def test_off_a_space_nobody_becomes_another_by_a_header() -> None:
    for on_space, expected in ((False, [200] * 10 + [429] * 2), (True, [200] * 12)):
        callers = [Caller(headers={"x-forwarded-for": f"8.8.8.{i}"}) for i in range(12)]
        assert statuses(visitors(on_space, calls_per_minute=10), callers) == expected


def test_uploads_are_weighed_for_each_visitor_and_for_all() -> None:
    megabyte = [b"x" * 500_000] * 2
    app = visitors(uploads_mb_per_hour=2, all_uploads_mb_per_hour=3)
    own = [Caller(megabyte, path="/gradio_api/upload") for _ in range(3)]
    assert statuses(app, own) == [200, 200, 429] and "you have uploaded" in own[2].detail
    others = [Caller(megabyte, path="/gradio_api/upload", peer=f"192.0.2.{i}") for i in (2, 3)]
    assert statuses(app, others) == [200, 429] and "everybody together" in others[1].detail
    assert statuses(app, [Caller()]) == [200]


async def _open(app: Any, callers: list[Caller], then: Callable[[], Awaitable[None]]) -> None:
    tasks = [asyncio.ensure_future(caller.call(app)) for caller in callers]
    for _ in range(100):  # turns of the loop, until each of them waits
        await asyncio.sleep(0)
    await then()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _waits(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/wait":
        await asyncio.sleep(3600)
    await reads_all(scope, receive, send)


def test_open_requests_are_bounded_and_health_passes() -> None:
    app = visitors(app=_waits, connections=4, all_connections=8)

    async def mine() -> None:
        assert (await Caller().call(app)).status == 429
        assert (await Caller(peer="192.0.2.2").call(app)).status == 200

    async def all_of_them() -> None:
        assert (await Caller(peer="192.0.2.9").call(app)).status == 503
        assert (await Caller(peer="192.0.2.9", path="/healthz", method="GET").call(app)).status == 200

    async def both() -> None:
        waiting = [Caller(path="/wait", method="GET") for _ in range(4)]
        await _open(app, waiting, mine)
        await _open(app, [Caller(path="/wait", method="GET", peer=f"192.0.2.{i}") for i in range(8)], all_of_them)
        assert (await Caller().call(app)).status == 200
        assert not app._open, "a visitor who has gone is remembered"

    asyncio.run(both())


def test_limits_that_others_use_up_keep_nobody_out_who_may_train() -> None:
    """Everything is full, also of the owner's own address: a log-in and a browser with the key pass, others do not."""
    megabyte = [b"x" * 500_000] * 2
    limits = {"connections": 4, "all_connections": 8, "calls_per_minute": 10}
    app = visitors(app=_waits, uploads_mb_per_hour=1, all_uploads_mb_per_hour=1, **limits)
    key = {"cookie": "a=b; key=right"}

    async def while_full() -> None:
        for caller in (Caller(), Caller(peer="192.0.2.9"), Caller(headers={"cookie": "key2=right"})):
            assert (await caller.call(app)).status in (429, 503)
        assert (await Caller(path="/admin/login").call(app)).status == 200
        assert (await Caller(path="/admin/login/other").call(app)).status == 503
        for path in ("/", "/gradio_api/queue/join", "/gradio_api/upload"):
            assert (await Caller(megabyte, path=path, headers=key).call(app)).status == 200

    async def both() -> None:
        for _ in range(12):
            await Caller(megabyte, path="/gradio_api/upload").call(app)
        waiting = [Caller(path="/wait", method="GET", peer=f"192.0.2.{i // 4 + 1}") for i in range(8)]
        await _open(app, waiting, while_full)

    asyncio.run(both())


VALUES = [
    (b'{"data": ["a, [b], {c}", 1.5, null]}', ""),
    (json.dumps({"data": ["," * 20_000 + '\\" [']}).encode(), ""),
    (json.dumps({"data": list(range(MAX_JSON_VALUES - 2))}).encode(), ""),
    (json.dumps({"data": list(range(MAX_JSON_VALUES))}).encode(), "more than 5,000 values"),
    (b"[" * 30 + b"]" * 30, ""),
    (b"[" * 4_000 + b"]" * 4_000, "32 deep"),
    (b'{"data": ["' + b'[{"a":' * 17 + b"1" + b"}]" * 17 + b'"', "not JSON"),
    (b'{"data": ' + b'[{"a":' * 17 + b"1" + b"}]" * 17 + b"}", "32 deep"),
    (b"1" * 5_000, "not JSON"),
    (b"image=1&question=2", "not JSON"),
    (b'{"data": "\xff"}', "not JSON"),
    (b'\xef\xbb\xbf{"data": 1}', ""),
    # U+2200 holds the byte of a quotation mark, after which what counts the values sees texts alone
    *(
        (('{"data": ["\u2200", [' + "0," * 6_000 + "1]]}").encode(code), "not JSON")
        for code in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")
    ),
    (b"", ""),
]


@pytest.mark.parametrize(("body", "words"), VALUES)
def test_json_is_read_within_its_limits(body: bytes, words: str) -> None:
    """The app sees the body as it came, or nothing of it."""
    app = BodyLimit(reads_all, max_upload_bytes=5_000_000, max_body_bytes=100_000)
    caller = asyncio.run(Caller([body[:9], body[9:]]).call(app))
    assert caller.status == (400 if words else 200)
    assert words in caller.detail if words else caller.sent[-1]["body"] == str(len(body)).encode()


@pytest.mark.parametrize("part", [b'\\"', b'"a', b"[,", b'{"a":', b"\\\\", b'"\\', b",1e308"])
def test_no_body_costs_much_to_refuse(part: bytes) -> None:
    """A million bytes of anything: reading them again and again would take minutes."""
    begun = time.process_time()
    assert routes._problem_of(part * (1_000_000 // len(part)) + b"," * MAX_JSON_VALUES)
    assert time.process_time() - begun < 1.5


def test_json_is_read_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    problem_of = routes._problem_of

    def noted(body: bytes) -> str:
        threads.append(threading.current_thread().name)
        return problem_of(body)

    monkeypatch.setattr(routes, "_problem_of", noted)
    assert asyncio.run(Caller([b"[1]"]).call(BodyLimit(reads_all, 10, 10))).status == 200
    assert len(threads) == 1 and threads[0] != threading.main_thread().name


@pytest.mark.parametrize(
    ("path", "status"),
    [
        *((f"/gradio_api/{name}", 200) for name in ("queue/join", "call/ask", "call/v2/ask/e1", "file=/tmp/a b.png")),
        *((path, 200) for path in ("/", "/config", "/healthz", "/admin/login", "/assets/index.js")),
        *((f"/gradio_api/file={path}", 404) for path in ("http://10.0.0.1/", "HTTPS://a", "\nhttp://a", "a.png", "")),
        *(
            (f"/gradio_api/{name}", 404)
            for name in ("proxy=http://a", "file/http://a", "process_recording", "deep_link")
        ),
        *(
            (f"/gradio_api/{name}", 404)
            for name in ("custom_component/x/client/y/z", "component_server", "a/upload", "")
        ),
    ],
)
def test_what_this_app_does_not_need_of_gradio_is_closed(path: str, status: int) -> None:
    caller = asyncio.run(Caller(path=path, method="GET").call(OpenRoutes(reads_all)))
    assert caller.status == status
    assert status == 200 or "nothing at this address" in caller.detail


def test_behind_a_prefix_the_same_routes_are_compared() -> None:
    """A proxy that serves the app below a path: whatever the router takes for a route, the limits do too."""

    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(routes.route_of(scope | {"root_path": "/look"}))

    for path in ("/look/gradio_api/upload", "/gradio_api/upload", "/look", "/looks/gradio_api/upload"):
        asyncio.run(Caller(path=path).call(app))
    assert seen == ["/gradio_api/upload", "/gradio_api/upload", "", "/looks/gradio_api/upload"]


def test_a_failure_becomes_words(caplog: pytest.LogCaptureFixture) -> None:
    words = "words of a visitor"

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError(words)

    caller = asyncio.run(Caller().call(Failures(fails)))
    assert caller.status == 500 and "on our side" in caller.detail
    assert "KeyError" in caplog.text and words not in caplog.text


STREAMS = [
    ("GET", "/gradio_api/queue/data", "session_hash=abc", "abc"),
    ("GET", "/gradio_api/queue/data", "", ""),
    ("GET", "/gradio_api/call/ask/e1", "", "e1"),
    ("GET", "/gradio_api/call/v2/ask/e1", "", "e1"),
    ("GET", "/x/queue/data", "session_hash=abc", ""),
    ("GET", "/file=/call/ask/e1", "", ""),
    ("POST", "/gradio_api/call/ask", "", ""),
    ("POST", "/gradio_api/queue/join", "", ""),
    ("GET", "/", "session_hash=abc", ""),
]


@pytest.mark.parametrize(("method", "path", "query", "session"), STREAMS)
def test_whose_stream_it_is(method: str, path: str, query: str, session: str) -> None:
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
    assert session_of(scope) == session


def test_only_a_stream_that_was_hung_up_on_is_left() -> None:
    gone: list[str] = []
    streams = Streams()

    async def streaming(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data", "more_body": True})
        if scope["query_string"].endswith(b"long"):
            await asyncio.sleep(3600)
        await send({"type": "http.response.body", "body": b""})

    app = DisconnectWatcher(streaming, gone.append, streams)

    async def both() -> None:
        for session in ("short", "long"):
            caller = Caller(path="/gradio_api/queue/data", method="GET", query=f"session_hash={session}")

            async def check() -> None:
                assert gone == [] and streams.num_open == (session == "long")  # noqa: B023

            await _open(app, [caller], check)

    asyncio.run(both())
    assert gone == ["long"] and streams.num_open == 0
