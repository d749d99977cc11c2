"""Logging in and out over HTTP: the cookie that comes of it, and what is refused."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from training.admin.access import ATTEMPTS_PER_MINUTE, Access, NotAllowed, access_routes

TOKEN = "a-token-for-the-tests"
HERE = {"origin": "http://app"}


@pytest.fixture
def access(home: Path) -> Access:
    return Access(home, {"LOOKTHINK_ADMIN_TOKEN": TOKEN})


def post(access: Access, path: str, content: Any, headers: dict[str, str] = HERE) -> httpx.Response:
    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(Starlette(routes=access_routes(access)), client=("192.0.2.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
            return await http.post(path, content=content, headers=headers)

    return asyncio.run(call())


def right() -> bytes:
    return json.dumps({"token": TOKEN}).encode()


def test_log_in_and_out(access: Access, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answer = post(access, "/admin/login", right())
    assert answer.status_code == 200 and answer.json() == {"ok": True}
    kept = answer.headers["set-cookie"]
    assert all(word in kept.lower() for word in ("httponly", "samesite=strict", "path=/", "max-age"))
    assert "secure" not in kept.lower() and TOKEN not in kept
    cookies = dict(answer.cookies)
    assert access.check({"host": "app", **HERE}, cookies).name == "admin"
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    gone = post(access, "/admin/logout", b"", HERE | {"cookie": cookie})
    assert gone.status_code == 200 and "max-age=0" in gone.headers["set-cookie"].lower()
    with pytest.raises(NotAllowed):
        access.check({"host": "app", **HERE}, cookies)
    assert TOKEN not in caplog.text and cookies[access.cookie_name] not in caplog.text
    assert "admin_logged_in" in caplog.text and "192.0.2.7" not in caplog.text


def test_over_https_the_cookie_stays_there(access: Access) -> None:
    answer = post(access, "/admin/login", right(), {"origin": "https://app"})
    assert "secure" in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (right(), {}, 403),
        (right(), {"origin": "http://evil.example"}, 403),
        (b'{"token": "wrong"}', HERE, 403),
        (b"", HERE, 400),
        (b"[]", HERE, 400),
        (b'{"token": 7}', HERE, 400),
        (b"[" * 4000, HERE, 400),
        (b'{"token": "' + b"x" * 10_000 + b'"}', HERE, 400),
        (b"\xff\xfe", HERE, 400),
    ],
)
def test_what_is_refused(access: Access, content: bytes, headers: dict[str, str], status: int) -> None:
    answer = post(access, "/admin/login", content, headers)
    assert answer.status_code == status and answer.json()["error"] and "set-cookie" not in answer.headers
    assert TOKEN not in answer.text


def test_who_tries_too_often_is_told_how_long_to_wait(access: Access) -> None:
    for _ in range(ATTEMPTS_PER_MINUTE):
        post(access, "/admin/login", b'{"token": "wrong"}')
    answer = post(access, "/admin/login", b'{"token": "wrong"}')
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) in range(1, 61)
    assert "Try again in" in answer.json()["error"]
    assert post(access, "/admin/login", right()).status_code == 200, "a right token never waits"


def test_another_page_cannot_log_one_out(access: Access) -> None:
    assert post(access, "/admin/logout", b"", {"origin": "http://evil.example"}).status_code == 403
