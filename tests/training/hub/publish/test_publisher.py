"""Every fault on every route ends in success later or in words that say what stands in the way; nothing goes twice."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.utils._http import default_client_factory
from hypothesis import given
from hypothesis import strategies as st

from inference.common.environment import publisher_environment
from inference.common.hub_errors import HubUnreachable
from inference.common.settings import STARTER
from tests import ROOT
from tests.support.hub.client import Client, client_env
from tests.support.hub.faults import KINDS, NONSENSE, Fault
from tests.support.hub.repos import Hub
from tests.support.hub.server import serve
from tests.support.run_folders import add_checkpoint, begun_run, finished_run
from training.hub.publish.publisher import LONGEST_WAIT_SECONDS, _put_off, finish, hub_api, work
from training.hub.publish.queue import Item, PublishQueue, queue_run
from training.hub.publish.retry import PublishRetry

REPO = "ann/tuned"
QUICK = 0.01
ROUTES = (
    "GET /api/models/ann/tuned",
    "POST /api/repos/create",
    "GET /api/models/ann/tuned/commits/.*",
    "GET /api/models/ann/tuned/tree/.*",
    "GET /api/models/ann/tuned/refs",
    "GET /api/models/some/base",
    "POST /api/validate-yaml",
    "POST /api/models/ann/tuned/preupload/.*",
    "POST /ann/tuned.git/info/lfs/objects/batch",
    "PUT /lfs/.*",
    "POST /lfs-verify/.*",
    "POST /api/models/ann/tuned/commit/.*",
    "POST /api/models/ann/tuned/tag/.*",
)
"""All that a publication asks of the Hub, in order."""
LFS = ROUTES[8:11]
"""Where the client itself tries again, after seconds."""


@pytest.fixture
def online(hub: Hub, hub_client: Client) -> Iterator[Client]:
    """Ann, logged in, with a base on the Hub; the client's patience is put back afterwards."""
    hub.tokens["hf_ann_token"] = "ann"
    hub.repo("model", "some/base", about={"cardData": {"license": "mit"}}).commit({"config.json": b"{}"})
    hub_client.log_in("hf_ann_token")
    with serve(Hub()) as url:  # where a faulty Hub points
        hub.more["elsewhere"] = url.replace("127.0.0.1", "localhost")
        yield hub_client
    huggingface_hub.set_client_factory(default_client_factory)


def queued(folder: Path) -> PublishQueue:
    """A finished run on a base of the Hub, whose result waits."""
    queue_run(finished_run(folder, base="some/base", publish_to=REPO).path, None)
    return PublishQueue(folder)


def work_off(queue: PublishQueue, seconds: float = 240.0) -> None:
    """As the publisher does, until nothing waits."""
    end = time.monotonic() + seconds
    while (wait := work(queue, hub_api(), QUICK)) is not None:
        assert time.monotonic() < end, queue.state().notice
        time.sleep(min(wait, 1.0))


def check_published_once(hub: Hub, queue: PublishQueue) -> None:
    """One commit of ours with all its files, one tag on it, one line of the record, and nothing that waits."""
    repo = hub.repos["model", REPO]
    ours = [sha for sha, title in repo.messages.items() if "[lookthink " in title]
    assert len(ours) == 1 and repo.refs == {"main": ours[0]} and repo.tags == {queue.run.name: ours[0]}
    weights = (queue.run / "adapter" / "adapter_model.safetensors").read_bytes()
    assert repo.commits[ours[0]]["adapter_model.safetensors"] == weights
    assert json.loads(repo.commits[ours[0]]["lookthink/run.json"])["is_result"] is True
    assert [entry["commit"] for entry in queue.state().published] == ours
    assert not queue.waiting() and not queue.state().notice


def test_the_routes_are_all_there_are(hub: Hub, online: Client, tmp_path: Path) -> None:
    queue = queued(tmp_path / "night")
    work_off(queue)
    check_published_once(hub, queue)
    asked = {f"{method} {path.split('?')[0]}" for method, path in hub.requests} - {"GET /api/agent-harnesses"}
    assert all(any(re.fullmatch(route, one) for route in ROUTES) for one in asked), asked
    assert all(any(re.fullmatch(route, one) for one in asked) for route in ROUTES)


def suffer(kind: str, route: str, hub: Hub, queue: PublishQueue, times: int = 1) -> None:
    """Publish while the route has this fault, which is then over."""
    fault = Fault(kind, route, times=times, seconds=0.2, retry_after=0.05)
    hub.faults.append(fault)
    if times < 0:
        for _ in range(3):
            work(queue, hub_api(), QUICK, at_once=True)
        must_wait = kind in ("refused", "503", "500") and route not in LFS
        assert bool(queue.waiting()) or not must_wait
        state = queue.state()  # a base whose licence is refused, or a file that came all the same, stops nothing
        assert state.notice and state.tries == 3 if queue.waiting() else not state.notice
        assert "hf_ann_token" not in queue.state().notice
        hub.faults.clear()
    work_off(queue)
    assert fault.times <= 0, "the fault has struck"
    check_published_once(hub, queue)


@pytest.mark.parametrize(
    ("kind", "route"),
    [
        ("refused", ROUTES[0]),
        ("lost", ROUTES[1]),
        ("reset", ROUTES[2]),
        ("401", ROUTES[5]),
        ("429", ROUTES[6]),
        ("503", ROUTES[7]),
        ("lost", ROUTES[11]),
        ("412", ROUTES[11]),
        ("slow", ROUTES[11]),
        ("lost", ROUTES[12]),
        ("html", ROUTES[12]),
        ("shape", ROUTES[2]),
        ("away", ROUTES[7]),
        ("html", ROUTES[9]),
    ],
)
def test_a_fault_on_a_route(kind: str, route: str, hub: Hub, online: Client, tmp_path: Path) -> None:
    suffer(kind, route, hub, queued(tmp_path / "night"))


@pytest.mark.torture
@pytest.mark.parametrize("times", [1, -1])
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", KINDS + NONSENSE)
def test_torture_every_fault_on_every_route(
    kind: str, route: str, times: int, hub: Hub, online: Client, tmp_path: Path
) -> None:
    if times < 0 and route in LFS and kind not in ("401", "412"):
        pytest.skip("the client itself tries for half a minute, three times")
    suffer(kind, route, hub, queued(tmp_path / "night"), times)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("refused", "the Hub cannot be reached for ann/tuned"),
        ("503", "the Hub answers 503"),
        ("429", "the Hub has had too many requests and asks to wait 900 s"),
        ("401", "does not let this token write to ann/tuned"),
    ],
)
def test_what_stands_in_the_way_is_said(kind: str, said: str, hub: Hub, online: Client, tmp_path: Path) -> None:
    """In the record, and once in the run's log however often it is tried; not before the Hub's `Retry-After`."""
    queue = queued(tmp_path / "night")
    hub.faults.append(Fault(kind, times=-1, retry_after=900))
    for _ in range(3):
        work(queue, hub_api(), QUICK, at_once=True)
    state = queue.state()
    assert state.notice.startswith("step 4 waits: ") and said in state.notice and state.tries == 3
    assert (queue.run / "train.log").read_text(encoding="utf-8").count("step 4 waits") == 1
    assert (state.next_try - time.time() > 800) == (kind == "429")
    hub.requests.clear()
    if kind == "429":
        assert work(queue, hub_api(), QUICK) > 800 and not hub.requests  # type: ignore[operator]


def test_a_card_that_is_refused_with_retry_after(hub: Hub, online: Client, tmp_path: Path) -> None:
    """The client reads that route's answer as JSON, whatever its status."""
    queue = queued(tmp_path / "night")
    hub.faults.append(Fault("429", "POST /api/validate-yaml", retry_after=900))
    wait = work(queue, hub_api(), QUICK)
    assert wait is not None and wait > 800 and "asks to wait 900 s" in queue.state().notice


@given(st.integers(1, 10_000), st.one_of(st.none(), st.floats(0, 3_600)))
def test_waits_are_bounded_and_never_shorter_than_asked(tries: int, asked: float | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        queue = PublishQueue(Path(folder))
        queue.path.mkdir()
        state = queue.state()
        state.tries = tries - 1
        queue.keep(state)
        wait = _put_off(queue, Item(Path(folder), REPO, 4, True), HubUnreachable("away", retry_after=asked or 0), 5.0)
    assert (asked or 0) <= wait <= max(1.2 * LONGEST_WAIT_SECONDS, asked or 0) and wait >= 4


def test_newer_checkpoints_take_the_place_of_those_that_wait(hub: Hub, online: Client, tmp_path: Path) -> None:
    run = begun_run(tmp_path / "night", publish_to=REPO)
    for step in (1, 2, 3):
        add_checkpoint(run, step)
        queue_run(run.path, None)
    queue = PublishQueue(run.path)
    work_off(queue)
    repo = hub.repos["model", REPO]
    assert [title.split(" [")[0] for title in repo.messages.values()] == ["initial commit", "Step 3 of run night"]
    assert not list(queue.path.glob("[0-9]*-*"))


def test_one_repository_does_not_hold_up_another(hub: Hub, online: Client, tmp_path: Path) -> None:
    queue = queued(tmp_path / "night")
    queue_run(queue.run, "ann/second")
    hub.faults.append(Fault("401", "GET /api/models/ann/tuned", times=-1))
    assert work(queue, hub_api(), QUICK) is not None
    assert [item.repo for item in queue.waiting()] == [REPO] and ("model", "ann/second") in hub.repos
    assert "does not let this token write to ann/tuned" in queue.state().notice
    hub.faults.clear()
    work_off(queue)
    assert set(hub.repos["model", REPO].tags) == {"night"}


def test_finish_gives_up_in_words(hub: Hub, online: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue = queued(tmp_path / "night")
    hub.faults.append(Fault("503", times=-1))
    assert not finish(queue.run, 20, QUICK)
    printed = capsys.readouterr().out
    assert "the Hub answers 503" in printed and "not published yet: `python -m training publish" in printed
    hub.faults.clear()
    assert finish(queue.run, 20, QUICK)
    assert capsys.readouterr().out.strip() == "published: ann/tuned@night"


@pytest.mark.long
def test_processes_of_their_own_publish_once_even_when_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed with the commit made and its answer on the way; then two apps, of which one finds that it is there."""
    hub = Hub(tokens={"hf_ann_token": "ann"})
    runs = tmp_path / "runs"
    queue_run(finished_run(runs / "night", publish_to=REPO).path, None)
    queue = PublishQueue(runs / "night")
    with serve(hub) as url:
        for name, value in client_env(url, tmp_path / "cache", "hf_ann_token").items():
            monkeypatch.setenv(name, value)
        slow = Fault("slow", "POST /api/models/ann/tuned/tag/.*", seconds=60)
        hub.faults.append(slow)
        retries = PublishRetry(runs, 0.1), PublishRetry(runs, 0.1)
        retries[0].look()
        killed = retries[0]._process
        assert killed is not None
        while slow.times:
            assert killed.poll() is None
            time.sleep(0.02)
        retries[1].look()
        assert retries[1]._process is None, "another process holds the queue"
        killed.kill()
        killed.wait()
        end = time.monotonic() + 240
        while queue.waiting():
            assert time.monotonic() < end
            for retry in retries:
                retry.look()
            time.sleep(0.05)
        check_published_once(hub, queue)


def test_one_that_dies_without_a_word_is_not_started_again_at_once(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "runs" / "night", publish_to=REPO)
    queue_run(run.path, None)
    retry = PublishRetry(tmp_path / "runs", 0.1)
    retry.look()
    assert retry._process is not None
    retry._process.kill()
    retry._process.wait()
    retry.look()
    assert retry._process is None, "not at once"
    retry._held[run.path] = time.time()
    retry.look()
    assert retry._process is not None, "but later"
    retry._process.kill()
    retry._process.wait()


def test_a_publisher_has_no_secret_but_the_token() -> None:
    given_env = {"HF_TOKEN": "hf_x", "LOOKTHINK_ADMIN_TOKEN": "a", "WANDB_API_KEY": "w", "PATH": "/bin"}
    kept = publisher_environment(given_env)
    assert kept["HF_TOKEN"] == "hf_x" and kept["PATH"] == "/bin"
    assert not {"LOOKTHINK_ADMIN_TOKEN", "WANDB_API_KEY"} & set(kept)


def test_a_follower_ends_with_the_one_who_started_it(tmp_path: Path) -> None:
    run = begun_run(tmp_path / "night")
    PublishQueue(run.path).put(STARTER / "adapter", None, "starter", repo=REPO, step=1, is_result=False)
    command = [sys.executable, "-m", "training.hub.publish.publisher", str(run.path), "--follow"]
    env: dict[str, Any] = client_env("http://127.0.0.1:9", tmp_path / "cache", "hf_ann_token")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | env, cwd=ROOT)
    queue = PublishQueue(run.path)
    while not queue.state().tries:
        assert process.poll() is None
        time.sleep(0.05)
    process.stdin.close()  # type: ignore[union-attr]
    assert process.wait(180) == 1
    assert "cannot be reached" in queue.state().notice and queue.state().tries == 2 and queue.waiting()
