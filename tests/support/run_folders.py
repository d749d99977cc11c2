"""Run folders as a trainer leaves them, made at once from the starter's adapter, for what comes after training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from inference.adapters.record import adapter_digest
from inference.common.files import append_line
from tests.support.samples import STARTER, perturbed_adapter
from training.config.run_config import load_config
from training.hub.publish.queue import PROCESSOR_FILES
from training.runs.folder import RunFolder
from training.runs.provenance import versions_here


def begun_run(path: Path, **values: Any) -> RunFolder:
    """A run under way, with versions and no step yet."""
    folder = RunFolder.create(path, load_config("starter", {"max_steps": 4, "warmup_steps": 0, **values}))
    starts = [{"time": 1.0, "step": 0, "hardware": "a small machine, 2 cores", "num_gpus": 0} | versions_here()]
    (path / "versions.json").write_text(json.dumps(starts), encoding="utf-8")
    folder.set_status("running", "training", 0)
    return folder


def add_checkpoint(folder: RunFolder, step: int, rewards: bool = False) -> Path:
    """Train to `step`: a signed checkpoint with weights of its own and files that are to stay here, and metrics.

    With `rewards` such as make a curve, which takes half a second to draw.
    """
    for each in range(len(folder.history()) + 1, step + 1):
        means = {"rewards/format_reward/mean": each / 10, "rewards/accuracy_reward/mean": each / 20}
        row = {"step": each, "reward": 0.1 * each, "step_time": 1.5}
        append_line(folder.metrics, row | (means if rewards else {}))
    checkpoint = perturbed_adapter(folder.checkpoints / f"checkpoint-{step}", seed=step)
    for name in PROCESSOR_FILES:
        if (STARTER / name).is_file():
            shutil.copyfile(STARTER / name, checkpoint / name)
    for name in ("optimizer.pt", "training_args.bin", "README.md"):
        (checkpoint / name).write_bytes(b"only here")
    folder.mark_complete(checkpoint, keep=3)
    return checkpoint


def finished_run(path: Path, rewards: bool = False, **values: Any) -> RunFolder:
    """A run of four steps with its adapter and the starter's own evaluation."""
    folder = begun_run(path, **values)
    checkpoint = add_checkpoint(folder, 4, rewards)
    folder.adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(checkpoint / name, folder.adapter / name)
    add_evaluation(folder.adapter)
    folder.set_status("succeeded", "", 4)
    return folder


def add_evaluation(adapter: Path) -> None:
    """Puts the figures of the starter's adapter beside another one, as those of its weights."""
    evaluation = json.loads((STARTER / "adapter" / "evaluation.json").read_text(encoding="utf-8"))
    evaluation["about"]["adapter_digest"] = adapter_digest(adapter)
    (adapter / "evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")
