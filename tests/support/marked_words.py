"""Marked words of a visitor, through every part of a request; no output of the app may have them."""

from __future__ import annotations

import contextlib
import io
import json
from urllib.parse import quote

import httpx

from tests.support.samples import problems
from tests.support.serving import WAIT_SECONDS

WORDS = "Words-of-a-visitor"


def speak_everywhere(url: str) -> None:
    """Marked words, with forged lines, as path, query, header, method, file name, question, answer and value."""
    forged = f"{WORDS}\nINFO lookthink: forged"
    api, quoted = f"{url}/gradio_api", quote(forged, "")
    alone = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(timeout=WAIT_SECONDS, limits=alone, headers={"user-agent": WORDS, "referer": WORDS}) as http:
        for door in (f"custom_component/{quoted}/client/a/b", f"file={quoted}", f"file=/{quoted}", f"call/{quoted}/x"):
            with contextlib.suppress(httpx.RemoteProtocolError):  # a stream of an unknown event is broken off
                http.get(f"{api}/{door}", params={WORDS: forged}, headers={"x-forwarded-for": WORDS})
        for door in (quoted, f"{quoted}?{quoted}", "?deep_link=" + quoted, "?view=" + quoted, "?__theme=" + quoted):
            http.get(f"{url}/{door}")
        http.request(WORDS, url)
        buffer = io.BytesIO()
        problems(1, seed=3)[0].image.save(buffer, "PNG")
        [path] = http.post(f"{api}/upload", files={"files": (f"{WORDS}.png", buffer.getvalue())}).json()
        file = {"path": path, "orig_name": forged, "meta": {"_type": "gradio.FileData"}}
        for expected in (f"x_{{{WORDS}}}+1", f"\\frac{{{WORDS}"):
            for data in (
                [file, forged, expected, "base", 4, 0, 0, [file, file]],
                [file, forged, expected, forged, forged, 0],
                [forged],
            ):
                event = http.post(f"{api}/call/ask", json={"data": data}).json()
                with contextlib.suppress(httpx.RemoteProtocolError):
                    http.get(f"{api}/call/ask/{event.get('event_id')}")
        for body in (forged, json.dumps(forged), json.dumps({"data": forged, "session_hash": forged})):
            http.post(f"{api}/queue/join", content=body, headers={"content-type": "application/json"})
            http.post(f"{api}/run/ask", content=body, headers={"content-type": WORDS})
        http.post(f"{url}/admin/login", json={"token": forged}, headers={"origin": url})
        http.post(f"{url}/login", data={"username": forged, "password": forged})
