"""A GRPO run from configuration to an adapter that the engine serves: finished, killed and resumed, stopped, failed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from inference.engine import Engine
from inference.errors import UserError
from inference.rows import Row
from inference.settings import STARTER
from training.__main__ import main
from training.config import RunConfig, load_config
from training.failures import INTERRUPTED, NOT_A_NUMBER, RunFailed
from training.problems import load_problems
from training.run_folder import RunFolder
from training.train import run

SMALL = {
    "max_steps": 2,
    "warmup_steps": 0,
    "prompts_per_step": 2,
    "num_generations": 4,
    "micro_batch_size": 8,
    "max_completion_length": 24,
    "eval_rows": 0,
    "save_steps": 1,
    "report_to": [],
    "data": {"train_rows": 40, "test_rows": 4},
}
ROOT = Path(__file__).parents[1]


def small(**values) -> RunConfig:
    return load_config("starter", SMALL | values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "first"
    run(small(report_to=["tensorboard"]), folder)
    return folder


@pytest.mark.slow
def test_the_run_folder_is_whole(folder) -> None:
    found, config = RunFolder.open(folder)
    assert config == small(report_to=["tensorboard"])
    assert [row["step"] for row in found.history()] == [1, 2]
    assert {"reward", "rewards/format_reward/mean", "frac_reward_zero_std"} <= found.history()[0].keys()
    groups = list(found.groups())
    assert [g["step"] for g in groups] == [1, 1, 2, 2] and all(len(g["completions"]) == 4 for g in groups)
    assert all((found.images / g["image"]).stat().st_size for g in groups)
    assert set(groups[0]["completions"][0]["reasons"]) == {"format", "accuracy"}
    assert (folder / "rewards.png").read_bytes().startswith(b"\x89PNG")
    assert list((folder / "tensorboard").iterdir())
    assert found.status()["status"] == "succeeded"
    assert json.loads((folder / "versions.json").read_text())[0]["trl"]
    assert sorted(p.name for p in found.adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


@pytest.mark.slow
def test_a_run_killed_after_its_last_step_is_not_trained_further(folder, tmp_path) -> None:
    """Its steps (2) are no whole number of epochs (of 20): transformers alone would train one more."""
    killed = RunFolder(Path(shutil.copytree(folder, tmp_path / "killed")))
    shutil.rmtree(killed.adapter)
    killed.set_status("running")
    run(small(report_to=["tensorboard"]), killed.path, resume=True)
    assert [row["step"] for row in killed.history()] == [1, 2]
    weights = "adapter/adapter_model.safetensors"
    assert (killed.path / weights).read_bytes() == (folder / weights).read_bytes()


@pytest.mark.slow
def test_a_resume_may_change_what_a_step_does_not_depend_on(folder, tmp_path, capsys) -> None:
    """Killed after step 1: with other micro-batches step 2 samples the same, learns the same, and all is on record."""
    killed = RunFolder(Path(shutil.copytree(folder, tmp_path / "killed")))
    shutil.rmtree(killed.adapter)
    shutil.rmtree(killed.checkpoints / "checkpoint-2")
    killed.set_status("interrupted")
    before = {path: path.read_bytes() for path in killed.path.rglob("*") if path.is_file()}
    resume = ["train", "--resume", str(killed.path)]
    assert main([*resume, "--micro-batch-size", "4", "--learning-rate", "0.5", "--test-rows", "3"]) == 2
    said = capsys.readouterr().err
    assert "learning_rate: 0.001, not 0.5" in said and "data.test_rows: 4, not 3" in said
    assert f"--start-adapter {killed.checkpoints / 'checkpoint-1'} --folder NEW" in said
    assert {path: path.read_bytes() for path in killed.path.rglob("*") if path.is_file()} == before
    changes = ["--micro-batch-size", "4", "--gradient-checkpointing", "true", "--keep-checkpoints", "1"]
    assert main([*resume, *changes, "--save-steps", "2", "--report-to", "none"]) == 0
    whole = RunFolder(folder)
    assert [row["step"] for row in killed.history()] == [1, 2]
    assert [said_in(group) for group in killed.groups()] == [said_in(group) for group in whole.groups()]
    weights = [load_file(found.adapter / "adapter_model.safetensors") for found in (killed, whole)]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-5) for name in weights[1])
    noted = [json.loads(line) for line in (killed.path / "changes.jsonl").read_text().splitlines()]
    assert {(n["setting"], str(n["from"]), str(n["to"]), n["step"]) for n in noted} == {
        ("micro_batch_size", "8", "4", 1),
        ("gradient_checkpointing", "False", "True", 1),
        ("keep_checkpoints", "3", "1", 1),
        ("save_steps", "1", "2", 1),
        ("report_to", "['tensorboard']", "[]", 1),
    }
    assert RunFolder.open(killed.path)[1] == small(
        micro_batch_size=4, gradient_checkpointing=True, keep_checkpoints=1, save_steps=2
    )
    starts = json.loads((killed.path / "versions.json").read_text())
    assert [start["step"] for start in starts] == [0, 1] and starts[1]["num_processes"] == 1


def said_in(group: dict) -> tuple:
    return group["step"], group["image"], group["prompt"], [c["text"] for c in group["completions"]]


@pytest.mark.slow
def test_the_engine_serves_the_adapter(folder) -> None:
    engine = Engine.load(STARTER)
    engine.add_adapter("new", folder / "adapter")
    problem = load_problems("test", 1)[0]
    row = Row(problem["image"].convert("RGB"), problem["problem"], adapter="new", max_new_tokens=4)
    assert engine.generate([row])[0].num_tokens >= 1


@pytest.mark.slow
def test_no_path_of_this_machine_is_kept_in_the_adapter(folder) -> None:
    assert str(STARTER) not in (folder / "adapter" / "adapter_config.json").read_text()


@pytest.mark.slow
def test_a_finished_run_is_left_alone(folder) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match="not empty"):
        run(small(), folder)
    with pytest.raises(UserError, match="is finished"):
        run(small(report_to=["tensorboard"]), folder, resume=True)
    with pytest.raises(UserError, match="another configuration"):
        run(small(learning_rate=0.5), folder, resume=True)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_training_goes_on_from_an_adapter(folder, tmp_path) -> None:
    adapter = run(small(start_adapter=str(folder / "adapter"), max_steps=1), tmp_path / "second")
    assert (adapter / "adapter_model.safetensors").exists()
    with pytest.raises(UserError, match="holds no adapter_model.safetensors"):
        run(small(start_adapter=str(tmp_path)), tmp_path / "third")


def start(folder: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "training", "train", *options]
    with (folder.parent / "out.txt").open("a") as out:
        return subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)


def wait_for(condition, process: subprocess.Popen | None = None, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        assert process is None or process.poll() is None, f"it ended with {process.returncode}"
        time.sleep(0.02)


def options(steps: int) -> list[str]:
    values = SMALL | {"max_steps": steps, "save_steps": 1, "report_to": "[]"}
    flat = {k: v for k, v in values.items() if k != "data"}
    return [word for k, v in flat.items() for word in (f"--{k.replace('_', '-')}", str(v))] + [
        *("--train-rows", "40", "--test-rows", "4")
    ]


def kill_and_resume(folder: Path, kills: int, steps: int, seed: int) -> RunFolder:
    """A run killed so many times at random moments, each time resumed, and then left to end."""
    rng = random.Random(seed)
    found = RunFolder(folder)
    process = start(folder, *options(steps), "--folder", str(folder))
    for _ in range(kills):
        reached = len(found.history())
        wait_for(lambda r=reached, p=process: len(found.history()) > r or p.poll() is not None)
        time.sleep(rng.uniform(0, 1.5))
        if process.poll() is not None:
            break  # it was quicker than the killer
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process = start(folder, "--resume", str(folder))
    assert process.wait(timeout=600) == 0, (folder.parent / "out.txt").read_text()
    return found


def check_whole(found: RunFolder, steps: int) -> None:
    assert [row["step"] for row in found.history()] == list(range(1, steps + 1))
    groups = list(found.groups())
    assert [g["step"] for g in groups] == [s for s in range(1, steps + 1) for _ in range(2)]
    assert sum(len(g["completions"]) for g in groups) == 8 * steps
    assert found.status()["status"] == "succeeded" and found.adapter.is_dir()


@pytest.mark.slow
def test_a_run_killed_three_times_ends_whole(tmp_path) -> None:
    check_whole(kill_and_resume(tmp_path / "run", kills=3, steps=8, seed=1), 8)


@pytest.mark.skipif("LOOKTHINK_TORTURE" not in os.environ, reason="takes minutes: `make torture` runs it")
def test_a_run_killed_twenty_times_ends_whole(tmp_path) -> None:
    check_whole(kill_and_resume(tmp_path / "run", kills=20, steps=30, seed=2), 30)


@pytest.mark.slow
def test_sigterm_leaves_a_checkpoint_and_its_own_status(tmp_path) -> None:
    folder = tmp_path / "run"
    found = RunFolder(folder)
    process = start(folder, *options(500), "--save-steps", "400", "--folder", str(folder))
    wait_for(lambda: len(found.history()) >= 2, process)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=120) == INTERRUPTED
    assert found.status()["status"] == "interrupted" and "--resume" in found.status()["reason"]
    newest = found.newest_checkpoint()
    assert newest is not None and int(newest.name.rpartition("-")[2]) == len(found.history())


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_ends_the_run(tmp_path) -> None:
    with pytest.raises(RunFailed) as caught:
        run(small(max_steps=6, learning_rate=1.0, max_grad_norm=1e9, beta=1e30), tmp_path / "run")
    assert caught.value.status == NOT_A_NUMBER and "learning_rate (now 1)" in str(caught.value)
    assert RunFolder(tmp_path / "run").status()["status"] == "failed"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--num-generations", "1"), "num_generations is '1'"),
        (("--temperature", "0"), "temperature is '0'"),
        (("--rewards", "{no_reward: 1}"), "no_reward"),
        (("--report-to", "wandb"), "which is not installed; pip install wandb"),
        (("--dataset", "https://example.org/x"), "addresses are not fetched"),
        (("--base", "no/where", "--max-steps", "1", "--warmup-steps", "0"), "no/where"),
    ],
)
def test_a_wrong_option_is_named(words: tuple[str, ...], said: str, capsys, tmp_path) -> None:
    assert main(["train", *words, "--train-rows", "2", "--folder", str(tmp_path / "run")]) != 0
    printed = capsys.readouterr()
    assert said in printed.err + printed.out


@pytest.mark.slow
def test_a_new_run_is_not_put_on_a_finished_one(folder, capsys) -> None:
    """It has no evaluation yet, which only --resume makes up for."""
    before = sorted(folder.rglob("*"))
    assert main(["train", "--folder", str(folder)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--folder", "other"), "leave --folder, --config and --profile out"),
        (("--profile", "recipe"), "leave --folder, --config and --profile out"),
        (("--seed", "3"), "seed: 0, not 3"),
        (("--micro-batch-size", "7"), "give one of 1, 2, 4, 8"),
        (("--micro-batch-size", "many"), "micro_batch_size is 'many'"),
        (("--dataset", "owner/other"), "data.dataset: 'starter', not 'owner/other'"),
    ],
)
def test_a_resume_that_is_refused_changes_nothing(words: tuple[str, ...], said: str, capsys, tmp_path) -> None:
    path = RunFolder.create(tmp_path / "run", small()).path
    before = sorted((file, file.stat().st_mtime_ns) for file in path.rglob("*"))
    assert main(["train", "--resume", str(path), *words]) == 2
    assert said in capsys.readouterr().err
    assert sorted((file, file.stat().st_mtime_ns) for file in path.rglob("*")) == before


def test_what_is_no_run_is_not_resumed(capsys, tmp_path) -> None:
    assert main(["train", "--resume", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
