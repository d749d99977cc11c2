"""Every door of the running app, tried by everybody who has no right: nothing changes and nothing leaks.

The doors are listed from the app (`tests.support.doors_of_app`), so a new one is covered by itself. A handler outside
`inference` is taken for the admin's, and has to refuse.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import http.server
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import gradio as gr
import httpx
import pytest
import safehttpx
from gradio import processing_utils

import app
from inference.engine.engine import Engine
from inference.server.routes import MAX_JSON_VALUES
from tests.support.app_process import Process
from tests.support.doors_of_app import (
    DOORS,
    Answer,
    Handler,
    Stranger,
    call_handlers,
    call_routes,
    handlers,
    routes,
    strangers,
)
from tests.support.marked_words import WORDS, speak_everywhere
from tests.support.samples import random_adapter
from tests.support.serving import ADAPTER, ADMIN_TOKEN, WAIT_SECONDS, Server, serve
from tests.training.data.own_sets.test_upload import HOSTILE, packed
from training.admin.access import Access
from training.ui.sections.data_cards import PAGE_ROWS
from training.ui.training_app import TrainingApp

MARK = "words of a run that nobody else may read"
SECRETS = [MARK, "hf_the_token_of_the_app", "the-oauth-secret"]
TORTURE = "LOOKTHINK_TORTURE" in os.environ
CALLERS = 8
"""Of one kind at a time."""
LOCKED_VIEWS = {
    *("train_enter", "train_enter_1", "train_tick", "train_go"),
    *("train_open_section", *(f"train_open_section_{i}" for i in range(1, 6))),
}
"""Admin handlers that answer a stranger with a page that is locked, where others refuse; by their names."""


@pytest.fixture(scope="module", autouse=True)
def secrets() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", SECRETS[1])
        patch.setenv("OAUTH_CLIENT_SECRET", SECRETS[2])
        yield


@pytest.fixture(scope="module")
def server(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("doors")
    run = folder / "home" / "runs" / "20261122-143000-a1b2"
    run.mkdir(parents=True)
    for name in ("config.json", "train.log", "request.json"):
        (run / name).write_text(MARK)
    adapter = random_adapter(folder / ADAPTER)
    with serve(engine, folder / "home", adapter, sharing=True, calls_per_minute=100_000) as running:
        yield running


def state(server: Server) -> dict[str, Any]:
    """All that a stranger must leave as it is: the files of the home folder but uploads, and what is served."""
    home = server.settings.home
    files = [path for path in home.rglob("*") if path.is_file() and "uploads" not in path.relative_to(home).parts]
    found: dict[str, Any] = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return found | {"served": server.service.offer.served, "records": list(server.service.offer.records)}


def call_at_once(
    server: Server, stranger: Stranger, doors: dict[Handler, list[str]], value: object = None
) -> list[Answer]:
    """As `call_handlers`, by several callers of the same kind: most of the time goes by in Gradio's queue."""
    which, by_index = list(doors), {handler.index: names for handler, names in doors.items()}
    parts = [which[start::CALLERS] for start in range(CALLERS)]
    with ThreadPoolExecutor(CALLERS) as pool:
        found = list(pool.map(lambda some: list(call_handlers(server, stranger, some, value, by_index)), parts))
    return [answer for answers in found for answer in answers]


def wrong(answers: list[Answer], secrets: list[str]) -> list[str]:
    """What should not have come back."""
    leaks = [f"{a.stranger}: {a.door} leaks" for a in answers if any(secret in a.text for secret in secrets)]
    broken = [f"{a.stranger}: {a.door} is let in" for a in answers if a.is_admin and a.succeeded]
    return leaks + [line for line in broken if line.split()[-4].rpartition("/")[2] not in LOCKED_VIEWS]


def test_no_stranger_gets_anywhere_through_a_handler(server: Server) -> None:
    """Everybody at every admin handler; through one of its doors, which take turns, and by torture through all."""
    everybody = strangers(server)
    before, all_of_them = state(server), handlers(server.blocks)
    for number, stranger in enumerate(everybody):
        # what is open to everybody asks nobody who they are, so one of them does
        which = [handler for handler in all_of_them if handler.is_admin or stranger.name == "anonymous"]
        doors = {one: [DOORS[(number + one.index) % len(DOORS)]] for one in which}
        if TORTURE or stranger.name == "anonymous":
            doors = {one: list(DOORS) for one in which}
        answers = call_at_once(server, stranger, doors)
        known = [] if stranger.body else [ADMIN_TOKEN, *(sent for sent in stranger.cookies.values() if len(sent) > 8)]
        assert len(answers) == sum(map(len, doors.values()))
        assert wrong(answers, [*SECRETS, *known]) == []
        assert state(server) == before, f"{stranger.name} changed something"


def test_no_stranger_gets_anywhere_through_a_route(server: Server) -> None:
    everybody = strangers(server)
    httpx.get(f"{server.url}/healthz", timeout=WAIT_SECONDS)  # which looks at the records, as a watcher has by now
    before, home = state(server), server.settings.home
    inside = [str(path) for path in (home / "admin_sessions.json", *home.rglob("train.log"))]
    paths = ["x", *inside, f"../../{inside[0]}", "/etc/passwd"]
    assert {("GET", "/healthz"), ("POST", "/admin/login"), ("POST", "/gradio_api/queue/join")} <= routes(server.app)
    for stranger in (everybody[0], everybody[3], everybody[6]):
        answers = list(call_routes(server, stranger, paths if stranger is everybody[0] else ["x"]))
        assert wrong(answers, [*SECRETS, ADMIN_TOKEN, "root:x:0"]) == []
        assert state(server) == before, f"{stranger.name} changed something"


class Inside(http.server.BaseHTTPRequestHandler):
    """A server that only this machine can reach, which notes who asks it; `/away` sends them on to itself."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(302 if self.path.startswith("/away") else 200)
        self.send_header("location", "/there")
        self.end_headers()
        self.wfile.write(b"words of the inside")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def inside() -> Iterator[tuple[str, list[str]]]:
    """Its port, and the paths that it was asked for."""
    asked: list[str] = []
    kind = type("Noting", (Inside,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield str(running.server_port), asked
        running.shutdown()


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names that were looked up; all but this machine's are unknown here, and any address counts as public.

    So nothing but the app's own refusal stands between a caller and what is inside.
    """
    names: list[str] = []
    look_up = socket.getaddrinfo

    def noted(host: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        names.append(name)
        if name not in ("127.0.0.1", "::ffff:127.0.0.1", "localhost"):
            raise socket.gaierror(socket.EAI_NONAME, "unknown here")
        return look_up(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    monkeypatch.setattr(safehttpx, "is_public_ip", lambda address: True)
    return names


def addresses(port: str) -> list[str]:
    """Private in every sense: loopback, mapped, by name, by redirect, carrier-grade NAT, link-local, and unknown."""
    own = [f"http://{host}:{port}/{i}" for i, host in enumerate(("127.0.0.1", "[::ffff:127.0.0.1]", "localhost"))]
    elsewhere = ["http://100.64.0.1/", "http://169.254.169.254/latest", "https://[fe80::1]/", "http://a.invalid/"]
    return [*own, f"http://127.0.0.1:{port}/away", f"HTTP://127.0.0.1:{port}/big", *elsewhere]


SAMPLE = pytest.mark.parametrize("is_all", [False, pytest.param(True, marks=pytest.mark.torture)])
"""In the ordinary tests every eighth handler, without the queue, which takes most of the time."""


def call_some(server: Server, somebody: Stranger, is_all: bool, values: list[object]) -> list[Answer]:
    """All handlers with each of the values, and with the first through every door; or the sample."""
    all_of_them = handlers(server.blocks)
    some, sent = (all_of_them, values) if is_all else (all_of_them[::8], values[:2])
    answers = [answer for value in sent for answer in call_handlers(server, somebody, some, value, DOORS[:1])]
    everywhere = {one: list(DOORS) for one in all_of_them}
    return answers + (call_at_once(server, somebody, everywhere, values[0]) if is_all else [])


@SAMPLE
def test_nothing_is_fetched_for_a_stranger(
    is_all: bool, server: Server, inside: tuple[str, list[str]], resolved: list[str]
) -> None:
    """Through every route and handler, in every place where an address may stand; each is refused in words."""
    port, asked = inside
    anybody, named = strangers(server)[0], addresses(port)
    answers = list(call_routes(server, anybody, named, only="path_or_url"))
    quoted = [quote(address, "") for address in named[:2]]
    answers += call_routes(server, anybody, [*named, *quoted] if is_all else named[:1], only="" if is_all else "{")
    if is_all:
        answers += call_routes(server, anybody, ["x?" + urlencode(dict.fromkeys(ADDRESS_FIELDS, named[0]))])
    mark = {"meta": {"_type": "gradio.FileData"}}
    answers += call_some(
        server,
        anybody,
        is_all,
        [
            {"path": named[0], **mark},
            [{"path": "/tmp/x.png", "url": named[2], **mark}, {"deep": {"path": named[3], **mark}}],
            *({"path": address, "url": address, **mark} for address in named[4:]),
        ],
    )
    assert asked == [] and set(resolved) <= {"127.0.0.1"}, "the name that this test calls the app by"
    assert not [answer.door for answer in answers if "words of the inside" in answer.text]
    assert not [(answer.door, answer.text) for answer in answers if is_without_words(answer)]


def test_the_trap_for_fetches_catches_one(inside: tuple[str, list[str]], resolved: list[str]) -> None:
    """What Gradio would do without the app's refusal is seen by the test above."""
    port, asked = inside
    response = asyncio.run(processing_utils.async_ssrf_protected_get(f"http://localhost:{port}/away"))
    assert response.text == "words of the inside" and asked == ["/away", "/there"] and "localhost" in resolved


@pytest.fixture(scope="module")
def owner(server: Server) -> Stranger:
    """The one who may train, from the page."""
    headers = {"host": server.url.removeprefix("http://"), "origin": server.url}
    session = server.access.log_in(headers, "test", ADMIN_TOKEN)
    return Stranger("owner", {"origin": server.url}, {server.access.cookie_name: session})


def sent_to_data(server: Server, owner: Stranger, path: str, act: str = "look") -> httpx.Response:
    """The answer of Data's handler of an upload to the owner, for a ZIP at this path."""
    file = {"path": path, "orig_name": "a.zip", "meta": {"_type": "gradio.FileData"}}
    own = [fn for fn in server.blocks.fns.values() if "data-files" in [one.elem_id for one in fn.inputs]]
    called = next(fn for fn in own if str(fn.api_name).startswith(f"train_{act}"))
    values = ["my-set", None, None, [file], *[None] * (len(called.inputs) - 5), ""]
    address = f"{server.url}/gradio_api/run/{called.api_name}"
    return httpx.post(
        address, json={"data": values}, headers=owner.headers, cookies=owner.cookies, timeout=WAIT_SECONDS
    )


def uploaded(server: Server, path: Path) -> str:
    sent = httpx.post(f"{server.url}/gradio_api/upload", files={"files": ("x.zip", path.read_bytes())}, timeout=60)
    return str(sent.raise_for_status().json()[0])


@HOSTILE
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_upload_of_the_owner_changes_nothing(
    server: Server, owner: Stranger, make: Any, words: str, tmp_path: Path
) -> None:
    """Traversal, links, bombs and damage: refused in words by the preview and by the taking in, and nothing stays."""
    before, path = state(server), uploaded(server, make(tmp_path))
    looked, taken = (sent_to_data(server, owner, path, act) for act in ("look", "take"))
    assert looked.status_code == 200 and words in looked.text
    assert taken.status_code == 500 and words in taken.text
    assert state(server) == before


def test_an_upload_of_the_owner_fetches_nothing_and_reads_no_other_file(
    server: Server, owner: Stranger, inside: tuple[str, list[str]], resolved: list[str], tmp_path: Path
) -> None:
    """Whether an address or a path stands for the file itself, or for the picture of a row in it."""
    port, asked = inside
    secret = server.settings.home / "admin_sessions.json"
    named = [*addresses(port), "/etc/passwd", str(secret), f"../../../{secret.name}", f"file://{secret}"]
    lines = [json.dumps({"image": one, "problem": "Bar?", "solution": "1"}) for one in named]
    table = packed({"t.jsonl": "\n".join(lines).encode()}, tmp_path)
    before = state(server)
    answers = [sent_to_data(server, owner, path) for path in named]
    assert [answer.status_code for answer in answers] == [500] * len(named)
    answers.append(sent_to_data(server, owner, uploaded(server, table)))
    assert answers[-1].text.count("Not trained on, picture refused") == min(len(named), PAGE_ROWS)
    assert asked == [] and set(resolved) <= {"127.0.0.1"} and state(server) == before
    text = "".join(answer.text for answer in answers)
    assert not [word for word in (*SECRETS, "root:x:0", "words of the inside") if word in text]


ADDRESS_FIELDS = ("url", "file", "path", "image", "deep_link", "proxy_url", "__theme", "view", "upload_id", "bucket")
"""Names of parameters in which Gradio, or a route of ours to come, might take an address."""


def is_without_words(answer: Answer) -> bool:
    """True for a failure that says nothing, or no more than its kind."""
    empty = ('"error":null', '"error": null', "event: error\ndata: null", "Internal Server Error")
    return any(words in answer.text for words in empty) or (answer.status >= 500 and not answer.text.strip())


JUNK: list[object] = ["words", -1, True, ["a", ["b"]], {"a": None}, {"path": 1}, {"__type__": "update"}]


@SAMPLE
def test_every_failure_is_in_words(is_all: bool, server: Server, figure: Callable[[str], None]) -> None:
    """Whatever is sent to any handler or route: `null` and a bare status tell nobody what to do."""
    anybody = strangers(server)[0]
    answers = call_some(server, anybody, is_all, JUNK)
    unknown = [Handler(99_999, "no_such_endpoint", True, 1), Handler(-1, "ask/", False, 300)]
    answers += [*call_handlers(server, anybody, unknown), *call_handlers(server, anybody, handlers(server.blocks)[:1])]
    answers += call_routes(server, anybody, ["x"], only="" if is_all else "{")
    wrong_body = Stranger("junk", body={"data": {"a": 1}, "session_hash": 7, "fn_index": "x"})
    answers += call_routes(server, wrong_body, ["x"], only="" if is_all else "{")
    assert len(answers) > (500 if is_all else 60)
    assert sorted({(answer.door, answer.text) for answer in answers if is_without_words(answer)}) == []
    if is_all:
        figure(f"failures without words: 0 of {len(answers):,} answers")


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("run/ask", b'{"data": [' + b"[]," * 100_000 + b"1]}", 400, "more than 5,000 values"),
        ("queue/join", b'{"data": ' + b"[" * 400 + b"]" * 400 + b"}", 400, "32 deep"),
        ("call/upload", b'{"data": "' + b"a" * 2_000_000 + b'"}', 413, "larger than 1.0 MB"),
        ("run/upload", b'{"data": "' + b"a" * 2_000_000 + b'"}', 413, "larger than 1.0 MB"),
        ("run/ask", b"no json", 400, "not JSON"),
    ],
)
def test_a_body_that_would_be_too_much_work_is_refused(
    server: Server, path: str, body: bytes, status: int, words: str
) -> None:
    answer = httpx.post(f"{server.url}/gradio_api/{path}", content=body, timeout=WAIT_SECONDS)
    assert answer.status_code == status and words in answer.json()["detail"]


@pytest.mark.torture
def test_the_page_answers_while_costly_bodies_come(server: Server, figure: Callable[[str], None]) -> None:
    """Two callers send bodies of a million bytes: those that are refused, and the most work that is let in."""
    most = MAX_JSON_VALUES - 10
    bodies = {
        "refused": b'{"data": [' + b"[]," * 330_000 + b"1]}",
        "as texts": b'{"data": ["' + b"[{," * 300_000 + b'"]}',
        "let in": b'{"data": [[' + b'{"path": "a"},' * (most // 2) + b'"' + b"a" * 800_000 + b'"]]}',
        "not an upload": b'{"data": [' + b"[]," * 3_000_000 + b"1]}",
    }
    longest: dict[str, float] = {}
    post_or_break(f"{server.url}/gradio_api/run/ask", b'{"data": []}')  # the first failure reads Gradio's source files
    for name, body in bodies.items():
        path = "call/upload" if name == "not an upload" else "run/ask"
        with ThreadPoolExecutor(2) as pool:
            posts = [pool.submit(post_or_break, f"{server.url}/gradio_api/{path}", body) for _ in range(10)]
            longest[name] = 0.0
            while not all(post.done() for post in posts):
                begun = time.perf_counter()
                assert httpx.get(f"{server.url}/healthz", timeout=WAIT_SECONDS).status_code == 200
                longest[name] = max(longest[name], time.perf_counter() - begun)
        assert {post.result() for post in posts} <= ({400, 413} if name in ("refused", "not an upload") else {500})
    said = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in longest.items())
    figure(f"longest wait for /healthz while bodies of 1 to 9 MB came, 2 at once: {said}")
    assert max(longest.values()) < 1.0


def post_or_break(url: str, body: bytes) -> int:
    """The status; 413 where the server hung up before the whole body was sent."""
    try:
        headers = {"content-type": "application/json"}
        return httpx.post(url, content=body, headers=headers, timeout=WAIT_SECONDS).status_code
    except httpx.WriteError:
        return 413


@pytest.mark.torture
@pytest.mark.parametrize("form", ["json", "text"])
def test_no_word_through_any_door_is_in_the_output(
    form: str, server: Server, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """Marked words as path of every route and as value of every handler of an app that is a process of its own."""
    forged = f"{WORDS}\nINFO lookthink: forged"
    process = Process(tmp_path / "home", LOOKTHINK_LOG=form)
    there = dataclasses.replace(server, url=process.url)
    file = {"path": f"/tmp/{forged}.png", "orig_name": forged, "meta": {"_type": "gradio.FileData"}}
    values: list[object] = [forged, [forged], {forged: forged}, {"value": forged}, file, {"path": forged}]
    try:
        process.wait_ready()
        speak_everywhere(process.url)
        count = 0
        for at, value in enumerate(values):
            somebody = Stranger("marked", {"x-words": WORDS}, {"words": WORDS}, {}, f"127.0.1.{2 * at + 1}")
            all_of_them = handlers(server.blocks)
            count += len(list(call_handlers(there, somebody, all_of_them, value, DOORS[:1] if at > 0 else DOORS)))
            other = Stranger("marked", body={"data": value, "session_hash": forged}, address=f"127.0.1.{2 * at + 2}")
            count += len(list(call_routes(there, other, [quote(forged, "")])))
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(WAIT_SECONDS) == 0
    finally:
        process.popen.kill()
    lines = "".join(process.lines).splitlines()
    assert len(lines) > 20 and not [
        line for line in lines if WORDS in line or line.startswith("INFO lookthink: forged")
    ]
    figure(f"marked words in {count:,} requests, log as {form}: 0 in {len(lines):,} lines of output")


def test_the_sweep_finds_a_door_that_was_left_open(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An admin handler that asks `Access` first passes; one that forgets to is found, by its answer and its deed."""
    access = Access(tmp_path, {"LOOKTHINK_ADMIN_TOKEN": ADMIN_TOKEN})

    def guarded(request: gr.Request) -> str:
        try:
            access.check(request.headers, request.cookies)
        except ValueError as refusal:
            raise gr.Error(str(refusal), print_exception=False) from None
        (tmp_path / "deed").touch()
        return MARK

    def forgotten() -> str:
        (tmp_path / "deed").touch()
        return MARK

    for handler, is_open in ((guarded, False), (forgotten, True)):
        with gr.Blocks(analytics_enabled=False) as blocks:
            gr.Button().click(handler, None, gr.Textbox(), api_visibility="private")
        side = TrainingApp(server.settings, access)
        app.launch(blocks.queue(), server.service, side, prevent_thread_lock=True, quiet=True)
        try:
            probe = Server(blocks.local_url.rstrip("/"), server.engine, server.settings, blocks, server.service, access)
            answers = [a for one in strangers(probe) for a in call_handlers(probe, one, handlers(blocks))]
        finally:
            blocks.close(verbose=False)
        assert [a.is_admin for a in answers] == [True] * len(answers)
        assert (tmp_path / "deed").exists() is is_open
        assert bool(wrong(answers, [MARK])) is is_open
