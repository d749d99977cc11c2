"""The app as a process of its own: what it prints and logs, logging in to it, and how it ends."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image
from starlette.applications import Starlette

from app import LAST_COPY_SECONDS
from inference.common.errors import UserError
from inference.model.request import Request
from inference.server import lifecycle
from inference.server.lifecycle import health_route, listening_address
from inference.server.queue import RequestQueue
from tests import ROOT
from tests.support.app_process import Process
from tests.support.crowd import Visitor, ask_at_once
from tests.support.marked_words import WORDS, speak_everywhere
from tests.support.samples import problems
from tests.support.serving import WAIT_SECONDS

SESSIONS_MB = 80.0
"""What sixty new sessions may take; the app keeps 256."""
END_SECONDS = 8
"""SIGTERM to exit at most, and a little; a container is killed after ten."""


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    running = Process(tmp_path_factory.mktemp("process") / "home")
    yield running
    running.popen.kill()
    running.popen.wait()


@pytest.mark.long
def test_sixty_questions_take_little_memory(process: Process) -> None:
    """A sample of what make torture asks: the first thirty make it warm, as far as so few can."""
    process.wait_for("Admin token")
    process.wait_ready()
    picture = Visitor(process.url, 2).upload(problems(1, seed=3)[0].image)
    ask_at_once(process.url, picture, range(2, 32))
    before = process.resident_mb()
    visits = [visit for _ in range(2) for visit in ask_at_once(process.url, picture, range(2, 32))]
    assert len(visits) == 60 and {visit.outcome for visit in visits} <= {"answered", "busy"}
    assert process.resident_mb() - before < SESSIONS_MB


@pytest.mark.slow
def test_an_app_that_nobody_asks_leaves_the_processor_alone(process: Process) -> None:
    process.wait_ready()
    running = psutil.Process(process.popen.pid)
    time.sleep(1.0)
    before = sum(running.cpu_times()[:2])
    time.sleep(4.0)
    assert sum(running.cpu_times()[:2]) - before < 0.8, "seconds of the processor within four of the clock"


@pytest.mark.slow
def test_no_word_of_a_visitor_is_in_the_output(process: Process) -> None:
    """Marked words through every part of a request; `make torture` sends them through every door."""
    process.wait_ready()
    speak_everywhere(process.url)
    text = "".join(process.lines)
    assert WORDS not in text and "forged" not in text
    assert all(json.loads(line) for line in process.lines if not line.startswith("Admin token"))


@pytest.mark.slow
def test_the_app_admits_its_owner_and_ends(process: Process) -> None:
    token = process.wait_for(r"Admin token, for the Train tab: (\S+)")[1]
    assert process.health()["status"] in ("loading", "ready")
    process.wait_ready()
    here = {"origin": process.url}
    refused = httpx.post(f"{process.url}/admin/login", json={"token": "not the token"}, headers=here)
    assert refused.status_code == 403
    assert httpx.post(f"{process.url}/admin/login", json={"token": token}, headers=here).status_code == 200

    told: list[str] = []
    listens = threading.Event()
    asking = threading.Thread(target=lambda: told.append(_ask_at_length(process.url, listens)))
    asking.start()
    assert listens.wait(WAIT_SECONDS) and process.health()["answering"] and not told
    assert lifecycle.TELL_SECONDS + lifecycle.CLOSE_SECONDS + 1 + LAST_COPY_SECONDS <= END_SECONDS
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(WAIT_SECONDS) == 0
    asking.join(WAIT_SECONDS)
    assert "being restarted; ask again" in told[0]

    text = "".join(process.lines)
    assert text.count(token) == 1 and "127.0.0.1" not in text.replace(process.url, "")
    logged = [json.loads(line) for line in process.lines if line.startswith("{")]
    assert {"serving", "admin_log_in_refused", "admin_logged_in", "question_ended", "stopping", "stopped"} <= {
        line.get("event") for line in logged
    }
    assert "count everything" not in text


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"GRADIO_SERVER_PORT": "x"}, "GRADIO_SERVER_PORT is 'x'; give a number from 1 to 65535"),
        *(
            ({"GRADIO_SERVER_PORT": port}, f"GRADIO_SERVER_PORT is '{port}'; give a number from 1 to 65535")
            for port in ("0000199999", "00001" + "9" * 5_000, "000")
        ),
        *(
            ({"GRADIO_SERVER_PORT": port}, "give a number from 1")
            for port in ("0", "-1", "65536", "7860.0", "²", "1e3")
        ),
        *(({"GRADIO_SERVER_NAME": name}, "not an address") for name in ("an address", "300.1.2.3", "1.2.3", "::1::")),
        *(({"GRADIO_SERVER_NAME": name}, "not an address") for name in ("http://127.0.0.1", "127.0.0.1:80", "-a", "[")),
    ],
)
def test_a_malformed_address_is_named(env: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        listening_address(env)


@pytest.mark.parametrize(
    ("env", "host", "name"),
    [
        ({}, "127.0.0.1", "127.0.0.1"),
        ({"GRADIO_SERVER_NAME": "0.0.0.0"}, "0.0.0.0", "0.0.0.0"),
        ({"GRADIO_SERVER_NAME": "::1"}, "::1", "[::1]"),
        ({"GRADIO_SERVER_NAME": "[::]"}, "::", "[::]"),
        ({"GRADIO_SERVER_NAME": "localhost"}, "localhost", "localhost"),
    ],
)
def test_an_address_is_read(env: dict[str, str], host: str, name: str) -> None:
    address = listening_address(env | {"GRADIO_SERVER_PORT": " 7861 "})
    assert (address.host, address.name, address.port) == (host, name, 7861)
    assert listening_address(env).port == 7860


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_told(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken:
        address = lifecycle.Address(host, taken.getsockname()[1])
        with pytest.raises(UserError, match=f"{address.port}: the port is taken; .* GRADIO_SERVER_PORT"):
            address.check_free()
    address.check_free()


def test_an_address_of_another_machine_is_told() -> None:
    for host in ("203.0.113.7", "2001:db8::7", "a..b", "a" * 64):
        with pytest.raises(UserError, match="this machine has no such address; set GRADIO_SERVER_NAME"):
            lifecycle.Address(host, 7860).check_free()


def _ask_at_length(url: str, listens: threading.Event) -> str:
    """Many questions that together take long; what the stream of the last one said."""
    with httpx.Client(base_url=f"{url}/gradio_api", timeout=WAIT_SECONDS) as http:
        picture = (ROOT / "inference" / "starter" / "rewards.png").read_bytes()
        [path] = http.post("/upload", files={"files": ("p.png", picture)}).json()
        data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, "count everything", None, "base", 1024, 2.0, 0]
        events = [http.post("/call/ask", json={"data": data}).json()["event_id"] for _ in range(8)]
        with http.stream("GET", f"/call/ask/{events[-1]}") as answer:
            listens.set()
            return answer.read().decode()


def ask(
    line: RequestQueue, is_run_active: Callable[[], bool] = lambda: False, then: Callable[[], None] = lambda: None
) -> tuple[int, Any]:
    """Status and body; `then` is called when they are there."""

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(Starlette(routes=[health_route(line, is_run_active)]))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
            answer = await http.get("/healthz")
        then()
        return answer

    answer = asyncio.run(get())
    return answer.status_code, answer.json()


def test_it_tells_how_the_engine_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "RUN_SECONDS", WAIT_SECONDS)  # a busy machine may need more than the app gives it
    ready = threading.Event()

    def load() -> Any:
        ready.wait()
        raise UserError("/a/secret/folder")

    line = RequestQueue(load)
    line.submit([Request(Image.new("RGB", (28, 28)), "a secret question")])
    assert ask(line) == (200, {"status": "loading", "waiting": 1, "answering": False, "run_active": False})
    ready.set()
    with pytest.raises(UserError):
        line.wait_loaded(WAIT_SECONDS)
    status, body = ask(line, lambda: True)
    assert (status, body["status"], body["run_active"]) == (503, "failed", True)
    assert "secret" not in str(body)
    line.close("bye")
    assert ask(line)[1]["status"] == "stopping"


def test_it_waits_for_nothing() -> None:
    line = RequestQueue(lambda: threading.Event().wait())  # type: ignore[arg-type,return-value]
    answered = threading.Event()
    assert ask(line, lambda: answered.wait(WAIT_SECONDS), answered.set)[1]["run_active"] is None
    assert ask(line, lambda: 1 // 0 > 0)[1]["run_active"] is None
