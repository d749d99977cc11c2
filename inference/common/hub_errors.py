"""What the Hub says when it does not give what was asked, in words for users, and whether to ask again."""

from __future__ import annotations

import re

from inference.common.errors import UserError

_HTTP_LIBRARIES = ("httpx", "httpx2", "httpcore", "httpcore2", "urllib3", "requests")
_PASSING = (408, 425, 429)
_TOKEN = re.compile(r"\b(hf|api_org|hf_oauth)_[\w.-]{4,}")


class Unreachable(UserError):
    """The Hub does not answer, or not now: the same can be asked again later."""

    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        """Seconds after which the Hub wants to be asked again; 0 where it does not say."""


def refusal(what: str, name: str, error: Exception) -> UserError | None:
    """The error in words; `None` for one that is not the Hub's. `what` is asked for: `adapter`, `repository`."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return UserError(
            f"The {what} {name} is gated: its owner must let you in. Ask on its page, then set HF_TOKEN to a token of "
            "the account that was let in."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UserError(f"The {what} {name} has no such revision. Name a branch, a tag or a commit of it.")
    if isinstance(error, errors.RepositoryNotFoundError):
        return UserError(
            f"There is no {what} {name} on the Hub, or it is private. Check owner and name; for a private one set "
            "HF_TOKEN to a token that may read it."
        )
    if isinstance(error, errors.HFValidationError):
        return UserError(f"{name} is no name that the Hub takes: {said(error)} Write owner/name.")
    if isinstance(error, errors.HfHubHTTPError):
        return _by_status(what, name, error)
    is_of_http = type(error).__module__.split(".")[0] in _HTTP_LIBRARIES
    if is_of_http or isinstance(error, ConnectionError | TimeoutError | errors.LocalEntryNotFoundError):
        return Unreachable(f"The Hub cannot be reached ({said(error)}), and {what} {name} is on it. Try again later.")
    is_of_transfer = type(error) is RuntimeError  # how the Hub's own transfer, in Rust, puts what it meets
    if is_of_transfer or (isinstance(error, OSError) and error.errno is None):  # a file that did not arrive whole
        return Unreachable(f"The {what} {name} did not arrive as the Hub has it ({said(error)}). Try again later.")
    if isinstance(error, ValueError | KeyError | TypeError | AttributeError):  # an answer that makes no sense
        return Unreachable(f"The Hub's answer for the {what} {name} cannot be read ({said(error)}). Try again later.")
    return None


def said(error: Exception) -> str:
    """What an error says, in one line of bounded length with a full stop, without what looks like a token."""
    plain = "".join(c if c.isprintable() else " " for c in str(error))
    line = (_TOKEN.sub("hf_…", " ".join(plain.split())) or type(error).__name__)[:200]
    return line if line.endswith(".") else f"{line}."


def _by_status(what: str, name: str, error: Exception) -> UserError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return UserError(
            f"The Hub does not let this token have the {what} {name} (status {status}). Set HF_TOKEN to a valid one "
            "that may."
        )
    if status == 412:
        return Unreachable(f"Meanwhile somebody else has written to the {what} {name}. Try again.")
    if status is None or status >= 500 or status in _PASSING:
        words = f"The Hub has trouble with the {what} {name} now (status {status}). Try again later."
        return Unreachable(words, _retry_after(error))
    return UserError(f"The Hub refuses the {what} {name} (status {status}): {said(error)}")


def _retry_after(error: Exception) -> float:
    """Seconds, of bounded length; 0 for none, or a date."""
    asked = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", "")
    return min(float(asked), 3600.0) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", str(asked)) else 0.0
