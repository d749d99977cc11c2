"""`/healthz` tells how the app is, whatever it is doing, and the file of runs may be slow or broken."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from PIL import Image
from starlette.applications import Starlette

from inference.errors import UserError
from inference.health import health_route
from inference.rows import Row
from inference.ui.line import Line


def ask(line: Line, is_run_active: Callable[[], bool] = lambda: False) -> tuple[int, Any]:
    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(Starlette(routes=[health_route(line, is_run_active)]))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
            return await http.get("/healthz")

    answer = asyncio.run(get())
    return answer.status_code, answer.json()


def test_it_tells_how_the_engine_stands() -> None:
    ready = threading.Event()

    def load() -> Any:
        ready.wait()
        raise UserError("/a/secret/folder")

    line = Line(load)
    line.submit([Row(Image.new("RGB", (28, 28)), "a secret question")])
    assert ask(line) == (200, {"status": "loading", "waiting": 1, "answering": False, "run_active": False})
    ready.set()
    with pytest.raises(UserError):
        line.wait_loaded(10)
    status, body = ask(line, lambda: True)
    assert (status, body["status"], body["run_active"]) == (503, "failed", True)
    assert "secret" not in str(body)
    line.close("bye")
    assert ask(line)[1]["status"] == "stopping"


def test_it_waits_for_nothing() -> None:
    line = Line(lambda: threading.Event().wait())  # type: ignore[arg-type,return-value]
    begun = time.monotonic()
    assert ask(line, lambda: bool(time.sleep(2)))[1]["run_active"] is None
    assert ask(line, lambda: 1 // 0 > 0)[1]["run_active"] is None
    assert time.monotonic() - begun < 30
