"""Connections that send half a request, none, or read no answer, against a real server on a free port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import uvicorn

from inference.common.settings import DEFAULT_LIMITS
from inference.server import connections
from inference.server.connections import limit_connections, most_connections
from tests.support.serving import WAIT_SECONDS

MOST = 6
HALF = b"GET / HTTP/1.1\r\nHost: here\r\nX-Long: "


async def app(scope: Any, receive: Any, send: Any) -> None:
    """`/slow` answers when it is asked on `/go`, `/large` sends more than a socket holds, the rest answers at once."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/go":
        GO.set()
    if scope["path"] == "/slow":
        while not GO.is_set():
            await asyncio.sleep(0.01)
    body = bytes(50_000_000) if scope["path"] == "/large" else b"answer"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    for start in range(0, len(body), 1_000_000):
        await send({"type": "http.response.body", "body": body[start : start + 1_000_000], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


GO = threading.Event()


@pytest.fixture(scope="module")
def server() -> Iterator[uvicorn.Server]:
    running = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=running.run)
    thread.start()
    wait_until(lambda: running.started)
    limit_connections(running, MOST)
    yield running
    running.should_exit = True
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive(), "a server with connections ends"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.4)
    monkeypatch.setattr(connections, "STALL_SECONDS", 0.4)
    GO.clear()


def port_of(server: uvicorn.Server) -> int:
    return server.servers[0]._listener.getsockname()[1]  # type: ignore[attr-defined]


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.01)


def opened(server: uvicorn.Server, sent: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port_of(server)), timeout=WAIT_SECONDS)
    client.sendall(sent)
    return client


def is_closed(client: socket.socket) -> bool:
    """True once the server has closed it; waits for that."""
    with contextlib.suppress(ConnectionError):
        while client.recv(1_000_000):
            pass
    client.close()
    return True


def reads_answer(client: socket.socket) -> bool:
    received = b""
    while not received.endswith(b"answer"):
        received += client.recv(10_000)
        assert received
    return True


def get(server: uvicorn.Server, path: str = "/") -> str:
    return httpx.get(f"http://127.0.0.1:{port_of(server)}{path}", timeout=WAIT_SECONDS).text


@pytest.mark.parametrize("sent", [b"", HALF, HALF.replace(b"\r\nHost", b"\r\nConnection: keep-alive\r\nHost")])
def test_a_connection_without_a_whole_request_ends(server: uvicorn.Server, sent: bytes) -> None:
    assert is_closed(opened(server, sent))


def test_bytes_that_trickle_do_not_prolong_it(server: uvicorn.Server) -> None:
    client, began = opened(server, HALF), time.monotonic()
    with pytest.raises(ConnectionError):
        while time.monotonic() - began < 10:
            client.sendall(b"x")
            time.sleep(0.05)
    assert time.monotonic() - began < 5 and is_closed(client)


def test_an_idle_keep_alive_ends_and_one_in_use_does_not(server: uvicorn.Server) -> None:
    whole = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
    client = opened(server)
    for _ in range(4):  # longer together than one may wait
        client.sendall(whole)
        assert reads_answer(client)
        time.sleep(0.15)
    client.sendall(HALF)
    assert is_closed(client)


def test_whoever_is_answered_stays_and_the_one_that_waits_longest_makes_way(
    server: uvicorn.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", WAIT_SECONDS)
    with opened(server, b"GET /slow HTTP/1.1\r\nHost: here\r\n\r\n") as answered:
        body = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\nhalf"
        waiting = [opened(server, sent) for sent in (HALF, body, b"") for _ in range(20)]
        assert [is_closed(client) for client in waiting[: len(waiting) - MOST]]
        assert len(server.server_state.connections) <= MOST
        assert get(server, "/go") == "answer"
        assert reads_answer(answered)
        for client in waiting:
            client.close()


def test_a_newcomer_is_refused_while_all_are_answered(server: uvicorn.Server) -> None:
    wait_until(lambda: not server.server_state.connections)
    slow = [opened(server, b"GET /slow HTTP/1.1\r\nHost: here\r\n\r\n") for _ in range(MOST)]
    wait_until(lambda: sum(one.is_answering for one in server.server_state.connections) == MOST)  # type: ignore[union-attr]
    assert is_closed(opened(server))
    GO.set()
    assert all(map(reads_answer, slow))
    for client in slow:
        client.close()
    assert get(server) == "answer"


def test_a_client_that_reads_nothing_is_cut_off(server: uvicorn.Server) -> None:
    wait_until(lambda: not server.server_state.connections)
    with opened(server, b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n"):
        wait_until(lambda: bool(server.server_state.connections))
        wait_until(lambda: not server.server_state.connections)
    assert len(get(server, "/large")) == 50_000_000


@pytest.mark.parametrize(("descriptors", "most"), [(1_024, 800), (256, 128), (1_000_000, 800)])
def test_there_are_fewer_than_descriptors(descriptors: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections.resource, "getrlimit", lambda which: (descriptors, 1_000_000))
    assert most_connections(DEFAULT_LIMITS) == most
