"""Visitors of a running app, each from an address of their own, who ask as the page does."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from PIL import Image

from tests.support.serving import WAIT_SECONDS

ANSWER_SECONDS = 10 * WAIT_SECONDS
"""How long a visitor waits on a machine that trains as well."""


@dataclass(frozen=True)
class Visit:
    """What came of one question."""

    outcome: str
    """`answered`, `busy`, or what went wrong."""
    saw_place: bool
    """True if the page told how many questions were ahead."""
    seconds: float


class Visitor:
    """One browser: an address on the loopback interface, and a session."""

    def __init__(self, url: str, number: int) -> None:
        self.session = uuid.uuid4().hex
        transport = httpx.HTTPTransport(local_address=f"127.0.0.{number}")
        self.http = httpx.Client(base_url=f"{url}/gradio_api", timeout=ANSWER_SECONDS, transport=transport)
        self._asks = _index_of(url, "ask_on_page")

    def upload(self, image: Image.Image) -> dict[str, Any]:
        """A picture, as the page hands it to an event."""
        file = io.BytesIO()
        image.save(file, "PNG")
        [path] = self.http.post("/upload", files={"files": ("picture.png", file.getvalue())}).raise_for_status().json()
        return {"path": path, "meta": {"_type": "gradio.FileData"}}

    def join(self, picture: dict[str, Any], tokens: int) -> httpx.Response:
        """Press Ask."""
        data = [picture, "How many circles are there?", None, None, 0, tokens, 0, None]
        body = {"data": data, "fn_index": self._asks, "session_hash": self.session}
        return self.http.post("/queue/join", json=body)

    @contextlib.contextmanager
    def stream(self) -> Iterator[Iterator[str]]:
        """The answers as they come; leaving it hangs up."""
        with self.http.stream("GET", "/queue/data", params={"session_hash": self.session}) as answer:
            yield answer.iter_lines()

    def ask(self, picture: dict[str, Any], tokens: int = 4) -> Visit:
        """One question to its end."""
        begun = time.monotonic()
        joined = self.join(picture, tokens)
        if joined.status_code == 503:
            return Visit("busy", False, time.monotonic() - begun)
        if joined.status_code != 200:
            return Visit(f"status {joined.status_code}: {joined.text[:200]}", False, time.monotonic() - begun)
        seen = ""
        with self.stream() as lines:
            for line in lines:
                seen += line
                if line.startswith("data:") and json.loads(line[5:])["msg"] in ("process_completed", "close_stream"):
                    break
        outcome = _outcome(seen)
        return Visit(outcome, " ahead" in seen, time.monotonic() - begun)


@functools.cache
def _index_of(url: str, name: str) -> int:
    """The number by which the queue knows an event of the page."""
    events = httpx.get(f"{url}/config", timeout=WAIT_SECONDS).json()["dependencies"]
    return next(event["id"] for event in events if event["api_name"] == name)


def _outcome(seen: str) -> str:
    if "questions are waiting or being answered" in seen or "questions of yours" in seen:
        return "busy"
    ended = any(f'data-state=\\\\"{state}\\\\"' in seen or f'data-state=\\"{state}\\"' in seen for state in ENDED)
    return "answered" if ended else f"no end: {seen[-300:]}"


ENDED = ("done", "cut-off")


def ask_at_once(url: str, picture: dict[str, Any], numbers: range, tokens: int = 4, questions: int = 1) -> list[Visit]:
    """Everybody asks at the same moment, so many questions in a row; what became of each."""
    visits: list[Visit] = []

    def one(number: int) -> None:
        visitor = Visitor(url, number)
        try:
            for _ in range(questions):
                visits.append(visitor.ask(picture, tokens))
        except httpx.HTTPError as error:
            visits.append(Visit(type(error).__name__, False, 0.0))
        finally:
            visitor.http.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(ANSWER_SECONDS)
    return visits
