"""Every door of the running app, tried by everybody who has no right: nothing changes and nothing leaks.

The doors are listed from the app (`tests.support.doors_of_app`), so a new one is covered by itself. A handler outside
`inference` is taken for the admin's, and has to refuse.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest

import app
from inference.engine.engine import Engine
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
from tests.support.samples import random_adapter
from tests.support.serving import ADAPTER, ADMIN_TOKEN, WAIT_SECONDS, Server, serve
from training.admin.access import Access
from training.ui.training_app import TrainingApp

MARK = "words of a run that nobody else may read"
SECRETS = [MARK, "hf_the_token_of_the_app", "the-oauth-secret"]
TORTURE = "LOOKTHINK_TORTURE" in os.environ
CALLERS = 8
"""Of one kind at a time."""
LOCKED_VIEWS = {
    *("train_enter", "train_enter_1", "train_tick"),
    *("train_open_section", *(f"train_open_section_{i}" for i in (1, 2, 3))),
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
    with serve(engine, folder / "home", random_adapter(folder / ADAPTER), calls_per_minute=100_000) as running:
        yield running


def state(server: Server) -> dict[str, Any]:
    """All that a stranger must leave as it is: the files of the home folder but uploads, and what is served."""
    home = server.settings.home
    files = [path for path in home.rglob("*") if path.is_file() and "uploads" not in path.relative_to(home).parts]
    found: dict[str, Any] = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return found | {"served": server.service.offer.served, "records": list(server.service.offer.records)}


def call_at_once(server: Server, stranger: Stranger, doors: dict[Handler, list[str]]) -> list[Answer]:
    """As `call_handlers`, by several callers of the same kind: most of the time goes by in Gradio's queue."""
    which, by_index = list(doors), {handler.index: names for handler, names in doors.items()}
    parts = [which[start::CALLERS] for start in range(CALLERS)]
    with ThreadPoolExecutor(CALLERS) as pool:
        found = list(pool.map(lambda some: list(call_handlers(server, stranger, some, by_index)), parts))
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
