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
import errno
import ipaddress
import logging
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from inference.server.shares import Shares

if TYPE_CHECKING:
    from inference.server.queue import RequestQueue

PORT = 7860
_HOST_NAME = re.compile(r"(?=.{1,253}$)(?!.*\.\d+$)[a-zA-Z0-9](?:[a-zA-Z0-9.-]{0,61}[a-zA-Z0-9])?")
"""A name such as `localhost`; what ends in a number is an address, or none."""
CLEANING_SECONDS = 300
"""Between two searches for old pictures."""
_M_ARENA_MAX = -8
"""The parameter of glibc's `mallopt` (malloc.h) for the most heaps."""
RUN_SECONDS = 1.0
"""The longest wait for `is_run_active`."""
REASON = "The app is being restarted; ask again in a minute."
TELL_SECONDS = 1.5
"""The time for visitors to read that."""
UNWRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""The errors of a disk that is full or read-only."""
CLOSE_SECONDS = 1.5
"""The time for the server to close its connections by itself."""


@dataclass(frozen=True)
class Address:
    """Host and port that the app listens at."""

    host: str
    """A name, or an address of IPv4 or IPv6 without brackets."""
    port: int

    @property
    def name(self) -> str:
        """The host as it stands in a URL."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def check_free(self) -> None:
        """Raises `UserError` if the app cannot listen there now."""
        try:
            family, kind, *_, where = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(where)
        except (OSError, UnicodeError) as error:  # the latter: a part of the name is empty or too long
            raise UserError(f"The app cannot listen at {self.name}:{self.port}: {self._trouble(error)}.") from error

    def _trouble(self, error: OSError | UnicodeError) -> str:
        if isinstance(error, socket.gaierror | UnicodeError) or error.errno == errno.EADDRNOTAVAIL:
            return "this machine has no such address; set GRADIO_SERVER_NAME to one, such as 127.0.0.1, 0.0.0.0 or ::1"
        if error.errno == errno.EADDRINUSE:
            return "the port is taken; end what has it, or set GRADIO_SERVER_PORT to another"
        return f"{error.strerror}; set GRADIO_SERVER_PORT to a port from 1024 to 65535"


def listening_address(env: Mapping[str, str] = os.environ) -> Address:
    """The address that `GRADIO_SERVER_NAME` and `GRADIO_SERVER_PORT` name; raises `UserError` if it is malformed.

    >>> listening_address({"GRADIO_SERVER_NAME": "[::1]"}).name
    '[::1]'
    """
    typed = env.get("GRADIO_SERVER_PORT", "").strip() or str(PORT)
    digits = typed.lstrip("0")
    if not (digits.isascii() and digits.isdecimal() and int(digits[:6]) < 65_536):
        raise UserError(f"GRADIO_SERVER_PORT is {typed!r}; give a number from 1 to 65535.")
    named = env.get("GRADIO_SERVER_NAME", "").strip() or "127.0.0.1"
    host = named[1:-1] if named.startswith("[") and named.endswith("]") else named
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not _HOST_NAME.fullmatch(host):
            raise UserError(
                f"GRADIO_SERVER_NAME is {named!r}, which is not an address; give one of this machine, such as "
                "127.0.0.1, 0.0.0.0 (all of its addresses) or ::1."
            ) from None
    return Address(host, int(digits))


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
    uploads = _uploads_folder(settings.home)
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    seconds = picture_seconds(settings)
    PeriodicTask(lambda: _delete_old_files(uploads, seconds), CLEANING_SECONDS, name="uploads").start()
    PeriodicTask(Shares(settings.home, settings.sharing).sweep, CLEANING_SECONDS, name="shares").start()
    log_visitors(settings.privacy.log_questions)
    limit_decoding(settings.limits)


def _uploads_folder(home: Path) -> Path:
    """The folder for pictures of visitors; on a full or read-only disk a temporary one, so that the owner gets in."""
    uploads = home / "uploads"
    try:
        uploads.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in UNWRITTEN:
            raise UserError(
                f"{uploads} cannot be made ({error.strerror}). Make the folder writable for this user, or set "
                "LOOKTHINK_HOME to one that is."
            ) from error
        logging.getLogger(__name__).error("%s: %s", uploads, error.strerror)
        uploads = Path(tempfile.mkdtemp(prefix="lookthink-uploads-"))
    return uploads


async def disk_refused(request: Request, error: Exception) -> Response:
    """The answer where a picture cannot be kept: the disk is full or read-only. Raises other errors."""
    if not isinstance(error, OSError) or error.errno not in UNWRITTEN:
        raise error
    words = f"The picture cannot be kept here ({error.strerror}). Tell the owner: Train, Runs, Room on the disk."
    return JSONResponse({"error": words, "detail": words}, 507)


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
