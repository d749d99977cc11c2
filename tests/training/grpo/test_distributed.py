"""A run shared by two real processes: stopped, resumed, finished; the failure of the second one on record."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference.common.errors import UserError
from inference.common.files import read_lines
from tests import ROOT
from training.grpo import distributed as ranks
from training.runs.folder import RunFolder, is_complete

STEPS = 5
SETTINGS = {
    "max-steps": STEPS,
    "warmup-steps": 0,
    "prompts-per-step": 2,
    "num-generations": 4,
    "max-completion-length": 24,
    "save-steps": 2,
    "report-to": "[]",
    "train-rows": 40,
    "test-rows": 4,
    "eval-rows": 0,
    "resample-rounds": 1,
}


def start(log: Path, *options: str) -> subprocess.Popen:
    """Two processes by torchrun, in a session of their own."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with log.open("a") as out:
        return subprocess.Popen(
            [*command, "-m", "training", "train", *options],
            **{"cwd": ROOT, "env": environment, "stdout": out, "stderr": out, "start_new_session": True},
        )


def options() -> list[str]:
    return [part for name, value in SETTINGS.items() for part in (f"--{name}", str(value))]


def steps_of(folder: Path) -> list[int]:
    return [row["step"] for row in RunFolder(folder).history()]


@pytest.mark.long
def test_a_shared_run_is_stopped_resumed_and_finished(tmp_path) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    launcher = start(log, "--folder", str(folder), *options())
    try:
        deadline = time.monotonic() + 240
        while not steps_of(folder) and launcher.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        launcher.send_signal(signal.SIGTERM)
        launcher.wait(timeout=120)
        status = RunFolder(folder).status()
        assert status["status"] == "interrupted", log.read_text()[-3000:]
        newest = RunFolder(folder).newest_checkpoint()
        assert newest is not None and len(steps_of(folder)) < STEPS
        assert {"rng_state_0.pth", "rng_state_1.pth"} <= {p.name for p in newest.iterdir()} and is_complete(newest)
        launcher = start(log, "--resume", str(folder))
        assert launcher.wait(timeout=240) == 0, log.read_text()[-3000:]
    finally:
        if launcher.poll() is None:
            os.killpg(launcher.pid, signal.SIGKILL)
    assert RunFolder(folder).status()["status"] == "succeeded"
    assert steps_of(folder) == list(range(1, STEPS + 1))
    groups = list(read_lines(RunFolder(folder).rollouts))
    by_step = [[g for g in groups if g["step"] == step] for step in range(1, STEPS + 1)]
    assert all(len(g["completions"]) == 4 for g in groups)
    for mine in by_step:  # each process has one group; where one has no signal, both draw another
        is_dead = [all(c["advantage"] == 0 for c in g["completions"]) for g in mine[:2]]
        assert len(mine) == (4 if any(is_dead) else 2)
    assert any(len(mine) == 4 for mine in by_step)
    assert log.read_text().count("run folder:") == 2, "only the first process speaks"


@pytest.mark.slow
def test_the_failure_of_another_process_is_on_record(tmp_path) -> None:
    """The second process breaks down at its second step; the first one is stopped for it."""
    folder, log = tmp_path / "run", tmp_path / "log"
    launcher = start(
        log, "--folder", str(folder), *options(), "--rewards", "{'tests.support.breaking_rank:breaking_reward': 1}"
    )
    try:
        assert launcher.wait(timeout=240) != 0
    finally:
        if launcher.poll() is None:
            os.killpg(launcher.pid, signal.SIGKILL)
    status = RunFolder(folder).status()
    assert (status["status"], status["reason"][:10]) == ("failed", "process 1:"), log.read_text()[-3000:]
    assert "out of memory" in status["reason"]


def test_several_processes_need_a_folder_by_name(monkeypatch, capsys) -> None:
    from training.__main__ import main

    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train"]) == 2
    assert "--folder" in capsys.readouterr().err


def test_alone_nobody_waits_and_all_agree(tmp_path) -> None:
    ranks.wait_for_all()
    assert ranks.any_process(True, False) == [True, False]
    ranks.check_checkpoint(tmp_path, 3)


def test_processes_that_see_other_checkpoints_are_refused(tmp_path, monkeypatch) -> None:
    import torch

    monkeypatch.setattr(ranks, "_gathered", lambda value: torch.tensor([[4.0], [value]]))
    with pytest.raises(UserError, match="4 for process 0, 2 for process 1"):
        ranks.check_checkpoint(tmp_path, 2)
