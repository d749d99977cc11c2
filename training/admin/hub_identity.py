"""The user of an OAuth token, as the Hub tells it: the name, and the organisations in which the user may write.

The Hub limits the number of calls, so an answer is kept for `KEPT_SECONDS`, under a hash of the token.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

KEPT_SECONDS = 60.0
"""The longest time that a lost role still counts here."""
MAX_KEPT = 256
TIMEOUT_SECONDS = 10.0
_LATER = "Try again in a minute."
WRITING_ROLES = ("admin", "write")


@dataclass(frozen=True)
class Identity:
    """A user of the Hub."""

    name: str
    writes_in: frozenset[str] = frozenset()
    """Organisations in which the user is admin or may write; none unless the token may read memberships."""
    error: str = ""
    """Set, and nothing else, where the Hub did not answer."""


class HubIdentity:
    """Looks users up on the Hub, and keeps the answers for a short time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[float, Identity | None]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, token: str) -> Identity | None:
        """The user of a token; `None` if the Hub does not accept it. A failed call is not kept."""
        key = hashlib.sha256(token.encode(errors="replace")).digest()
        with self._lock:
            at, known = self._kept.get(key, (-KEPT_SECONDS, None))
            if self._clock() - at < KEPT_SECONDS and key in self._kept:
                return known
        identity = _ask(token)
        if identity is None or not identity.error:
            with self._lock:
                self._kept[key] = (self._clock(), identity)
                self._kept.move_to_end(key)
                while len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
        return identity


def _ask(token: str) -> Identity | None:
    """`whoami` with a time limit, which the client does not have."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    if not token.isascii() or not token.isprintable() or not token.strip():
        return None
    try:
        answer = get_session().get(
            f"{constants.ENDPOINT}/api/whoami-v2", headers=build_hf_headers(token=token), timeout=TIMEOUT_SECONDS
        )
        hf_raise_for_status(answer)
        return _read(answer.json())
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            return None
        return Identity("", error=f"The Hub did not tell who you are (status {error.response.status_code}). {_LATER}")
    except (HTTPError, OfflineModeIsEnabled, ValueError) as error:
        return Identity("", error=f"The Hub did not tell who you are ({type(error).__name__}). {_LATER}")


def _read(user: object) -> Identity | None:
    """The user in the Hub's answer; `None` for a token that is not a user's."""
    if not isinstance(user, dict) or user.get("type") != "user" or not isinstance(user.get("name"), str):
        return None
    listed = user.get("orgs")
    orgs = [org for org in listed if isinstance(org, dict)] if isinstance(listed, list) else []
    writes_in = (str(org.get("name")) for org in orgs if org.get("roleInOrg") in WRITING_ROLES)
    return Identity(user["name"], frozenset(writes_in))
