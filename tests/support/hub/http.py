"""What the routes of the test Hub are made of: a request, an answer, a refusal in the Hub's form, a table of routes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.hub.repos import Hub


@dataclass(frozen=True)
class Request:
    """What a client asks."""

    method: str
    parts: Mapping[str, str]
    """What the route's pattern caught, unquoted."""
    query: Mapping[str, list[str]]
    body: bytes
    user: str | None
    range: str | None = None
    host: str = ""
    """The Hub's own address, as this client reached it."""


@dataclass(frozen=True)
class Answer:
    """What it gets."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: Iterator[bytes] | None = None
    """What follows piece by piece, instead of a body; the connection ends with it."""


class Refused(Exception):
    """An error in the Hub's form: its status and its code in `X-Error-Code`."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        headers = {"X-Error-Code": code, "X-Error-Message": message, "Content-Type": "application/json"}
        self.answer = Answer(status, json.dumps({"error": message}).encode(), headers)


def as_json(value: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


Handler = Callable[[Hub, Request], Answer]
Routes = tuple[tuple[str, re.Pattern[str], Handler], ...]
"""Methods, the path's pattern (of the path as it is quoted), and what answers."""

ID = r"(?P<id>[\w.-]+/[\w.-]+)"
API = rf"/api/(?P<kind>datasets|models|spaces)/{ID}"
REVISION = r"(?P<revision>[^/]+)"


def routes(*rows: tuple[str, str, Handler]) -> Routes:
    """A table of routes, its patterns compiled."""
    return tuple((methods, re.compile(pattern), handler) for methods, pattern, handler in rows)
