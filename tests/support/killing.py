"""A run as a process of its own, killed with SIGKILL in a phase of its life that is named; what it was doing is read
from its folder afterwards, when it can no longer move."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tests import ROOT
from training.runs.folder import RunFolder, is_complete

PATIENCE = {
    "starting": 4.0,
    "reading the data": 0.03,
    "loading the model": 0.5,
    "training": 1.5,
    "saving": 0.08,
    "choosing the checkpoint": 1.0,
    "evaluating the adapter": 2.0,
}
"""Phases in their order, and at most so many seconds into each a kill comes; `saving` is amid a checkpoint."""


def start(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """`python -m training train` with these options, what it prints kept beside the folder."""
    command = [sys.executable, "-m", "training", "train", *options]
    with (folder.parent / "out.txt").open("a") as out:
        return subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 1200) -> None:
    """Until it holds; the process must live on meanwhile."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        assert process.poll() is None, f"it ended with {process.returncode}"
        time.sleep(0.002)


def phase_of(folder: RunFolder, process: subprocess.Popen[bytes]) -> str:
    """What this process is doing with its run, or was when it was killed."""
    status = folder.status()
    if status.get("pid") != process.pid or status["status"] != "running":
        return "starting"
    unfinished = any(not is_complete(path) for path in folder.checkpoints.glob("checkpoint-*"))
    return "saving" if status["reason"] == "training" and unfinished else str(status["reason"])


def kill_in(phase: str, folder: RunFolder, process: subprocess.Popen[bytes], rng: random.Random) -> str:
    """Kill at a random moment from when the phase has begun; returns the phase that it hit."""

    def begun() -> bool:
        now = phase_of(folder, process)
        return now == phase and (phase != "training" or len(folder.history()) > folder.status()["step"])

    wait_for(begun, process)
    time.sleep(rng.uniform(0, PATIENCE[phase]))
    assert process.poll() is None, f"it was quicker than the killer, and ended with {process.returncode}"
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return phase_of(folder, process)


def kill_and_resume(folder: Path, options: Sequence[str], phases: Sequence[str], seed: int) -> Counter[str]:
    """A run killed once for each of `phases`, resumed each time, and then left to end; the kills by the phase hit."""
    rng = random.Random(seed)
    found = RunFolder(folder)
    hit: Counter[str] = Counter()
    process = start(folder, *options, "--folder", str(folder))
    for phase in phases:
        hit[kill_in(phase, found, process, rng)] += 1
        begun = (folder / "config.json").exists()
        process = start(folder, *(["--resume", str(folder)] if begun else [*options, "--folder", str(folder)]))
    assert process.wait(timeout=3600) == 0, (folder.parent / "out.txt").read_text()
    return hit
