"""The server's connections, bounded from their first byte: in time while they wait for their client, and in number.

    most = most_connections(limits)
    limit_connections(server, most)     # once uvicorn has started

A connection without a whole request is closed after `HEADER_SECONDS`, however its bytes trickle, and one whose client
does not read its answer after `STALL_SECONDS`. The number stays below the process's descriptors: at the limit the
one that waits for its client longest makes way, and whoever is being answered stays.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from inference.common.settings import Limits

HEADER_SECONDS = 10.0
"""From a connection's start, or its last answer, to the end of the next request's headers; an idle one ends sooner, by
uvicorn's `timeout_keep_alive` of 5 seconds."""
STALL_SECONDS = 30.0
"""The longest time in which a client reads nothing of its answer."""
RETRY_SECONDS = 0.1
"""After a connection could not be accepted for want of a descriptor."""
OWN_DESCRIPTORS = 224
"""Descriptors kept for files, the database and the libraries."""


class Connection(H11Protocol):
    """One connection."""

    waiting_since = 0.0
    """When it was made, or its last answer ended, by the loop's clock."""
    _deadline: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    @property
    def is_answering(self) -> bool:
        """True from a request's last header to the end of its answer."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def waits_for_client(self) -> bool:
        """True while there is no whole request, body included."""
        return not self.is_answering or self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.is_answering:
            self._forget_deadline()

    def on_response_complete(self) -> None:
        self._await_request()
        super().on_response_complete()  # which may begin the next request
        if self.is_answering:
            self._forget_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _await_request(self) -> None:
        self._forget_deadline()
        self.waiting_since = self.loop.time()
        self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Acceptor:
    """Accepts the connections of a listening socket, at most so many at a time; uvicorn closes it like its own."""

    def __init__(self, listener: socket.socket, connect: Callable[[], Connection], server: uvicorn.Server, most: int):
        self._listener, self._connect, self._most = listener, connect, most
        self._connections = server.server_state.connections
        self._task = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> None:
        """Accept no more."""
        self._task.cancel()
        self._listener.close()

    async def wait_closed(self) -> None:
        """Nothing is left to wait for."""

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(self._listener)
            except OSError:  # no descriptor left, or a client that has gone already
                await asyncio.sleep(RETRY_SECONDS)
                continue
            try:
                if await self._make_room():
                    await loop.connect_accepted_socket(self._connect, client)
                else:
                    client.close()
            except OSError:
                client.close()

    async def _make_room(self) -> bool:
        """Close those that wait for their clients longest, as far as needed; False if all are being answered."""
        while len(self._connections) >= self._most:
            waiting = [one for one in self._connections if isinstance(one, Connection) and one.waits_for_client]
            if not waiting:
                return False
            min(waiting, key=lambda one: one.waiting_since).transport.abort()
            await asyncio.sleep(0)  # it is closed on the loop's next turn
        return True


def most_connections(limits: Limits) -> int:
    """The connections that this process may have: a third more than requests, as far as its descriptors reach."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(limits.all_connections * 4 // 3, max(descriptors // 2, descriptors - OWN_DESCRIPTORS))


def limit_connections(server: uvicorn.Server, most: int) -> None:
    """Take over the listening sockets of a server that runs on another thread."""
    asyncio.run_coroutine_threadsafe(_take_over(server, most), server.servers[0].get_loop()).result()


async def _take_over(server: uvicorn.Server, most: int) -> None:
    config = server.config
    config.ws_protocol_class = None  # the page uses no WebSockets, which would not be counted

    def connect() -> Connection:
        return Connection(config, server.server_state, server.lifespan.state, asyncio.get_running_loop())

    acceptors = []
    for old in server.servers:
        for listening in old.sockets:
            listener = listening.dup()
            listener.setblocking(False)
            acceptors.append(Acceptor(listener, connect, server, most))
        old.close()
    server.servers = acceptors  # type: ignore[assignment]  # it closes them and waits for that
