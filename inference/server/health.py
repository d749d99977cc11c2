"""`GET /healthz`: whether the app is well, for whoever keeps it running. It waits for nothing and tells no secrets.

    {"status": "ready", "waiting": 2, "answering": true, "run_active": false}

`status` is `loading`, `ready`, `resting` (a run has the card), `failed` (the model did not load) or
`stopping`; the last two come with HTTP status 503.
`run_active` is null if that could not be found out in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from inference.server.queue import Line

PATH = "/healthz"
RUN_SECONDS = 1.0
"""How long the question for the run may take."""


def health_route(line: Line, is_run_active: Callable[[], bool]) -> Route:
    """The route; `is_run_active` may read a file, and is called on a thread that no visitor can take."""

    async def health(request: Request) -> Response:
        try:
            asked = asyncio.get_running_loop().run_in_executor(None, is_run_active)
            run_active: bool | None = await asyncio.wait_for(asked, RUN_SECONDS)
        except Exception:  # whatever is wrong with the records of runs, the app itself is to be told of
            run_active = None
        state = line.state
        body = {
            "status": state.value,
            "waiting": line.num_waiting,
            "answering": line.is_answering,
            "run_active": run_active,
        }
        is_well = state.value in ("loading", "ready", "resting")
        return JSONResponse(body, 200 if is_well else 503, {"cache-control": "no-store"})

    return Route(PATH, health, methods=["GET"])
