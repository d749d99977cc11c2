"""Errors of the Hub in words: the Hub refuses, or it cannot be reached and the call can be tried again later.

    try:
        api.create_commit(...)
    except Exception as error:
        raise write_error("me/adapter", error) from error

Texts from the Hub are cut short and never hold a token.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from typing import TYPE_CHECKING

from inference.common.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub.utils._http import httpx2

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0
"""Longest silence in an answer; the Hub is given time for a commit of many files."""
MAX_RETRY_AFTER = 3_600.0
"""The longest wait that the Hub can ask for, in seconds."""
MAX_CHARS = 300
_TOKEN = re.compile(r"\b(hf|api_org|hf_oauth)_[\w.-]{4,}")
_HTTP_LIBRARIES = ("httpx", "httpx2", "httpcore", "httpcore2", "urllib3", "requests")
_OF_READING = (ValueError, KeyError, TypeError, AttributeError)
"""Raised by the Hub's client when it reads an answer that makes no sense."""


class HubError(UserError):
    """The Hub refuses; a token, a name or a setting must change first."""

    retry_after = 0.0
    """Seconds that the Hub asked to wait before the next call; 0 where it did not."""


class HubUnreachable(HubError):
    """The Hub does not answer, is overloaded, or fails: the same call can be made again later."""

    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


def read_error(what: str, name: str, error: Exception) -> HubError | None:
    """The error of a call that reads `what` (`adapter`, `dataset`) `name`; `None` for one that is not the Hub's."""
    from huggingface_hub import errors

    target, status = f"{what} {name}", status_of(error)
    text = one_line(str(error).strip() or type(error).__name__, 200).rstrip(".")
    if isinstance(error, errors.GatedRepoError):
        return HubError(
            f"The {target} is gated: its owner must let you in. Ask on its page, then set HF_TOKEN to a token of the "
            "account that was let in."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return HubError(f"The {target} has no such revision. Name a branch, a tag or a commit of it.")
    if isinstance(error, errors.RepositoryNotFoundError):
        return HubError(
            f"There is no {target} on the Hub, or it is private. Check owner and name; for a private one set HF_TOKEN "
            "to a token that may read it."
        )
    if isinstance(error, errors.HFValidationError):
        return HubError(f"{name} is not a name on the Hub: {text}. Write owner/name.")
    if isinstance(error, errors.HfHubHTTPError):
        if status in (401, 403):
            return HubError(
                f"The Hub does not let this token read the {target} (status {status}). Set HF_TOKEN to a valid one "
                "that may."
            )
        if status is None or _is_temporary(status):
            words = f"The Hub has trouble with the {target} now (status {status}). Try again later."
            return HubUnreachable(words, _retry_after(error))
        return HubError(f"The Hub refuses the {target} (status {status}): {text}.")
    if _is_of_network(error) or isinstance(error, errors.LocalEntryNotFoundError):
        return HubUnreachable(f"The Hub cannot be reached ({text}), and the {target} is on it. Try again later.")
    # A bare RuntimeError comes from the Hub's transfer in Rust, an OSError without a number from a file cut short.
    if type(error) is RuntimeError or (isinstance(error, OSError) and error.errno is None):
        return HubUnreachable(f"The {target} did not arrive as the Hub has it ({text}). Try again later.")
    if isinstance(error, _OF_READING):
        return HubUnreachable(f"The Hub's answer for the {target} cannot be read ({text}). Try again later.")
    return None


def write_error(repo: str, error: Exception) -> HubError:
    """The error of a call that writes to `repo`, as a clause without a full stop."""
    if isinstance(error, HubError):
        return error
    error = _cause_of(error)
    status, text = status_of(error), one_line((str(error).strip() or type(error).__name__).splitlines()[0]).rstrip(".")
    if status in (401, 403) or (status == 404 and "RepositoryNotFound" in type(error).__name__):
        return HubError(
            f"the Hub does not let this token write to {repo} ({status}: {text}). Set HF_TOKEN to a token with the "
            "right to write there"
        )
    if status == 429:
        wait = _retry_after(error)
        retry = f" and asks to wait {wait:.0f} s" if wait else ""
        return HubUnreachable(f"the Hub has had too many requests{retry}", wait)
    if status is not None and _is_temporary(status):
        return HubUnreachable(f"the Hub answers {status} for {repo}: {text}", _retry_after(error))
    if status is not None:
        return HubError(f"the Hub rejects what was sent to {repo} ({status}: {text})")
    if type(error).__name__ == "OfflineModeIsEnabled":
        return HubUnreachable("HF_HUB_OFFLINE is set, so nothing goes to the Hub; start without it")
    if isinstance(error, json.JSONDecodeError | KeyError | TypeError | AttributeError):
        return HubUnreachable(f"the Hub's answer for {repo} cannot be read ({type(error).__name__})")
    if isinstance(error, OSError) or _is_of_network(error):
        return HubUnreachable(f"the Hub cannot be reached for {repo} ({text})")
    if isinstance(error, RuntimeError):  # raised by the client for a large file that could not be sent
        return HubUnreachable(f"the Hub has not taken a file for {repo} ({text})")
    return HubError(f"{repo}: {text}")


def reason(error: Exception) -> str:
    """The error of any call as a short clause.

    >>> reason(TimeoutError())
    'the Hub cannot be reached (TimeoutError)'
    """
    status = status_of(error)
    error = _cause_of(error)
    if type(error).__name__ == "OfflineModeIsEnabled":
        return "HF_HUB_OFFLINE is set, so the Hub is not asked"
    if status == 401:
        return "the Hub does not accept the token"
    if status == 429:
        return "the Hub asks to wait, too many calls were made"
    if status is not None and status >= 500:
        return f"the Hub is out of order (status {status})"
    if status is not None:
        message = one_line(str(getattr(error, "server_message", None) or ""))
        return f"the Hub refuses it (status {status})" + (f": {message}" if message else "")
    if isinstance(error, RuntimeError):
        return f"the Hub has not taken it: {one_line(str(error)).rstrip('.')}"
    if isinstance(error, _OF_READING):
        return f"the Hub's answer cannot be read ({type(error).__name__})"
    return f"the Hub cannot be reached ({type(error).__name__})"


def hub_exceptions() -> tuple[type[Exception], ...]:
    """The exceptions of the Hub's client: the Hub is not reached, refuses, fails, or answers nonsense."""
    from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError

    return (HTTPError, ConnectionError, LocalTokenNotFoundError, RuntimeError, *_OF_READING)


def status_of(error: Exception) -> int | None:
    """The HTTP status that the Hub answered with; `None` if it did not answer."""
    answer = getattr(_cause_of(error), "response", None)
    return answer.status_code if answer is not None else None


def one_line(text: str, max_chars: int = MAX_CHARS) -> str:
    """A text from outside on one line, short, and without anything that looks like a token."""
    line = _TOKEN.sub("hf_…", " ".join("".join(c if c.isprintable() else " " for c in text).split()))
    return line if len(line) <= max_chars else line[: max_chars - 1] + "…"


def limit_waiting() -> None:
    """Gives every call of the Hub's client in this process a limit of silence; the client has none of its own."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http

    if _http._GLOBAL_CLIENT_FACTORY is not _client_with_limits:  # setting it closes the open connections
        set_client_factory(_client_with_limits)


def _client_with_limits() -> httpx2.Client:
    from huggingface_hub.utils import _http, hf_raise_for_status

    def raise_early(response: httpx2.Response) -> None:
        """The client reads an error of `validate-yaml` as JSON, and so loses its `Retry-After`."""
        if response.request.url.path == "/api/validate-yaml" and response.status_code > 400:
            response.read()
            hf_raise_for_status(response)

    client = _http.default_client_factory()
    client.timeout = type(client.timeout)(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    client.event_hooks["response"].append(raise_early)
    return client


def _is_temporary(status: int) -> bool:
    return status >= 500 or status in (408, 412, 425, 429)  # 412: somebody else has written meanwhile


def _is_of_network(error: Exception) -> bool:
    return isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.split(".")[0] in _HTTP_LIBRARIES


def _cause_of(error: Exception) -> Exception:
    """The cause of a large file that could not be sent, which the client wraps; any other error is its own cause."""
    cause = error.__cause__
    return cause if isinstance(error, RuntimeError) and isinstance(cause, Exception) else error


def _retry_after(error: Exception) -> float:
    """The seconds that the Hub's `Retry-After` names, bounded; 0 where it names none."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    with contextlib.suppress(TypeError, ValueError):
        seconds = float(headers.get("Retry-After", ""))
        return min(seconds, MAX_RETRY_AFTER) if math.isfinite(seconds) and seconds >= 0 else 0.0
    return 0.0
