"""What keeps a page to itself: the headers of its answers, and a log without a word of what was sent."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_POLICY = "; ".join(
    [
        "default-src 'self' data: blob:",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "object-src 'none'",
        "base-uri 'self'",
    ]
)
"""Nothing is loaded from another host, whatever a model writes; inline scripts and eval are how Gradio works."""
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class SecurityHeaders:
    """Adds `HEADERS` to every HTTP answer that does not set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def frames(error: BaseException) -> str:
    """Type and frames of an exception and of what caused it, without the messages: these may quote a user.

    >>> frames(KeyError("my question"))
    'KeyError\\n'
    """
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = f"{frames(cause)}then\n" if cause is not None else ""
    return before + "".join(traceback.format_tb(error.__traceback__)) + f"{type(error).__name__}\n"


def keep_words_out_of_the_log() -> None:
    """Make what Gradio prints and its server logs of an exception its `frames`; for the whole process.

    Gradio calls `traceback.print_exc` wherever a request fails, and its messages hold the values that were sent.
    """
    traceback.print_exc = _print_frames
    for name in ("uvicorn.error", "asyncio", "gradio"):
        logging.getLogger(name).addFilter(_without_message)


def _print_frames(limit: int | None = None, file: Any = None, chain: bool = True) -> None:
    """In place of `traceback.print_exc`."""
    error = sys.exception()
    if error is not None:
        print(frames(error), end="", file=file or sys.stderr)


def _without_message(record: logging.LogRecord) -> bool:
    """A filter: a formatter takes `exc_text` as it is, if there is one."""
    if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
        record.exc_text = frames(record.exc_info[1])
    return True
