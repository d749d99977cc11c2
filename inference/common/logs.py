"""The log: one line per event, as `key=value` or as JSON, and never a word that a visitor sent.

Libraries may quote what they were sent, so of what they log or print while the app serves only the place is written:
logger, or module, and line. Our own lines say what happened; no line break within a message begins another line.

    set_up(as_json=True)
    event("question_ended", state="done", num_tokens=163)
    # {"time": "2026-11-22T14:30:00.123Z", "level": "info", "event": "question_ended", "state": "done", ...}

`LOOKTHINK_LOG=json` turns JSON on. Standard library only.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, TextIO, cast

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

VARIABLE = "LOOKTHINK_LOG"
NOISY = ("httpx", "httpx2", "huggingface_hub")
OURS = ("lookthink", "inference", "training", "app", "__main__")
"""Loggers and modules, and those within them, whose words are ours."""
_events = logging.getLogger("lookthink")
_is_serving = False
"""True once visitors may come: see `keep_words_out_of_the_log`."""


def event(name: str, /, *, level: int = logging.INFO, **fields: str | int | float | bool | None) -> None:
    """Log an event with figures and names of ours; never with text of a visitor."""
    words = " ".join([name, *(f"{key}={_short(value)}" for key, value in fields.items())])
    _events.log(level, "%s", words, extra={"event": name, "fields": fields})


def failure(what: str, error: BaseException) -> None:
    """Log that something failed, with the error's type and frames; `what` is a sentence of ours."""
    _events.error("%s", what, exc_info=error)


def log_visitors(is_on: bool) -> None:
    """Keep or drop the events about visitors, which name one in the field `visitor`, from now on."""
    _events.removeFilter(_without_visitors)
    if not is_on:
        _events.addFilter(_without_visitors)


def _without_visitors(record: logging.LogRecord) -> bool:
    return "visitor" not in getattr(record, "fields", {})


def set_up(as_json: bool, stream: TextIO | None = None) -> None:
    """Send the log of this process to `stream` (standard error unless given), all loggers in one format.

    A log that is set up already stays as it is.
    """
    if as_json:  # a progress bar would end up in the middle of a line; read by the Hub's client when it is imported
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(_without_message)
    handler.addFilter(_without_library_words)
    handler.setFormatter(_JsonLines() if as_json else _PlainLines("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def replace_odd_characters() -> None:
    """Let standard output replace what its encoding has not, where it is not UTF-8; else printing it would fail."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


class _PlainLines(logging.Formatter):
    """A record as one line, and the frames of its error below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        return line if line.isprintable() else json.dumps(line)[1:-1]


class _JsonLines(logging.Formatter):
    """A record as one JSON object: time (UTC), level, logger, message or event, and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {"time": f"{at}.{int(record.msecs):03d}Z", "level": record.levelname.lower()}
        name = getattr(record, "event", None)
        if name is not None:
            line |= {"event": name, **getattr(record, "fields", {})}
        else:
            line |= {"logger": record.name, "message": record.getMessage()}
        if record.exc_info and isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
            line["error"] = record.exc_text or frames(record.exc_info[1])
        text = json.dumps(line, ensure_ascii=False, default=str)
        return text if text.isprintable() else json.dumps(line, default=str)  # some readers break at U+2028 or U+0085


def frames(error: BaseException) -> str:
    """Type and frames of an exception and of what caused it, without the messages: these may quote a user.

    >>> frames(KeyError("my question"))
    'KeyError\\n'
    """
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = f"{frames(cause)}then\n" if cause is not None else ""
    return before + "".join(traceback.format_tb(error.__traceback__)) + f"{type(error).__name__}\n"


def keep_words_out_of_the_log() -> None:
    """Write nothing more of what libraries say, for the whole process: the app serves from now on.

    Gradio calls `traceback.print_exc` wherever a request fails, and its messages contain the values that were sent.
    """
    global _is_serving
    _is_serving = True
    traceback.print_exc = _print_frames
    for name in ("uvicorn.error", "asyncio", "gradio"):
        logging.getLogger(name).addFilter(_without_message)


def keep_words_out_of_the_output() -> None:
    """Let nobody but us write to standard output and error from now on; call it after `set_up`, in a process of ours.

    Threads that fail, and what Python itself reports, are logged with their frames.
    """
    output, errors = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", _OurOutput(stream)) for stream in (output, errors))
    threading.excepthook = lambda failed: failure("A thread failed.", failed.exc_value or SystemExit())
    sys.unraisablehook = lambda failed: failure("Something could not be ended.", failed.exc_value or SystemExit())

    def crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.stdout, sys.stderr = output, errors  # the main thread handles no visitor's values
        sys.__excepthook__(kind, error, trace)

    sys.excepthook = crash


class _OurOutput:
    """A stream that passes on what our own modules write, and of others notes the module and line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._write(text, sys._getframe(1))

    def writelines(self, lines: Iterable[str]) -> None:
        self._write("".join(lines), sys._getframe(1))

    def _write(self, text: str, caller: FrameType) -> int:
        module = str(caller.f_globals.get("__name__"))
        if _is_ours(module):
            return self._stream.write(text)
        if text.strip() and not module.startswith("tqdm."):  # a progress bar is drawn over and over
            event("library_output", level=logging.WARNING, module=module, line=caller.f_lineno, characters=len(text))
        return len(text)


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in OURS


def adopt_the_server() -> None:
    """Send the server's log where everything else goes; call it once the server has set its own up."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True


def _print_frames(limit: int | None = None, file: SupportsWrite[str] | None = None, chain: bool = True) -> None:
    """Replaces `traceback.print_exc`: writes to the log, or to `file` if given."""
    error = sys.exception()
    if error is None:
        return
    if file is not None:
        print(frames(error), end="", file=file)
    else:
        failure("A request failed.", error)


def _without_message(record: logging.LogRecord) -> bool:
    """A filter that sets `exc_text`, which formatters use as it is."""
    if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
        record.exc_text = frames(record.exc_info[1])
    return True


def _without_library_words(record: logging.LogRecord) -> bool:
    """A filter that leaves of another library's record its place alone, once the app serves."""
    if _is_serving and not _is_ours(record.name):
        record.msg, record.args = f"said something ({record.module}.py:{record.lineno}), which is not kept", None
    return True


def _short(value: object) -> str:
    """A value for `key=value`: numbers short, text with unusual characters in quotes."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return (
        text
        if text and text.isprintable() and not set(' ="') & set(text)
        else json.dumps(text, ensure_ascii=not text.isprintable())
    )


_events.addFilter(_without_message)
