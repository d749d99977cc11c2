"""Forty blows to runs: publisher and ranks killed, a checkpoint deleted during a resume, no temporary disk, NaN.

After each the run is resumed. Every step is there once, and the adapter is that of a run without a blow, to the bit.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from inference.common.files import read_lines
from tests.support.hub.client import client_env
from tests.support.hub.faults import Fault
from tests.support.hub.repos import Hub
from tests.support.hub.server import serve
from tests.support.killing import start, wait_for
from tests.support.run_folders import finished_run
from tests.support.small_disk import fill, small_disk
from training.hub.publish.queue import PublishQueue, queue_run
from training.hub.publish.retry import start_publisher
from training.runs.failures import NOT_A_NUMBER
from training.runs.folder import RunFolder

__all__ = ["small_disk"]  # a fixture
STEPS, BLOWS = 10, 8
Blow = Callable[[subprocess.Popen[bytes], RunFolder], None]
TORTURE = pytest.mark.torture
SENDING = (
    "GET /api/models/ann/tuned",
    "POST /api/repos/create",
    "POST /api/validate-yaml",
    "POST /api/models/ann/tuned/preupload/.*",
    "POST /ann/tuned.git/info/lfs/objects/batch",
    "PUT /lfs/.*",
    "POST /api/models/ann/tuned/commit/.*",
    "POST /api/models/ann/tuned/tag/.*",
)
"""Eight of the routes of a publication, in their order; the publisher is killed amid each."""


def options(**values: object) -> list[str]:
    """A small run in which nothing is random but what its seed gives, with a checkpoint at each step."""
    settings = {
        **{"max_steps": STEPS, "save_steps": 1, "warmup_steps": 0, "report_to": "[]", "eval_rows": 0},
        **{"prompts_per_step": 2, "num_generations": 4, "micro_batch_size": 4, "max_completion_length": 24},
        **{"train_rows": 40, "test_rows": 4, "num_processes": 1},
        "rewards": "{'tests.support.poisoned:poisoned_reward': 1}",
    }
    return [w for name, value in (settings | values).items() for w in (f"--{name.replace('_', '-')}", str(value))]


def begin(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """Starts a run, or resumes it where it has begun."""
    has_begun = (folder / "config.json").exists()
    return start(folder, *(["--resume", str(folder)] if has_begun else [*words, "--folder", str(folder)]))


def finish(folder: Path, *words: str) -> str:
    """Lets a run end, checks that each step is there once, and returns the digest of its adapter's weights."""
    assert begin(folder, *words).wait(timeout=1800) == 0, (folder.parent / "out.txt").read_text()[-3000:]
    found = RunFolder(folder)
    assert [row["step"] for row in found.history()] == list(range(1, STEPS + 1))
    assert sum(len(group["completions"]) for group in read_lines(found.rollouts)) == 8 * STEPS
    assert found.status()["status"] == "succeeded"
    return hashlib.sha256((found.adapter / "adapter_model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    """The digest of the adapter of a run without a blow, by its number of processes."""
    digests: dict[int, str] = {}

    def of(num_processes: int) -> str:
        if num_processes not in digests:
            folder = tmp_path_factory.mktemp("undisturbed") / "run"
            digests[num_processes] = finish(folder, *options(num_processes=num_processes))
        return digests[num_processes]

    return of


def kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def ended_or(process: subprocess.Popen[bytes], condition: Callable[[], bool], seconds: float = 600) -> None:
    """Waits until it holds or the process has ended."""
    end = time.monotonic() + seconds
    while process.poll() is None and not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def more_steps(found: RunFolder, process: subprocess.Popen[bytes]) -> Callable[[], bool]:
    """True once this start has made a step."""

    def has_more() -> bool:
        status = found.status()
        is_own = status.get("pid") == process.pid and status.get("reason") == "training"
        return is_own and len(found.history()) > (status.get("step") or 0)

    return has_more


def strike(folder: Path, blows: int, blow: Blow, *words: str) -> str:
    """A run that is struck again and again, then left to end; the digest of its adapter."""
    for _ in range(blows):
        process = begin(folder, *words)
        try:
            blow(process, RunFolder(folder))
        finally:
            kill(process)
    return finish(folder, *words)


@TORTURE
def test_a_checkpoint_deleted_during_a_resume(tmp_path: Path, undisturbed, figure) -> None:
    """Whole or one file of it, while the run reads its data or loads its model."""
    rng = random.Random(1)
    folder = tmp_path / "run"
    process = begin(folder, *options())
    wait_for(lambda: len(list((folder / "checkpoints").glob("*/complete.json"))) >= 3, process)
    kill(process)

    def delete(process: subprocess.Popen[bytes], found: RunFolder) -> None:
        stage = rng.choice(["reading the data", "loading the model"])
        ended_or(process, lambda: found.status().get("pid") == process.pid and found.status()["reason"] == stage)
        time.sleep(rng.uniform(0, 0.5))
        newest = found.newest_checkpoint()
        if newest is not None:
            is_whole = rng.random() < 0.5
            shutil.rmtree(newest) if is_whole else (newest / "optimizer.pt").unlink()
        ended_or(process, more_steps(found, process))

    assert strike(folder, BLOWS, delete, *options()) == undisturbed(1)
    figure(f"a checkpoint deleted during a resume: {BLOWS} times; every step once, the adapter equal to the bit")


@TORTURE
def test_the_temporary_folder_is_full(tmp_path: Path, small_disk, undisturbed, figure, monkeypatch) -> None:
    rng = random.Random(2)
    disk = small_disk("1m")

    def no_room(process: subprocess.Popen[bytes], found: RunFolder) -> None:
        ended_or(process, more_steps(found, process))
        time.sleep(rng.uniform(0, 1))

    fill(disk)
    monkeypatch.setenv("TMPDIR", str(disk))
    folder = tmp_path / "run"
    for _ in range(BLOWS):
        process = begin(folder, *options())
        no_room(process, RunFolder(folder))
        kill(process)
    monkeypatch.delenv("TMPDIR")
    assert finish(folder, *options()) == undisturbed(1)
    figure(f"no room in the temporary folder, and killed: {BLOWS} times; every step once, the adapter equal to the bit")


@TORTURE
def test_nan_in_the_middle(tmp_path: Path, undisturbed, figure, monkeypatch) -> None:
    rng = random.Random(3)
    poison = tmp_path / "poison"
    monkeypatch.setenv("LOOKTHINK_POISON", str(poison))

    def spoil(process: subprocess.Popen[bytes], found: RunFolder) -> None:
        if rng.random() < 0.5:  # the others begin with it
            wait_for(more_steps(found, process), process)
        poison.touch()
        assert process.wait(timeout=600) == NOT_A_NUMBER
        assert "the checkpoints have the weights of earlier steps" in found.status()["reason"]

    assert strike(tmp_path / "run", BLOWS, spoil, *options(max_steps=STEPS)) == undisturbed(1)
    figure(f"weights that are not numbers amid a step: {BLOWS} times; every step once, the adapter equal to the bit")


@TORTURE
def test_a_rank_of_several_is_killed(tmp_path: Path, undisturbed, figure) -> None:
    rng = random.Random(4)

    def kill_one(process: subprocess.Popen[bytes], found: RunFolder) -> None:
        before = len(found.history())
        if rng.random() < 0.5:
            ended_or(process, lambda: len(found.history()) > before or found.status().get("reason") == "training")
        else:
            ended_or(process, lambda: len(psutil.Process(process.pid).children()) == 2)
        time.sleep(rng.uniform(0, 2))
        children = psutil.Process(process.pid).children() if process.poll() is None else []
        if children:
            number = rng.randrange(len(children))
            children[number].kill()
            assert process.wait(timeout=120) == 1
            assert "was killed (SIGKILL)" in found.status()["reason"]

    assert strike(tmp_path / "run", BLOWS, kill_one, *options(num_processes=2)) == undisturbed(2)
    figure(f"one of two processes killed: {BLOWS} times; every step once, the adapter equal to the bit")


@TORTURE
def test_the_publisher_is_killed(tmp_path: Path, figure, monkeypatch) -> None:
    """Again and again while it sends: the adapter is published once, whole."""
    hub = Hub(tokens={"hf_ann_token": "ann"})
    hub.repo("model", "some/base").commit({"config.json": b"{}"})
    folder = finished_run(tmp_path / "night", base="some/base", publish_to="ann/tuned")
    queue_run(folder.path, None)
    queue = PublishQueue(folder.path)
    with serve(hub) as url:
        for name, value in client_env(url, tmp_path / "cache", "hf_ann_token").items():
            monkeypatch.setenv(name, value)
        for route in SENDING:
            amid = Fault("slow", route, seconds=60)  # it is done, and the answer is on its way
            hub.faults[:] = [amid]
            process = start_publisher(folder.path, stdin=subprocess.DEVNULL)
            wait_for(lambda amid=amid: not amid.times, process)
            process.kill()
            process.wait()
        hub.faults.clear()
        end = time.monotonic() + 300
        while queue.waiting():
            assert time.monotonic() < end, queue.state()
            start_publisher(folder.path, stdin=subprocess.DEVNULL).wait(timeout=120)
            time.sleep(1)
    assert len(queue.state().published) == 1
    repo = hub.repos["model", "ann/tuned"]
    sent = repo.commits[repo.refs["main"]]["adapter_model.safetensors"]
    assert sent == (folder.adapter / "adapter_model.safetensors").read_bytes()
    figure(f"the publisher killed: {len(SENDING)} times; the adapter is published once, equal to the bit")
