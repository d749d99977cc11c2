"""Several processes of one run through the launcher's own path, and the number of them by cards and settings."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainingArguments

from inference.common.errors import UserError
from inference.common.files import read_json
from training.config.run_config import load_config
from training.grpo.arguments import grpo_config
from training.launch.local import LocalLauncher
from training.launch.ranks import processes_of
from training.runs.folder import RunFolder
from training.runs.processes import kill_marked, marked
from training.runs.record import RunRecord
from training.runs.store import RunStore

STEPS = 6
SETTINGS = {
    "max_steps": STEPS,
    "warmup_steps": 0,
    "prompts_per_step": 2,
    "num_generations": 4,
    "max_completion_length": 24,
    "save_steps": 2,
    "report_to": (),
    "eval_rows": 0,
    "num_processes": 2,
    "data": {"train_rows": 40, "test_rows": 4},
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


def wait_until(launcher: LocalLauncher, record: RunRecord, is_so: Callable[[RunRecord], bool]) -> RunRecord:
    """Reconciles until it is so; fails if the run ends before, or after a quarter of an hour."""
    limit = time.monotonic() + 900
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


@pytest.mark.slow
def test_two_processes_a_killed_one_a_stop_and_another_number(home) -> None:
    store = RunStore(home)
    launcher = LocalLauncher(store)
    together = store.submit(load_config("starter", SETTINGS), "me")
    try:
        wait_until(launcher, together, lambda r: has_checkpoint(together.folder))
        first = store.get(together.id)
        os.kill(ranks_of(first.launch)["1"].pid, signal.SIGKILL)
        again = wait_until(launcher, together, lambda r: r.launch != first.launch)
        assert again.deaths == 1 and not marked(first.launch), "no process of the first start is left"
        wait_until(launcher, together, lambda r: r.status == "running" and len(ranks_of(r.launch)) == 2)
        launcher.cancel(together.id)
        cancelled = wait_until(launcher, together, lambda r: not r.is_active)
        assert cancelled.status == "cancelled", cancelled.reason
        launcher.resume(together.id, num_processes=1)
        wait_until(launcher, together, lambda r: r.status == "succeeded")
        alone = store.submit(load_config("starter", SETTINGS | {"num_processes": 1}), "me")
        wait_until(launcher, alone, lambda r: r.status == "succeeded")
    finally:
        for record in store.list():
            kill_marked(record.launch)
    versions = read_json(together.folder / "versions.json")
    assert [start["num_processes"] for start in versions] in ([2, 2, 1], [2, 1])
    histories = [RunFolder(record.folder).history() for record in (together, alone)]
    for history in histories:
        assert [row["step"] for row in history] == list(range(1, STEPS + 1))
    for one, other in zip(*histories):
        assert one["reward"] == pytest.approx(other["reward"], abs=1e-6), "the same rollouts, step by step"
    adapters = [load_file(RunFolder(r.folder).adapter / "adapter_model.safetensors") for r in (together, alone)]
    assert adapters[0].keys() == adapters[1].keys()
    distance = sum(float((adapters[0][k].double() - adapters[1][k].double()).square().sum()) for k in adapters[0])
    size = sum(float(v.double().square().sum()) for v in adapters[1].values())
    assert (distance / size) ** 0.5 < 1e-3
