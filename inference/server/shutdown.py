"""The app's shutdown: on SIGTERM or Ctrl + C it refuses new questions, tells those who wait, and exits with 0.

Runs are processes of their own and go on.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from inference.common.logs import event

if TYPE_CHECKING:
    from inference.server.queue import RequestQueue
    from inference.server.streams import Streams

REASON = "The app is being restarted; ask again in a minute."
TELL_SECONDS = 1.5
"""The time for visitors to read that."""
CLOSE_SECONDS = 1.5
"""The time for the server to close its connections by itself."""


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
