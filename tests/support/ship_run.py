"""Makes a finished run of the starter the shipped adapter: `python -m tests.support.ship_run RUN EVALUATION.json`.

The adapter, its evaluation without the completions and the plot of its rewards go to the starter's folder. `history`
gets at most eight of the run's checkpoints as adapters in bf16, and the metrics that show how it learnt. A run keeps
all its checkpoints with `--keep-checkpoints none`.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from inference.adapters.record import RECORD_FILE
from inference.common.files import write_json
from inference.common.settings import STARTER
from inference.model.lora_file import CONFIG_FILE, WEIGHTS_FILE
from training.learn.record import spread
from training.runs.folder import RunFolder, step_of

HISTORY = STARTER / "history"
SHOWN = ("step", "reward", "completions/mean_length", "rewards/format_reward/mean", "rewards/accuracy_reward/mean")


def main() -> None:
    run, evaluation = RunFolder(Path(sys.argv[1])), Path(sys.argv[2])
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        shutil.copyfile(run.adapter / name, STARTER / "adapter" / name)
    report = json.loads(evaluation.read_text(encoding="utf-8"))
    write_json(STARTER / "adapter" / RECORD_FILE, {k: v for k, v in report.items() if k != "completions"})
    shutil.copyfile(run.path / "rewards.png", STARTER / "rewards.png")
    shutil.rmtree(HISTORY, ignore_errors=True)
    checkpoints = {step_of(path): path for path in run.checkpoints.glob("checkpoint-*")}
    for step in spread(sorted(checkpoints)):
        target = HISTORY / f"step-{step:03}"
        target.mkdir(parents=True)
        shutil.copyfile(run.adapter / CONFIG_FILE, target / CONFIG_FILE)
        weights = load_file(checkpoints[step] / WEIGHTS_FILE)
        save_file({name: value.to(torch.bfloat16) for name, value in weights.items()}, target / WEIGHTS_FILE)
    lines = [{name: row[name] for name in SHOWN if name in row} for row in run.history()]
    (HISTORY / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
