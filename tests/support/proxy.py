"""A reverse proxy on a free port, which serves another server under a path of its own, as nginx does with
`location /look/ { proxy_pass http://app/; }`."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]
_OF_THE_CONNECTION = {b"host", b"connection", b"transfer-encoding", b"keep-alive"}


@contextlib.contextmanager
def proxy(target: str, path: str) -> Iterator[str]:
    """The address under which `target` is served; elsewhere there is nothing."""
    client = httpx.AsyncClient(base_url=target, timeout=180)

    async def forward(request: Request) -> Response:
        headers = [(name, value) for name, value in request.headers.raw if name not in _OF_THE_CONNECTION]
        headers += [(b"host", request.headers["host"].encode()), (b"x-forwarded-proto", b"http")]
        url = "/" + request.path_params["rest"] + (f"?{request.url.query}" if request.url.query else "")
        body = await request.body()
        answer = await client.send(
            client.build_request(request.method, url, headers=headers, content=body), stream=True
        )

        async def pieces() -> AsyncIterator[bytes]:
            try:
                async for piece in answer.aiter_raw():
                    yield piece
            finally:
                await answer.aclose()

        response = StreamingResponse(pieces(), answer.status_code)
        response.raw_headers = [pair for pair in answer.headers.raw if pair[0].lower() not in _OF_THE_CONNECTION]
        return response

    application = Starlette(routes=[Route(f"{path}/{{rest:path}}", forward, methods=_METHODS)])
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application, log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}{path}"
        finally:
            server.should_exit = True
            thread.join()
