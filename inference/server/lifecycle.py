"""The app as a process: the environment for Gradio, set before it is imported; the health check; the shutdown.

`GET /healthz` is for whoever keeps the app running. It never blocks and tells no secrets:

    {"status": "ready", "waiting": 2, "answering": true, "run_active": false}

`status` is `loading`, `ready`, `resting` (a run has the GPU), `failed` (the model did not load) or `stopping`; the last
two come with HTTP status 503. `run_active` is null if it could not be found out in time.

On SIGTERM or Ctrl + C the app refuses new questions, tells those who wait, and exits with 0. Runs are processes of
their own and go on.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from inference.common.background import PeriodicTask
from inference.common.errors import UserError
from inference.common.logs import event, log_visitors
from inference.common.settings import Settings
from inference.prompt.decoding import limit_decoding
from inference.server.middleware import HEALTH_PATH, Streams

if TYPE_CHECKING:
    from inference.server.queue import RequestQueue

CLEANING_SECONDS = 300
"""Between two searches for old pictures."""
_M_ARENA_MAX = -8
"""The parameter of glibc's `mallopt` (malloc.h) for the most heaps."""
RUN_SECONDS = 1.0
"""The longest wait for `is_run_active`."""
REASON = "The app is being restarted; ask again in a minute."
TELL_SECONDS = 1.5
"""The time for visitors to read that."""
CLOSE_SECONDS = 1.5
"""The time for the server to close its connections by itself."""


def prepare(settings: Settings) -> None:
    """Set what Gradio reads when it is imported, and keep of visitors what space.yaml says from now on.

    Raises `UserError` if the home folder is not writable.
    """
    # Gradio sums up all past events after each one, for a page of figures that is turned off here.
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(10**12)
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "100"
    # The server would believe X-Forwarded-For from any caller on this machine; the owner of a proxy may set this.
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
    _share_freed_memory()
    uploads = settings.home / "uploads"
    try:
        uploads.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{uploads} cannot be made ({error.strerror}). Make the folder writable for this user, or set "
            "LOOKTHINK_HOME to one that is."
        ) from error
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    seconds = picture_seconds(settings)
    PeriodicTask(lambda: _delete_old_files(uploads, seconds), CLEANING_SECONDS, name="uploads").start()
    log_visitors(settings.privacy.log_questions)
    limit_decoding(settings.limits)


def _share_freed_memory() -> None:
    """One heap for all threads, where the C library is glibc: else each keeps what it has freed for itself."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 1)


def picture_seconds(settings: Settings) -> int:
    """The age at which pictures of visitors are deleted, in seconds."""
    return 60 * settings.privacy.keep_pictures_minutes


def _delete_old_files(folder: Path, seconds: float) -> None:
    """Uploads of earlier processes too: Gradio deletes only its own, and forgets them at its end."""
    oldest = time.time() - seconds
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


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

    return Route(HEALTH_PATH, health, methods=["GET"])


class _Server(Protocol):
    """The parts of Gradio's uvicorn server that are used here."""

    should_exit: bool
    force_exit: bool
    thread: threading.Thread


class _Blocks(Protocol):
    """A launched `gr.Blocks`."""

    @property
    def server(self) -> _Server: ...


def stop_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set from now on; call it on the main thread. A second signal ends at once."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop


def shut_down(blocks: _Blocks, queue: RequestQueue, streams: Streams) -> None:
    """End all questions with `REASON`, then the server; takes little more than `TELL_SECONDS` + `CLOSE_SECONDS`."""
    event("stopping", waiting=queue.num_waiting, streams=streams.num_open)
    queue.close(REASON)
    until = time.monotonic() + TELL_SECONDS
    while streams.num_open and time.monotonic() < until:
        time.sleep(0.05)
    server = blocks.server
    server.should_exit = True
    server.thread.join(CLOSE_SECONDS)
    server.force_exit = True
    server.thread.join(1.0)
    event("stopped")


def leave(status: int) -> None:
    """Exit now, without waiting for threads that decode or wait for a client."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
