"""What went wrong between here and the Hub, in words, and whether and when another try makes sense.

    try: api.create_commit(...)
    except Exception as error: trouble = hub_trouble_of(error, "me/adapter")

The Hub's own words are cut short: they come from outside.
"""

from __future__ import annotations

import json
import math
from typing import Literal

from inference.common.hub_words import cause_of, safe, status_of

Kind = Literal["refused", "unreachable", "busy", "rejected"]
MAX_RETRY_AFTER = 3_600.0
"""The longest wait that the Hub can ask for, in seconds."""


class HubTrouble(Exception):
    """`str` of it is a sentence for a reader."""

    def __init__(self, kind: Kind, words: str, retry_after: float | None = None) -> None:
        super().__init__(words)
        self.kind: Kind = kind
        self.retry_after = retry_after
        """Seconds that the Hub asked to wait."""


def hub_trouble_of(error: Exception, repo: str) -> HubTrouble:
    """The trouble that an exception of the Hub's client stands for, whatever it is."""
    if isinstance(error, HubTrouble):
        return error
    error = cause_of(error)
    status = status_of(error)
    if status is None:
        return _without_answer(error, repo)
    if status in (401, 403) or (status == 404 and "RepositoryNotFound" in type(error).__name__):
        return HubTrouble(
            "refused",
            f"the Hub does not let this token write to {repo} ({status}: {said(error)}). Set HF_TOKEN to a token with "
            "the right to write there",
        )
    if status == 429:
        wait = retry_after_of(error)
        asked = "" if wait is None else f" and asks to wait {wait:.0f} s"
        return HubTrouble("busy", f"the Hub has had too many requests{asked}", wait)
    if status >= 500 or status in (408, 412):
        return HubTrouble("unreachable", f"the Hub answers {status} for {repo}: {said(error)}", retry_after_of(error))
    return HubTrouble("rejected", f"the Hub rejects what was sent to {repo} ({status}: {said(error)})")


def _without_answer(error: Exception, repo: str) -> HubTrouble:
    module = type(error).__module__.split(".")[0]
    if type(error).__name__ == "OfflineModeIsEnabled":
        return HubTrouble("unreachable", "HF_HUB_OFFLINE is set, so nothing goes to the Hub; start without it")
    if isinstance(error, json.JSONDecodeError | KeyError | TypeError | AttributeError):
        return HubTrouble("unreachable", f"the Hub's answer for {repo} cannot be read ({type(error).__name__})")
    if isinstance(error, OSError) or module in ("httpx", "httpx2", "httpcore", "httpcore2"):
        return HubTrouble("unreachable", f"the Hub cannot be reached for {repo} ({said(error)})")
    if isinstance(error, RuntimeError):  # how the client puts a large file that could not be sent
        return HubTrouble("unreachable", f"the Hub has not taken a file for {repo} ({said(error)})")
    return HubTrouble("rejected", f"{repo}: {said(error)}")


def retry_after_of(error: Exception) -> float | None:
    """The seconds that the Hub's `Retry-After` names, bounded; `None` where it names none."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        seconds = float(headers.get("Retry-After", ""))
    except (TypeError, ValueError):
        return None
    return min(seconds, MAX_RETRY_AFTER) if math.isfinite(seconds) and seconds >= 0 else None


def said(error: BaseException) -> str:
    """The first line of an error's words, as far as it may be shown."""
    return safe((str(error).strip() or type(error).__name__).splitlines()[0]).rstrip(".")
