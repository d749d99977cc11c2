"""The lines around the model, each broken in turn: a token that may not write, a full disk, a clock that is off, …"""

from __future__ import annotations

import http.server
import json
import shutil
import socket
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from inference.common.settings import load_settings
from inference.common.space_file import TrainingSection
from tests.support.datasets_on_disk import write_folder
from tests.support.hub.client import Client
from tests.support.hub.repos import Hub
from training.config.run_config import load_config
from training.doctor import surroundings
from training.doctor.checks import CHECKS, examine
from training.doctor.report import Line
from training.doctor.subject import Subject

GB = 10**9
TOKEN = "hf_of_the_owner"
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def subject(home: Path) -> Callable[..., Subject]:
    """A subject of these settings of the run, of the deployment (`training`, `state`), and this environment."""

    def make(values: dict[str, Any] | None = None, training: dict[str, Any] | None = None, **env: str) -> Subject:
        state = {"LOOKTHINK_STATE": env.pop("state")} if "state" in env else {}
        settings = load_settings(env={"LOOKTHINK_HOME": str(home), "LOOKTHINK_BASE": "starter"} | state)
        section = TrainingSection(**{"dataset": "starter"} | (training or {}))
        settings = settings.model_copy(update={"training": section})
        return Subject(load_config("starter", {"report_to": []} | (values or {})), settings, env)

    return make


def line(name: str, subject: Subject) -> Line:
    """One line, as an examination gives it."""
    [check] = [check for check in CHECKS if check.name == name]
    [found] = examine(subject, "full", checks=[check]).lines
    assert found.remedy or found.status in ("pass", "skip"), "what is not right has a remedy"
    return found


def test_versions_name_the_card_and_what_differs_from_the_pins(
    subject: Callable[..., Subject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = line("versions", subject())
    assert "torch 2." in said.evidence and "transformers " in said.evidence and "code " in said.evidence
    (tmp_path / "requirements.txt").write_text("torch==1.0.0\nno-such-package==3.1\npydantic[extra]==0.0.1\n")
    monkeypatch.setattr(surroundings, "ROOT", tmp_path)
    said = line("versions", subject())
    assert said.status == "warn" and "instead of 1.0.0" in said.evidence and "no-such-package none" in said.evidence


@pytest.mark.parametrize(("free", "status"), [(0.5, "fail"), (1.5, "warn"), (50.0, "pass")])
def test_a_disk(free: float, status: str, subject: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 * GB, 0, int(free * GB)))
    said = line("disk", subject())
    assert said.status == status and f"{free:.1f} GB free for runs, which need about 1.0" in said.evidence


@pytest.mark.parametrize(
    ("off", "status", "words"),
    [
        (0, "pass", "within 2 s"),
        (-3_600, "fail", "s ahead of the Hub's"),
        (3_600, "fail", "s behind the Hub's"),
        (-90, "warn", "s ahead of the Hub's"),
    ],
)
def test_a_clock(
    off: float,
    status: str,
    words: str,
    subject: Callable[..., Subject],
    hub_client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = lambda self, timestamp=None: formatdate(time.time() + off, usegmt=True)  # noqa: E731
    monkeypatch.setattr(http.server.BaseHTTPRequestHandler, "date_time_string", now)
    said = line("clock", subject())
    assert said.status == status and words in said.evidence
    assert not off or abs(int(said.evidence.partition(" ")[0]) - abs(off)) <= 2


def test_a_clock_that_cannot_be_compared(subject: Callable[..., Subject], hub_client: Client) -> None:
    hub_client.go_offline()
    assert line("clock", subject()).status == "skip"


PUBLISHES = {"publish_to": "me/adapter"}


@pytest.mark.parametrize(
    ("token", "role", "values", "training", "status", "words"),
    [
        (None, "write", {}, {}, "skip", "nothing that is set here needs one"),
        (None, "write", PUBLISHES, {}, "fail", "is needed to publish to me/adapter"),
        (None, "write", {}, {"trainer": "job"}, "fail", "is needed to start Jobs"),
        (TOKEN, "write", PUBLISHES, {}, "pass", "it may write for 1 account"),
        (TOKEN, "read", PUBLISHES, {}, "fail", "it may only read"),
        (TOKEN, "read", {}, {}, "pass", "nothing that is set here needs more"),
        (TOKEN, "write", {"publish_to": "they/adapter"}, {}, "fail", "may not write to they/adapter"),
        ("hf_of_nobody", "write", {}, {}, "fail", "does not accept the token"),
    ],
)
def test_a_token(
    token: str | None,
    role: str,
    values: dict[str, Any],
    training: dict[str, Any],
    status: str,
    words: str,
    subject: Callable[..., Subject],
    hub: Hub,
    hub_client: Client,
) -> None:
    hub.tokens[TOKEN] = "me"
    hub.more["token_roles"] = {"me": role}
    said = line("token", subject(values, training, **({"HF_TOKEN": token} if token else {})))
    assert said.status == status and words in said.evidence and TOKEN not in said.evidence


def test_a_token_while_the_hub_is_out_of_order(
    subject: Callable[..., Subject], hub: Hub, hub_client: Client, impatient: None
) -> None:
    hub.tokens[TOKEN], hub.failure = "me", 503
    said = line("token", subject(PUBLISHES, HF_TOKEN=TOKEN))
    assert (said.status, said.evidence.partition(":")[0]) == ("warn", "it could not be tested"), said


@pytest.mark.parametrize(
    ("gated", "reader", "status", "words"),
    [(False, False, "pass", "may be read"), (True, True, "pass", "may be read"), (True, False, "fail", "is gated")],
)
def test_a_gated_base(
    gated: bool,
    reader: bool,
    status: str,
    words: str,
    subject: Callable[..., Subject],
    hub: Hub,
    hub_client: Client,
) -> None:
    hub.tokens[TOKEN] = "me"
    hub_client.log_in(TOKEN)
    repo = hub.repo("model", "they/base", gated=gated, readers={"me"} if reader else set())
    repo.commit({"config.json": b"{}"})
    said = line("licence", subject({"base": "they/base"}))
    assert said.status == status and words in said.evidence
    assert said.remedy == "" or "Ask on its page" in said.remedy
    assert line("licence", subject()).status == "skip"


@pytest.mark.parametrize(
    ("dataset", "status", "words"),
    [("starter", "pass", "made here"), ("nowhere", "fail", "There is no dataset"), ("few", "fail", "has 3 train rows")],
)
def test_a_data_set(
    dataset: str, status: str, words: str, subject: Callable[..., Subject], tmp_path: Path, hub_client: Client
) -> None:
    path = tmp_path / dataset
    if dataset == "few":
        write_folder(path, 3)
    data = {"dataset": "starter"} if dataset == "starter" else {"dataset": str(path), "test_rows": 0}
    said = line("data", subject({"data": data, "eval_rows": 0}))
    assert said.status == status and words in said.evidence


def test_a_data_set_of_the_hub_that_is_gated_or_not_there(
    subject: Callable[..., Subject], hub: Hub, hub_client: Client
) -> None:
    row = json.dumps({"problem": "?", "solution": "1"}).encode()
    hub.repo("dataset", "they/gated", gated=True).commit({"train.jsonl": row})
    for name, words in (("they/gated", "is gated"), ("they/nothing", "no dataset they/nothing")):
        said = line("data", subject({"data": {"dataset": name}}))
        assert said.status == "fail" and words in said.evidence


def test_a_bucket(subject: Callable[..., Subject], tmp_path: Path, hub: Hub, hub_client: Client) -> None:
    state = tmp_path / "state"
    assert line("bucket", subject()).status == "skip"
    assert line("bucket", subject(SPACE_ID="me/look")).status == "warn"
    assert "names no folder here" in line("bucket", subject(state=str(state))).evidence
    state.mkdir()
    said = line("bucket", subject(state=str(state)))
    assert said.status == "pass" and not list((state / "doctor").iterdir()), "the trial is gone"
    (state / "doctor").rmdir()
    (state / "doctor").write_text("in the way")
    assert "it cannot be written" in line("bucket", subject(state=str(state))).evidence
    hub.tokens[TOKEN] = "me"
    hub_client.log_in(TOKEN)
    named = {"bucket": "me/runs"}
    assert line("bucket", subject(training=named)).status == "fail"
    hub.more["buckets"] = {"me/runs": {"private": True}}
    assert line("bucket", subject(training=named)).status == "pass"


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_port(subject: Callable[..., Subject], taken: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "_HEALTH_SECONDS", 0.2)
    number = taken.getsockname()[1]
    said = line("port", subject(GRADIO_SERVER_PORT=str(number)))
    assert said.status == "fail" and f"{number} cannot be used" in said.evidence
    taken.close()
    assert line("port", subject(GRADIO_SERVER_PORT=str(number))).evidence == f"{number} is free"
    assert "GRADIO_SERVER_PORT is 'x'" in line("port", subject(GRADIO_SERVER_PORT="x")).evidence


@pytest.mark.parametrize(("health", "status"), [({"status": "ready", "run_active": False}, "pass"), ({}, "fail")])
def test_a_port_at_which_something_answers(
    health: dict[str, Any], status: str, subject: Callable[..., Subject]
) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(health).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        assert line("port", subject(GRADIO_SERVER_PORT=str(server.server_port))).status == status
        server.shutdown()
