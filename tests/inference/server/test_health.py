"""`/healthz` tells how the app is, whatever it is doing, and the file of runs may be slow or broken."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from PIL import Image
from starlette.applications import Starlette

from inference.common.errors import UserError
from inference.model.request import Request
from inference.server import health
from inference.server.health import health_route
from inference.server.queue import RequestQueue
from tests.support.serving import WAIT_SECONDS


def ask(
    line: RequestQueue, is_run_active: Callable[[], bool] = lambda: False, then: Callable[[], None] = lambda: None
) -> tuple[int, Any]:
    """Status and body; `then` is called when they are there."""

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(Starlette(routes=[health_route(line, is_run_active)]))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
            answer = await http.get("/healthz")
        then()
        return answer

    answer = asyncio.run(get())
    return answer.status_code, answer.json()


def test_it_tells_how_the_engine_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "RUN_SECONDS", WAIT_SECONDS)  # a busy machine may need more than the app gives it
    ready = threading.Event()

    def load() -> Any:
        ready.wait()
        raise UserError("/a/secret/folder")

    line = RequestQueue(load)
    line.submit([Request(Image.new("RGB", (28, 28)), "a secret question")])
    assert ask(line) == (200, {"status": "loading", "waiting": 1, "answering": False, "run_active": False})
    ready.set()
    with pytest.raises(UserError):
        line.wait_loaded(WAIT_SECONDS)
    status, body = ask(line, lambda: True)
    assert (status, body["status"], body["run_active"]) == (503, "failed", True)
    assert "secret" not in str(body)
    line.close("bye")
    assert ask(line)[1]["status"] == "stopping"


def test_it_waits_for_nothing() -> None:
    line = RequestQueue(lambda: threading.Event().wait())  # type: ignore[arg-type,return-value]
    answered = threading.Event()
    assert ask(line, lambda: answered.wait(WAIT_SECONDS), answered.set)[1]["run_active"] is None
    assert ask(line, lambda: 1 // 0 > 0)[1]["run_active"] is None
