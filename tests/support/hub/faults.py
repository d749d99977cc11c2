"""What can go wrong between a client and the test Hub: each fault strikes requests that match, so many times.

>>> Fault("429", "POST /api/models/.*/commit/.*", times=1).matches("POST", "/api/models/me/a/commit/main")
True
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass

KINDS = ("refused", "lost", "reset", "500", "503", "429", "401", "412", "slow")
"""`refused`: the connection ends before anything happened. `lost`: what was asked happens, and the connection ends with
no word of it. `reset`: what was asked happens, and the connection ends half way through the answer. A number: this
status and nothing happens (429 with `Retry-After`). `slow`: after `seconds`."""


NONSENSE = ("html", "shape", "away")
"""`html`: a page with status 200, as of a proxy. `shape`: JSON that is none of the Hub's. `away`: a redirection to
another host, `hub.more["elsewhere"]`."""


@dataclass
class Fault:
    """One thing that goes wrong."""

    kind: str
    """One of `KINDS`, or of `NONSENSE`."""
    where: str = ".*"
    """What method and path, `POST /api/…` without the query, must match."""
    times: int = 1
    """How often; -1 for ever."""
    retry_after: float = 0.2
    """Of a 429, in seconds."""
    seconds: float = 1.0
    """Of a slow one, at most."""
    gate: threading.Event | None = None
    """What a slow one waits for."""

    def __post_init__(self) -> None:
        assert self.kind in KINDS + NONSENSE, self.kind

    def matches(self, method: str, path: str) -> bool:
        """Whether a request is struck, as far as it is a matter of its route."""
        return self.times != 0 and re.fullmatch(self.where, f"{method} {path}") is not None


def strike(faults: list[Fault], method: str, path: str) -> Fault | None:
    """The first fault that strikes a request; it is counted."""
    for fault in faults:
        if fault.matches(method, path):
            fault.times -= fault.times > 0
            return fault
    return None
