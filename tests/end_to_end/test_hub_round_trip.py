"""From training to the Hub and back: published meanwhile, served by another process on an empty disk.

Below, the ten lines that docs/deploying.md has for a laptop; those of a Space are followed in `test_space.py`.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from gradio_client import Client as Asker
from gradio_client import handle_file

from inference.adapters.served import serving
from inference.common.settings import load_settings
from inference.engine.engine import Engine, Request
from inference.prompt.format import parse_completion
from tests.support.app_process import Process
from tests.support.deploying import documented
from tests.support.hub.client import Client, client_env
from tests.support.hub.repos import Hub
from tests.support.samples import problems
from tests.support.tiny_models import build_tiny
from training.__main__ import main
from training.hub.backup.backup import Backup
from training.hub.publish.queue import PublishQueue
from training.pipeline.publishing import Publishing
from training.runs.store import RunStore

REPO = "me/counting"
TOKEN = "hf_token_of_me"
HOST = "the-host-of-this-test"
TRAIN = (
    "--max-steps 2 --save-steps 1 --warmup-steps 0 --report-to tensorboard --prompts-per-step 2 --num-generations 4 "
    "--micro-batch-size 8 --max-completion-length 16 --eval-rows 0 --train-rows 20 --test-rows 4 "
    f"--publish-to {REPO} --publish-every-minutes 0"
)


def published(hub: Hub) -> list[str]:
    """What was published, the oldest first."""
    repo = hub.repos.get(("model", REPO))
    return [repo.messages[sha].split(" [")[0] for sha in repo.line(repo.refs["main"])[-2::-1]] if repo else []


def wait_until(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + 240
    while not is_so():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def end(process: Process) -> None:
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(180) == 0


def train(hub: Hub, run: Path, patch: pytest.MonkeyPatch) -> None:
    """Train, and publish meanwhile: each step takes less time than a process to start, so the first is held."""
    real = Publishing.checkpoint

    def and_wait(publishing: Publishing, checkpoint: Path, **options: bool) -> None:
        real(publishing, checkpoint, **options)
        wait_until(lambda: published(hub))

    patch.setattr(Publishing, "checkpoint", and_wait)
    patch.setattr(socket, "gethostname", lambda: HOST)
    assert main(["train", *TRAIN.split(), "--folder", str(run)]) == 0


def check_published(hub: Hub, run: Path) -> str:
    """Checkpoints and the result went out while it trained, each once; the commit of the result."""
    queue, repo = PublishQueue(run), hub.repos["model", REPO]
    wait_until(lambda: not queue.waiting())  # the command itself has a limit
    head = repo.refs["main"]
    assert repo.private and repo.tags == {"counting": head}
    said = published(hub)
    assert said[0] == "Step 1 of run counting" and said[-1] == "Step 2 of run counting"
    assert [entry["commit"] for entry in queue.state().published] == repo.line(head)[-2::-1]
    files = repo.commits[head]
    assert files["adapter_model.safetensors"] == (run / "adapter" / "adapter_model.safetensors").read_bytes()
    assert b"\nIt is the result of the run" in files["README.md"] and "tokenizer.json" in files
    assert "published step 2 to me/counting" in (run / "train.log").read_text(encoding="utf-8")
    for name, data in files.items():
        assert str(run.parents[2]).encode() not in data, f"{name} has a path of this machine"
        assert HOST.encode() not in data, f"{name} has the host's name"
    own = next((run / "tensorboard").rglob("*tfevents*"))
    assert HOST in own.name, "TRL's own event files hold it, and stay here"
    assert not [path for _, path in hub.requests if "telemetry" in path], "TRL's trainer would send some"
    return head


@pytest.mark.slow
def test_trained_published_and_served_on_an_empty_disk(
    hub: Hub, hub_client: Client, engine: Engine, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.tokens[TOKEN] = "me"
    for name, value in client_env(hub_client.url, tmp_path / "another-cache", TOKEN).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOOKTHINK_BASE", "starter")
    run, state = home / "runs" / "counting", tmp_path / "bucket"
    state.mkdir()
    train(hub, run, monkeypatch)
    commit = check_published(hub, run)
    num_commits = len(hub.repos["model", REPO].commits)
    assert main(["publish", "counting"]) == 0 and len(hub.repos["model", REPO].commits) == num_commits
    settings = load_settings(env={"LOOKTHINK_HOME": str(home), "LOOKTHINK_STATE": str(state)}, has_gpu=False)
    Backup(settings, RunStore(home)).look()

    problem, picture, empty = problems(1, seed=5)[0], tmp_path / "picture.png", tmp_path / "empty"
    problem.image.save(picture)
    monkeypatch.setenv("LOOKTHINK_STATE", str(state))
    monkeypatch.setenv("LOOKTHINK_ADAPTER", f"{REPO}@counting")
    served = f"me--counting-{commit[:12]}"
    process = Process(empty)
    try:
        process.wait_for(rf"served now: {served}")
        process.wait_for("Brought back after the restart: 1 run")
        process.wait_ready()
        said = Asker(process.url, verbose=False).predict(
            handle_file(picture), problem.problem, max_new_tokens=40, api_name="/ask"
        )
    finally:
        end(process)
    with_it = Request(problem.image.convert("RGB"), problem.problem, adapter="trained", max_new_tokens=40)
    engine.add_adapter("trained", run / "adapter")
    expected = parse_completion(engine.generate([with_it])[0].text)
    engine.remove_adapter("trained")
    assert (said["thinking"], said["answer"]) == (expected.thinking, expected.answer), "what it was trained to say"
    [record] = RunStore(empty).list()
    assert (record.id, record.status) == ("counting", "succeeded")
    assert (record.folder / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    assert not any(TOKEN in line for line in process.lines)
    written = (path for path in [*empty.rglob("*"), *state.rglob("*"), *run.rglob("*")] if path.is_file())
    assert not any(TOKEN.encode() in path.read_bytes() for path in written)


LAPTOP, TEXT = documented("A laptop, in ten lines")
SMALL = (
    "--max-steps 2 --warmup-steps 0 --prompts-per-step 2 --num-generations 4 --micro-batch-size 8 --report-to [] "
    "--max-completion-length 16 --eval-rows 4 --train-rows 20 --test-rows 4"
).split()
"""What makes the run of the fourth line a short one."""


@pytest.mark.long
@pytest.mark.slow
def test_the_ten_lines_of_a_laptop_are_followed(
    hub: Hub, hub_client: Client, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the terminal, beside a running app that takes each adapter up; `test_train_tab.py` has the page's."""
    hub.tokens[TOKEN] = "me"
    for name, value in client_env(hub_client.url, tmp_path / "cache", TOKEN).items():
        monkeypatch.setenv(name, value)
    assert [words[0] for words in LAPTOP] == ["start", "watch", "promote", "publish", "promote", "promote"]
    start, watch, promote, publish, fetch, roll_back = LAPTOP

    def run(words: list[str], *more: str) -> str:
        named = {"RUN": RunStore(home).list()[0].id} if "RUN" in words else {}
        assert main([(named | {"OWNER/ADAPTER": REPO}).get(word, word) for word in words] + [*more]) == 0
        return str(serving(load_settings()).name)

    process = Process(home, LOOKTHINK_BASE="")
    try:
        process.wait_for("served now: starter-adapter")
        run(start, *SMALL)
        assert run(watch) == "starter-adapter", "nothing is promoted, and nothing leaves, by itself"
        [record] = RunStore(home).list()
        assert record.status == "succeeded" and not hub.repos
        own = run(promote)
        assert own.startswith(record.id)
        process.wait_for(f"served now: {own}")
        run(publish)
        assert hub.repos["model", REPO].private and set(hub.repos["model", REPO].tags) == {record.id}
        fetched = run(fetch)
        assert fetched.startswith("me--counting-")
        process.wait_for(f"served now: {fetched}")
        assert run(roll_back) == own
    finally:
        end(process)


def test_a_laptop_serves_another_base(hub: Hub, hub_client: Client, home: Path, tmp_path: Path) -> None:
    """The line `LOOKTHINK_BASE=OWNER/BASE make app`: what the app loads then, from the Hub, and its answer."""
    assert "`LOOKTHINK_BASE=OWNER/BASE make app`" in TEXT
    base = build_tiny("qwen2_5_vl", tmp_path / "base")
    hub.repo("model", "me/base").commit({file.name: file.read_bytes() for file in base.iterdir()})
    settings = load_settings(env={"LOOKTHINK_BASE": "me/base", "LOOKTHINK_HOME": str(home)}, has_gpu=False)
    assert (settings.base, settings.adapter) == ("me/base", None)
    problem = problems(1)[0]
    request = Request(problem.image.convert("RGB"), problem.problem, max_new_tokens=4)
    [here], [there] = (Engine.load(source).generate([request]) for source in (settings.base, base))
    assert here.token_ids == there.token_ids
