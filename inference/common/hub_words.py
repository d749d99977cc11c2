"""What goes wrong between here and the Hub, in a few words, and calls that do not wait for ever.

try:
    api.get_space_runtime(name)
except hub_errors() as error:
    print(f"The sleep timer could not be read: {said(error)}.")
"""

from __future__ import annotations

import re
from typing import Any

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0
"""Longest silence in an answer; the Hub is given time for a commit of many files."""
MAX_CHARS = 300
_TOKEN = re.compile(r"\b(hf|api_org|hf_oauth)_[\w.-]{4,}")


def limit_waiting() -> None:
    """From now on a call of the Hub's client in this process ends in an error when the Hub is silent for too long.

    Without, it has no limit.
    """
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http

    if _http._GLOBAL_CLIENT_FACTORY is not _patient_client:  # to set it closes the connections there are
        set_client_factory(_patient_client)


def _patient_client() -> Any:
    from huggingface_hub.utils import _http

    client = _http.default_client_factory()
    client.timeout = type(client.timeout)(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    return client


def hub_errors() -> tuple[type[Exception], ...]:
    """What the Hub's client raises where the Hub cannot be reached, refuses, fails, or answers nonsense."""
    from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError

    # RuntimeError is how the client puts a large file that could not be sent. The last four are what its own reading of
    # a nonsensical answer ends in.
    of_reading = (ValueError, KeyError, TypeError, AttributeError)
    return (HTTPError, ConnectionError, LocalTokenNotFoundError, RuntimeError, *of_reading)


def said(error: Exception) -> str:
    """One line, without an end stop, and never a token.

    >>> said(TimeoutError())
    'the Hub cannot be reached (TimeoutError)'
    """
    status = status_of(error)
    error = cause_of(error)
    if type(error).__name__ == "OfflineModeIsEnabled":
        return "HF_HUB_OFFLINE is set, so the Hub is not asked"
    if status == 401:
        return "the Hub does not accept the token"
    if status == 429:
        return "the Hub asks to wait, too many calls were made"
    if status is not None and status >= 500:
        return f"the Hub is out of order (status {status})"
    if status is not None:
        reason = getattr(error, "server_message", None) or ""
        words = f"the Hub refuses it (status {status})"
        return f"{words}: {safe(str(reason))}" if reason else words
    if isinstance(error, RuntimeError):
        return f"the Hub has not taken it: {safe(str(error)).rstrip('.')}"
    if isinstance(error, ValueError | KeyError | TypeError | AttributeError):
        return f"the Hub's answer cannot be read ({type(error).__name__})"
    return f"the Hub cannot be reached ({type(error).__name__})"


def status_of(error: Exception) -> int | None:
    """The HTTP status that the Hub answered with, if it answered."""
    answer = getattr(cause_of(error), "response", None)
    return answer.status_code if answer is not None else None


def cause_of(error: Exception) -> Exception:
    """What is behind a large file that could not be sent, which the client wraps; any other error is its own cause."""
    cause = error.__cause__
    return cause if isinstance(error, RuntimeError) and isinstance(cause, Exception) else error


def safe(text: str) -> str:
    """Foreign words for a line of ours: short, on one line, without anything that looks like a token."""
    line = _TOKEN.sub("hf_…", " ".join("".join(c if c.isprintable() else " " for c in text).split()))
    return line if len(line) <= MAX_CHARS else line[: MAX_CHARS - 1] + "…"
