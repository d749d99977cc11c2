"""What a run does at each step besides training: records, progress, checkpoints that are signed, and a clean stop."""

from __future__ import annotations

import math
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from tqdm import tqdm
from transformers import TrainerCallback

from training.diagnosis import diagnose
from training.failures import NotANumber
from training.run_folder import RunFolder, append_line

SHOWN = {"reward": "reward", "rewards/format_reward/mean": "format", "rewards/accuracy_reward/mean": "accuracy"}


class Stop:
    """Asked for by SIGTERM or Ctrl-C, taken at the end of a step on every process; the second is obeyed at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(number, self._before[number])

    def agreed(self) -> bool:
        """True if any process was asked."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self.asked
        device = "cuda" if torch.cuda.is_available() else "cpu"
        asked = torch.tensor([float(self.asked)], device=device)
        torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
        return bool(asked.item())


class Recorder(TrainerCallback):
    """Writes `metrics.jsonl`, shows step, remaining time and rewards, and signs checkpoints."""

    def __init__(self, folder: RunFolder, stop: Stop, keep_checkpoints: int) -> None:
        self.folder, self.stop, self.keep = folder, stop, keep_checkpoints
        self.bar: tqdm | None = None
        self.said: set[str] = set()
        self.history: list[dict[str, Any]] = []

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Open the bar where the run stands."""
        self.history = self.folder.history()
        state.save_steps = args.save_steps  # a resumed state brings the number it was saved with
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", dynamic_ncols=True)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """Ask for a checkpoint at the last step, and at a stop."""
        if state.global_step >= state.max_steps:
            control.should_save = True
        if self.stop.agreed():
            control.should_save = control.should_training_stop = True

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        """One line a step; raises `NotANumber` where training has broken down."""
        if not logs or "reward" not in logs:
            return
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise NotANumber(f"{name} is {logs[name]} at step {state.global_step}")
        if not state.is_world_process_zero:
            return
        row = {"step": state.global_step, **logs}
        append_line(self.folder.metrics, row)
        self.history.append(row)
        self._show(state.global_step, logs)
        for finding in diagnose(self.history):
            if finding.name not in self.said:
                self.said.add(finding.name)
                tqdm.write(f"step {state.global_step}: {finding}")

    def _show(self, step: int, logs: dict[str, Any]) -> None:
        if self.bar is None:
            return
        parts = [f"{name} {logs[key]:.2f}" for key, name in SHOWN.items() if logs.get(key) is not None]
        self.bar.set_postfix_str(
            f"{' '.join(parts)} {logs['completions/mean_length']:.0f} tokens, "
            f"no signal in {100 * logs['frac_reward_zero_std']:.0f} % of groups"
        )
        self.bar.update(step - self.bar.n)

    def on_save(self, args, state, control, **kwargs) -> None:
        """Sign the checkpoint that was just written."""
        if state.is_world_process_zero:
            self.folder.mark_whole(Path(args.output_dir) / f"checkpoint-{state.global_step}", self.keep)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()
