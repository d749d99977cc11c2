"""The end of the app: on SIGTERM or Ctrl + C nothing more is taken, whoever waits is told, and the process ends with 0.

Runs are processes of their own and go on.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from inference.common.logs import event

if TYPE_CHECKING:
    from inference.server.queue import Line
    from inference.server.streams import Streams

REASON = "The app is being restarted; ask again in a minute."
TELL_SECONDS = 1.5
"""How long those who wait may take to read that."""
CLOSE_SECONDS = 1.5
"""How long the server may take to close its connections by itself."""


def stop_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set from now on; call it on the main thread. A second signal ends at once."""
    asked = threading.Event()

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            os._exit(128 + number)
        asked.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return asked


def shut_down(blocks: Any, line: Line, streams: Streams) -> None:
    """End what is under way in words, then the server; takes `TELL_SECONDS` + `CLOSE_SECONDS` at most, and a little."""
    event("stopping", waiting=line.num_waiting, streams=streams.num_open)
    line.close(REASON)
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
    """End the process now: a thread that decodes, or waits for a client, must not hold it up."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
