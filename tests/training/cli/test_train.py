"""`python -m training train` as a process: killed at any moment and resumed, stopped; and what it refuses."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from inference.common.files import read_lines
from tests.support.killing import PATIENCE, ROOT, kill_and_resume, start, wait_for
from training.__main__ import main
from training.config.run_config import RunConfig
from training.runs.failures import INTERRUPTED, OTHER_PROCESS
from training.runs.folder import RunFolder

STEPS, SAVE_STEPS = 40, 2
GROUPS, GROUP_SIZE = 2, 4
KILLS = {
    "starting": 2,
    "reading the data": 2,
    "loading the model": 3,
    "training": 5,
    "saving": 4,
    "choosing the checkpoint": 2,
    "evaluating the adapter": 2,
}
"""Of the twenty, by the phase that each is aimed at."""


def options(steps: int, save_steps: int, **values: object) -> list[str]:
    """A small run that chooses its checkpoint and is evaluated."""
    settings = {
        **{"max_steps": steps, "save_steps": save_steps, "warmup_steps": 0, "report_to": "[]"},
        **{"prompts_per_step": GROUPS, "num_generations": GROUP_SIZE, "micro_batch_size": 8},
        **{"max_completion_length": 24, "choose_checkpoint": True, "eval_rows": 8},
        **{"train_rows": 40, "test_rows": 8, "validation_rows": 4},
    }
    return [w for name, value in (settings | values).items() for w in (f"--{name.replace('_', '-')}", str(value))]


def check_whole(found: RunFolder, steps: int, save_steps: int) -> None:
    """Every step once, the same number of samples, a choice among all checkpoints, an evaluation."""
    assert [row["step"] for row in found.history()] == list(range(1, steps + 1))
    groups = list(read_lines(found.rollouts))
    assert [g["step"] for g in groups] == [s for s in range(1, steps + 1) for _ in range(GROUPS)]
    assert all(len(g["completions"]) == GROUP_SIZE for g in groups)
    scores = json.loads((found.path / "validation.json").read_text())["scores"]
    assert [int(step) for step in scores] == list(range(save_steps, steps + 1, save_steps))
    assert json.loads((found.adapter / "evaluation.json").read_text())["about"]["num_rows"] == 8
    assert found.status()["status"] == "succeeded"


@pytest.mark.long
@pytest.mark.slow
def test_a_run_killed_three_times_ends_whole(tmp_path) -> None:
    phases = ["training", "saving", "choosing the checkpoint"]
    hit = kill_and_resume(tmp_path / "run", options(6, 2), phases, seed=1)
    assert hit.total() == 3
    check_whole(RunFolder(tmp_path / "run"), 6, 2)


@pytest.mark.torture
def test_a_run_killed_twenty_times_ends_whole(tmp_path, figure) -> None:
    rng = random.Random(2)
    phases = [phase for phase, count in KILLS.items() for _ in range(count)]
    first, last = phases[:-4], phases[-4:]  # the last two phases come when the steps are done
    rng.shuffle(first)
    began = time.monotonic()
    hit = kill_and_resume(tmp_path / "run", options(STEPS, SAVE_STEPS), first + last, seed=3)
    found = RunFolder(tmp_path / "run")
    assert hit.total() == 20 and set(hit) == set(PATIENCE)
    check_whole(found, STEPS, SAVE_STEPS)
    figure(summary(hit, found, (time.monotonic() - began) / 60))


def summary(hit: Counter[str], found: RunFolder, minutes: float) -> str:
    phases = ", ".join(f"{phase} {hit[phase]}" for phase in PATIENCE)
    completions = sum(len(group["completions"]) for group in read_lines(found.rollouts))
    return (
        f"killed {hit.total()} times with kill -9 ({phases}), resumed each time: {len(found.history())} steps, each "
        f"once, {completions} completions; {minutes:.1f} minutes"
    )


@pytest.mark.slow
def test_sigterm_leaves_a_checkpoint_and_its_own_status(tmp_path) -> None:
    folder = tmp_path / "run"
    found = RunFolder(folder)
    process = start(folder, *options(500, 400), "--folder", str(folder))
    wait_for(lambda: len(found.history()) >= 2, process)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=300) == INTERRUPTED
    assert found.status()["status"] == "interrupted" and "--resume" in found.status()["reason"]
    newest = found.newest_checkpoint()
    assert newest is not None and int(newest.name.rpartition("-")[2]) == len(found.history())
    ended = stopped_while_importing("--resume", str(folder))
    assert ended.returncode == INTERRUPTED and "stopped while starting" in found.status()["reason"]
    assert found.status()["status"] == "interrupted" and found.newest_checkpoint() == newest


STOPPED = """
import os, signal, sys

class Stopper:
    def find_spec(self, name, path=None, target=None):
        if name == "training.pipeline.run":
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Stopper())
from training.__main__ import main
sys.exit(main(["train", *sys.argv[1:]]))
"""


def stopped_while_importing(*words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process that gets SIGTERM as it begins to import what trains, which takes seconds."""
    return subprocess.run([sys.executable, "-c", STOPPED, *words], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("reason", "kept"),
    [(f"{OTHER_PROCESS}1: out of memory", True), ("out of memory", False)],
    ids=["of another process", "of an earlier start"],
)
def test_a_stop_leaves_the_failure_that_it_follows_on_record(tmp_path, reason: str, kept: bool) -> None:
    folder = RunFolder.create(tmp_path / "run", RunConfig())
    folder.set_status("failed", reason, 1)
    assert stopped_while_importing("--resume", str(tmp_path / "run")).returncode == INTERRUPTED
    assert (folder.status()["status"], folder.status()["reason"] == reason) == (
        "failed" if kept else "interrupted",
        kept,
    )


def test_a_stop_before_a_new_run_has_its_folder(tmp_path) -> None:
    ended = stopped_while_importing(*options(2, 2), "--folder", str(tmp_path / "run"))
    assert ended.returncode == INTERRUPTED and "nothing was written" in ended.stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--num-generations", "1"), "num_generations is '1'"),
        (("--temperature", "0"), "temperature is '0'"),
        (("--rewards", "{no_reward: 1}"), "no_reward"),
        (("--report-to", "wandb"), "which is not installed; pip install wandb"),
        (("--dataset", "https://example.org/x"), "addresses are not fetched"),
        (("--base", "no/where", "--max-steps", "1", "--warmup-steps", "0"), "no/where"),
        (("--max-hours", "0"), "max_hours is '0'"),
        (("--max-hours", "inf"), "max_hours is 'inf'"),
    ],
)
def test_a_wrong_option_is_named(words: tuple[str, ...], said: str, capsys, tmp_path) -> None:
    assert main(["train", *words, "--train-rows", "8", "--folder", str(tmp_path / "run")]) != 0
    printed = capsys.readouterr()
    assert said in printed.err + printed.out
    assert not (tmp_path / "run").exists()


def test_what_is_no_run_is_not_resumed(capsys, tmp_path) -> None:
    assert main(["train", "--resume", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_a_new_run_is_not_put_on_one_that_is_there(capsys, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    assert main(["train", "--train-rows", "8", "--folder", str(tmp_path / "run")]) == 2
    assert "resume it with --resume" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]
