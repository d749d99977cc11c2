"""The health check, `GET /healthz`, for whoever keeps the app running. It never blocks and tells no secrets.

    {"status": "ready", "waiting": 2, "answering": true, "run_active": false}

`status` is `loading`, `ready`, `resting` (a run has the GPU), `failed` (the model did not load) or `stopping`; the last
two come with HTTP status 503. `run_active` is null if it could not be found out in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from inference.server.queue import RequestQueue

PATH = "/healthz"
RUN_SECONDS = 1.0
"""The longest wait for `is_run_active`."""


def health_route(queue: RequestQueue, is_run_active: Callable[[], bool]) -> Route:
    """The route. `is_run_active` may read a file; it is called on a thread of its own pool."""

    async def health(request: Request) -> Response:
        try:
            answer = asyncio.get_running_loop().run_in_executor(None, is_run_active)
            run_active: bool | None = await asyncio.wait_for(answer, RUN_SECONDS)
        except Exception:  # the records of runs may be broken, and the check is of the app
            run_active = None
        state = queue.state
        body = {
            "status": state.value,
            "waiting": queue.num_waiting,
            "answering": queue.is_answering,
            "run_active": run_active,
        }
        is_well = state.value in ("loading", "ready", "resting")
        return JSONResponse(body, 200 if is_well else 503, {"cache-control": "no-store"})

    return Route(PATH, health, methods=["GET"])
