"""Several processes of one run through its own launcher, on one machine and on two that know an address alone."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainingArguments

from inference.common.environment import MARK
from inference.common.errors import UserError
from tests import ROOT
from training.config.run_config import load_config
from training.grpo.arguments import grpo_config
from training.launch import ranks
from training.launch.local import LocalLauncher
from training.launch.ranks import _first_end, _Rank, processes_of
from training.pipeline.run import run
from training.runs.folder import RunFolder
from training.runs.processes import kill_marked, marked
from training.runs.record import RunRecord
from training.runs.store import RunStore

STEPS = 6
LIMIT_SECONDS = 900
"""For each stage, however busy the machine is."""
SETTINGS = {
    "max_steps": STEPS,
    "warmup_steps": 0,
    "prompts_per_step": 2,
    "num_generations": 4,
    "max_completion_length": 24,
    "save_steps": 2,
    "report_to": (),
    "eval_rows": 0,
    "data": {"train_rows": 40, "test_rows": 4, "validation_rows": 4},
}


@pytest.mark.parametrize(
    "cards, asked, expected",
    [(0, 0, 1), (1, 0, 1), (4, 0, 4), (4, 2, 2), (0, 2, 2), (8, 0, "64 completions a step cannot be shared by 3")],
)
def test_one_process_a_card_unless_the_run_has_its_own_number(cards, asked, expected, monkeypatch) -> None:
    cards = 3 if isinstance(expected, str) else cards
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    config = load_config("starter", {"num_processes": asked})
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            processes_of(config)
    else:
        assert processes_of(config) == expected


def test_more_processes_than_cards_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="num_processes is 4, and this machine has 2 cards; give at most 2"):
        processes_of(load_config("starter", {"num_processes": 4}))


def test_a_process_trains_on_one_card_however_many_it_sees(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: 2))
    assert grpo_config(load_config("starter"), tmp_path, on_gpu=False, bf16=False).n_gpu == 1


def test_of_several_failures_the_first_is_shown(tmp_path: Path) -> None:
    """The others fail because of it: they lose the connection, at nearly the same moment."""

    def rank(number: int, code: int | str, failed_at: float | None, reason: str) -> _Rank:
        end = f"kill -{code} $$" if isinstance(code, str) else f"exit {code}"
        process = subprocess.Popen(["/bin/sh", "-c", end])
        process.wait()
        path = tmp_path / f"{number}.json"
        path.write_text("{}" if failed_at is None else json.dumps({"reason": reason, "time": failed_at}))
        return _Rank(number, 4, process, path, 0)

    lost = [rank(0, 1, 12.0, "connection closed by peer"), rank(3, 1, 12.1, "connection closed by peer")]
    assert _first_end([*lost, rank(2, 1, 11.9, "ValueError: no such column")]) == (1, "ValueError: no such column")
    assert _first_end([*lost, rank(2, 3, 11.9, "out of memory")]) == (3, "out of memory")
    assert _first_end([*lost, rank(1, "KILL", None, "")]) == (1, "process 1 of 4 was killed (SIGKILL)")
    assert _first_end([rank(0, 0, None, "")]) is None


def test_a_process_that_the_kernel_killed_says_so(tmp_path: Path, monkeypatch) -> None:
    process = subprocess.Popen(["/bin/sh", "-c", "kill -KILL $$"])
    process.wait()
    monkeypatch.setattr(ranks, "memory_kills", lambda: 8)
    assert "was killed by the kernel: out of memory" in _Rank(1, 2, process, tmp_path / "none", 7).end()[1]
    assert _Rank(1, 2, process, tmp_path / "none", 8).end()[1] == "process 1 of 2 was killed (SIGKILL)"


def wait_until(launcher: LocalLauncher, record: RunRecord, is_so: Callable[[RunRecord], bool]) -> RunRecord:
    """Reconciles until it is so; fails if the run ends before, or after a quarter of an hour."""
    limit = time.monotonic() + LIMIT_SECONDS
    while not is_so(now := launcher.store.get(record.id)):
        log = (record.folder / "output.log").read_text()[-3000:] if (record.folder / "output.log").exists() else ""
        assert time.monotonic() < limit and now.status not in ("failed", "lost"), f"{now}\n{log}"
        launcher.reconcile()
        time.sleep(0.1)
    return now


def ranks_of(launch: str) -> dict[str, psutil.Process]:
    """The training processes of a start by their number; their own children have the same environment."""
    found: dict[str, psutil.Process] = {}
    for process in sorted(marked(launch), key=lambda process: process.create_time()):
        with_number = process.environ().get("RANK")
        if with_number is not None:
            found.setdefault(with_number, process)
    return found


def has_checkpoint(folder: Path) -> bool:
    return RunFolder(folder).newest_checkpoint() is not None


def rows_and_adapter(folder: Path) -> tuple[list[dict], dict[str, torch.Tensor]]:
    run = RunFolder(folder)
    return run.history(), load_file(run.adapter / "adapter_model.safetensors")


def assert_same_run(one: Path, other: Path) -> None:
    """Every step once, the same rollouts in each, and the same adapter but for rounding."""
    (history, adapter), (others_history, others_adapter) = rows_and_adapter(one), rows_and_adapter(other)
    for rows in (history, others_history):
        assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    rewards = [[row["reward"] for row in rows] for rows in (history, others_history)]
    assert rewards[0] == pytest.approx(rewards[1], abs=1e-6)
    assert adapter.keys() == others_adapter.keys()
    distance = sum(float((adapter[k].double() - others_adapter[k].double()).square().sum()) for k in adapter)
    size = sum(float(value.double().square().sum()) for value in others_adapter.values())
    assert (distance / size) ** 0.5 < 1e-3


def numbers_of(folder: Path) -> list[int]:
    """The number of processes of each start."""
    return [start["num_processes"] for start in json.loads((folder / "versions.json").read_text())]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The folder of the run in one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    run(load_config("starter", SETTINGS | {"num_processes": 1}), folder)
    return folder


@pytest.mark.long
@pytest.mark.slow
def test_four_processes_with_sharded_weights_a_killed_one_a_stop_and_another_number(home, alone) -> None:
    store = RunStore(home)
    launcher = LocalLauncher(store)
    together = store.submit(load_config("starter", SETTINGS | {"num_processes": 4, "shard_weights": True}), "me")
    try:
        wait_until(launcher, together, lambda r: has_checkpoint(together.folder))
        first = store.get(together.id)
        os.kill(ranks_of(first.launch)["1"].pid, signal.SIGKILL)
        again = wait_until(launcher, together, lambda r: r.launch != first.launch)
        assert again.deaths == 1 and not marked(first.launch), "no process of the first start is left"
        wait_until(launcher, together, lambda r: r.status == "running" and len(ranks_of(r.launch)) == 4)
        launcher.cancel(together.id)
        cancelled = wait_until(launcher, together, lambda r: not r.is_active)
        assert cancelled.status == "cancelled", cancelled.reason
        launcher.resume(together.id, num_processes=2)
        wait_until(launcher, together, lambda r: r.status == "succeeded")
    finally:
        for record in store.list():
            kill_marked(record.launch)
    assert numbers_of(together.folder) in ([4, 4, 2], [4, 2])
    assert_same_run(together.folder, alone)


def machines(log: Path, *options: str) -> list[subprocess.Popen[bytes]]:
    """Both machines of a run: one launcher on each, with two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    own = ["--num-nodes", "2", "--num-processes", "2", "--address", address]
    started = []
    for number in ("1", "0"):  # the second one comes first, and waits
        command = [sys.executable, "-m", "training", "train", "--node", number, *own, *options]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", MARK: str(log)}
        with log.with_suffix(f".{number}").open("ab") as out:
            pipes = {"stdout": out, "stderr": out, "stdin": subprocess.DEVNULL}
            started.append(subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes))
    return started[::-1]


@pytest.mark.long
@pytest.mark.slow
def test_two_machines_a_killed_process_and_the_same_adapter(home, tmp_path, alone) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    (tmp_path / "run.yaml").write_text(json.dumps({"profile": "starter"} | SETTINGS))
    launchers = machines(log, "--folder", str(folder), "--config", str(tmp_path / "run.yaml"))
    try:
        limit = time.monotonic() + LIMIT_SECONDS
        while not has_checkpoint(folder):
            assert time.monotonic() < limit and not any(machine.poll() for machine in launchers), said(log)
            time.sleep(0.1)
        found = ranks_of(str(log))
        assert sorted(found) == ["0", "1", "2", "3"]
        os.kill(found["3"].pid, signal.SIGKILL)
        assert [machine.wait(timeout=LIMIT_SECONDS) for machine in launchers] == [1, 1]
        assert RunFolder(folder).status()["reason"] == "on machine 1: process 3 of 4 was killed (SIGKILL)", said(log)
        assert not marked(str(log)), "no process is left on either machine"
        launchers = machines(log, "--resume", str(folder))
        assert [machine.wait(timeout=LIMIT_SECONDS) for machine in launchers] == [0, 0], said(log)
    finally:
        kill_marked(str(log))
    assert numbers_of(folder) == [4, 4]
    assert_same_run(folder, alone)


def said(log: Path) -> str:
    return "".join(path.read_text()[-3000:] for path in sorted(log.parent.glob("log.*")))
