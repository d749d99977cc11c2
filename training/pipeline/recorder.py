"""The trainer's callback at each step: records, progress, complete checkpoints, and a clean stop."""

from __future__ import annotations

import functools
import math
from pathlib import Path

from transformers import TrainerCallback, TrainerState

from inference.common.files import Json, append_line
from training.config.run_config import RunConfig
from training.evaluation.checkpoint_choice import keep_candidate
from training.grpo.distributed import any_process, wait_for_all
from training.pipeline.budget import Budget, BudgetSpent
from training.pipeline.signals import Stop, StopRequested
from training.pipeline.terminal import ProgressView
from training.runs.diagnosis import diagnose
from training.runs.failures import NotANumber
from training.runs.folder import RunFolder
from training.runs.outcome import seconds_after


class Recorder(TrainerCallback):
    """Writes `metrics.jsonl`, shows the progress, marks checkpoints as complete, and ends the run early."""

    def __init__(self, config: RunConfig, folder: RunFolder, stop: Stop, budget: Budget) -> None:
        self.config, self.folder, self.stop, self.budget = config, folder, stop, budget
        self.stopped = self.over_budget = False
        """The reasons to end before the last step, the same on every process."""
        self._view: ProgressView | None = None
        self._shown_findings: set[str] = set()
        self._history: list[Json] = []

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Opens the display at the run's step; raises if the run must stop or has no time for a step."""
        self._history = self.folder.history()
        state.save_steps = args.save_steps  # a resumed state has the number of its first start
        self._agree(state, is_saving=False)
        if self.stopped:
            raise StopRequested
        if self.over_budget:
            raise BudgetSpent(self.budget.reason(state.global_step, self.folder.path))
        if state.is_world_process_zero:
            after = functools.partial(seconds_after, self.folder.path)
            self._view = ProgressView(state.max_steps, self._history, after=after)
            self.budget.loaded()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """Requests a checkpoint at the last step, at a stop, and if the budget does not allow another step."""
        if state.is_world_process_zero:
            self.budget.step_done()
        if state.global_step >= state.max_steps:
            control.should_save = True
        self._agree(state, control.should_save)  # save_steps may have requested one before
        if self.stopped or self.over_budget:
            control.should_save = control.should_training_stop = True

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        """Writes one line each `logging_steps`; raises `NotANumber` for a loss or gradient that is not finite."""
        if not logs or "reward" not in logs:
            return
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise NotANumber(f"{name} is {logs[name]} at step {state.global_step}")
        if not state.is_world_process_zero:
            return
        row = {"step": state.global_step, **logs}
        append_line(self.folder.metrics, row)
        self._history.append(row)
        if self._view is not None:
            self._view.add(row)
        for finding in diagnose(self._history):
            if finding.name not in self._shown_findings:
                self._shown_findings.add(finding.name)
                print(f"step {state.global_step}: {finding}", flush=True)

    def on_save(self, args, state, control, **kwargs) -> None:
        """Marks the checkpoint that all processes have written, and keeps its adapter if one will be chosen."""
        wait_for_all()
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            if self.config.choose_checkpoint:
                keep_candidate(checkpoint, self.folder, self.config.system_prompt_text)
            self.folder.mark_complete(checkpoint, self.config.keep_checkpoints)
            self.budget.save_done()
        if not (self.stopped or self.over_budget):  # the save may have taken longer than expected
            self._agree(state, is_saving=False)
            control.should_training_stop |= self.stopped or self.over_budget

    def close(self) -> None:
        """Ends the display, however the steps ended."""
        if self._view is not None:
            self._view.close()
            self._view = None

    def _agree(self, state: TrainerState, is_saving: bool) -> None:
        """All processes agree on whether to stop and whether the budget is used up."""
        is_left = state.is_world_process_zero and state.global_step < state.max_steps
        over = is_left and self.budget.is_over(is_saving=is_saving)
        self.stopped, self.over_budget = any_process(self.stop.is_requested, over)
