"""One run, from its checks to its evaluation. After a kill or a stop in any stage its folder can be resumed.

    run(load_config("starter"), Path("runs/first"))

`status.json` has the status `running` with the stage in words, then `succeeded`. `training.cli.train` is the command
line.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers
from accelerate.utils import broadcast_object_list

from inference.adapters.record import RECORD_FILE
from inference.common.errors import UserError
from inference.common.files import write_json
from inference.common.settings import load_settings
from inference.model.lora_file import CONFIG_FILE
from training.config.run_config import RunConfig
from training.data.dataset import Splits, order_by_difficulty
from training.evaluation.checkpoint_choice import choose_checkpoint, drop_candidates, take_adapter
from training.evaluation.compare import conclude_run, read_request
from training.evaluation.evaluate import make_report, run_evaluation, run_outputs
from training.evaluation.plots import draw_rewards
from training.grpo.distributed import (
    check_checkpoint,
    connect,
    is_first_here,
    is_main_process,
    rank,
    wait_for_all,
    world_size,
)
from training.grpo.fitting import fit_batch, longer_rows, prompt_tokens, with_batch
from training.grpo.trainer import build_trainer
from training.learn.asking import answers_here
from training.learn.record import is_recorded, record_run
from training.pipeline.budget import Budget, BudgetSpent
from training.pipeline.pinned_inputs import OtherSources, check_sources
from training.pipeline.preflight import RunInputs, check_run, check_train_rows
from training.pipeline.publishing import PublishCallback, Publishing
from training.pipeline.recorder import Recorder
from training.pipeline.signals import Stop, StopRequested
from training.runs.estimate.memory import Chosen
from training.runs.estimate.run_estimate import estimate_run
from training.runs.failures import BUDGET_SPENT, INTERRUPTED, OTHER_PROCESS, RunFailed, explain_failure
from training.runs.folder import RunFolder, Status, is_at_the_end, step_of
from training.runs.outcome import ESTIMATE
from training.runs.processes import Identity, boot_seconds
from training.runs.provenance import hardware

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)


def run(
    config: RunConfig, path: Path, resume: bool = False, stop: Stop | None = None, began: Identity | None = None
) -> Path:
    """Trains and evaluates as configured, with all files in the folder `path`; returns the adapter's folder.

    With `resume` the run in `path` goes on from its newest complete checkpoint, or with the stages after its last step.
    `stop` is one that is entered already. `began` is the identity of this process if it executes only this run: its
    time before this call then counts too. Raises `UserError` for wrong input, and `RunFailed`, with the exit status,
    for a run that ended early; `status.json` then has the reason. Of several processes the first writes the folder.
    """
    folder = RunFolder(path)
    already = boot_seconds() - began.created if began else 0.0
    if resume:
        config = RunFolder.open(path, config)[1]
    with ExitStack() as stack:
        stop = stop or stack.enter_context(Stop())
        try:
            is_checked = not (resume and is_trained(folder))
            inputs = check_run(config) if is_checked else RunInputs(config)
            with stop.held():  # until the folder is locked and its status is read
                if is_main_process():
                    folder = folder if resume else RunFolder.create(path, inputs.config)
                    stack.enter_context(folder.locked())
                    if resume and is_finished(folder, config):
                        raise UserError(f"the run in {path} is finished; its adapter is in {folder.adapter}")
                    stack.enter_context(_logged_to(folder.log))
                before = folder.status()
                publishing = stack.enter_context(Publishing(config, folder)) if is_main_process() else None
                pipeline = RunPipeline(inputs, folder, stop, Budget(path, config.max_hours, already), publishing)
        except UserError as error:
            raise explain_failure(error, config, path) or error from error
        try:
            pipeline.run()
        except (Exception, StopRequested) as error:
            failure = pipeline.end_early(error)
            if isinstance(error, OtherSources):  # a refused resume leaves the run as it was
                write_json(path / "status.json", before)
            if failure is not None:
                raise failure from error
            raise
    return folder.adapter


def is_trained(folder: RunFolder) -> bool:
    """True if the run has its adapter; the evaluation may be missing."""
    return (folder.adapter / CONFIG_FILE).is_file()


def is_finished(folder: RunFolder, config: RunConfig) -> bool:
    """True if nothing is left to do."""
    evaluated = not config.eval_rows or (folder.adapter / RECORD_FILE).is_file()
    return folder.status().get("status") == "succeeded" and is_trained(folder) and evaluated


@dataclass
class RunPipeline:
    """The stages of one start of a run: data, steps, adapter, evaluation, comparison, publishing."""

    inputs: RunInputs
    folder: RunFolder
    stop: Stop
    budget: Budget
    publishing: Publishing | None = None
    """`None` in all processes of a run but the first."""
    stage: str = "starting"
    note: str = ""
    """What was found damaged at this start; empty if nothing."""

    def run(self) -> None:
        """Executes every stage that is not done yet, in order."""
        folder, config, splits = self.folder, self.inputs.config, None
        if not is_trained(folder):
            splits = self._train()
        if config.eval_rows and is_main_process() and not (folder.adapter / RECORD_FILE).is_file():
            self._enter("evaluating the adapter")
            make_report(run_evaluation(self.inputs.config, folder.adapter), run_outputs(folder), splits)
        if config.eval_rows and is_main_process() and not is_recorded(folder.adapter):
            self._enter("recording what training changed")
            record_run(folder, self.inputs.config, splits)
        if is_main_process() and (config.eval_rows or read_request(folder.path)):
            self._enter("comparing it with the served adapter")
            if conclude_run(folder.path, splits):
                print(answers_here(load_settings(), folder.path.name, wait_seconds=0), flush=True)
        self._record_budget()
        if self.publishing is not None:
            self.publishing.result()
        self._set_status("succeeded")

    def end_early(self, error: BaseException) -> RunFailed | None:
        """Writes the reason of an early end to the folder; returns `None` for an error that is raised as it is."""
        newest = self.folder.newest_checkpoint()
        step = step_of(newest) if newest else 0
        failure: RunFailed | None
        if isinstance(error, StopRequested):
            where = f"stopped while {self.stage}, at step {step}"
            if self.stop.at_once:
                where = f"stopped at once, without a checkpoint of the last steps; the newest is of step {step}"
            failure = RunFailed(f"{where}; go on with --resume {self.folder.path}", INTERRUPTED)
        elif isinstance(error, BudgetSpent):
            failure = RunFailed(str(error), BUDGET_SPENT)
        else:
            config = RunFolder.open(self.folder.path)[1]  # with the micro-batch that a step without memory has left
            failure = explain_failure(error, config, self.folder.path)
        reason = str(failure or error) or type(error).__name__
        resumable = isinstance(error, StopRequested | BudgetSpent)
        if not resumable and is_trained(self.folder):
            reason += f"; the adapter is in {self.folder.adapter}, and --resume {self.folder.path} evaluates it"
            failure = RunFailed(reason, failure.status) if failure else None
        if is_main_process():
            self.folder.drop_unfinished()  # first, as it may fill the disk
        log.error("%s", reason, exc_info=failure is None and not isinstance(error, UserError))
        try:
            self._record_budget()
            self._set_last_status("interrupted" if resumable else "failed", reason)
        except OSError as full:  # a full disk must not hide the reason
            log.error("the status cannot be written: %s", full)
        return failure

    def _train(self) -> Splits:
        """Trains the remaining steps and makes the adapter; returns the rows."""
        folder = self.folder
        self._enter("reading the data")
        transformers.set_seed(self.inputs.config.seed)
        if is_first_here():
            self._leave_out_damaged()
        if is_main_process():
            self._check_budget()
        state = connect()
        wait_for_all()  # until damaged checkpoints are left out
        checkpoint, is_left = self._newest_checkpoint()
        step = step_of(checkpoint) if checkpoint else 0
        # A branch on the Hub may change between the look-ups of two processes.
        config = broadcast_object_list([self.inputs.config])[0]
        self.inputs = self.inputs.with_config(config)
        check_checkpoint(folder.path, step)
        with state.main_process_first():  # the others find the rows prepared
            splits = self.inputs.load_rows(progress=is_main_process())
        chosen = fit_batch(config)
        if is_main_process():
            check_sources(config, folder, splits)
            folder.change(config)
            folder.rewind(step)
            drop_candidates(folder, after=step)
            batch = asdict(chosen.batch) | {"memory": chosen.words}
            folder.add_versions(hardware() | {"num_processes": world_size()} | batch)
            self._say_what_fits(chosen, splits)
        if is_left:
            self._train_steps(with_batch(config, chosen.batch), _train_rows(config, splits), checkpoint)
            self.stop.check()
            gc.collect()  # the trainer's model and optimizer
            torch.cuda.empty_cache()
        if is_main_process():
            self._make_adapter(splits)
        return splits

    def _leave_out_damaged(self) -> None:
        """Says which checkpoints are damaged, here and on the page beside the stage, and leaves them out."""
        self.note = self.folder.leave_out_damaged()
        if self.note:
            log.warning("%s", self.note)
            print(self.note, flush=True)
            self._set_status("running", f"{self.stage}; {self.note}")

    def _newest_checkpoint(self) -> tuple[Path | None, bool]:
        """The checkpoint to go on from, and whether a step is left: it may have been killed after its last one."""
        checkpoint = self.folder.newest_checkpoint()
        return checkpoint, checkpoint is None or not is_at_the_end(checkpoint)

    def _check_budget(self) -> None:
        checkpoint, is_left = self._newest_checkpoint()
        if is_left and self.budget.is_over(is_starting=True):
            raise BudgetSpent(self.budget.reason(step_of(checkpoint) if checkpoint else 0, self.folder.path))

    def _say_what_fits(self, chosen: Chosen, splits: Splits) -> None:
        """Says the micro-batch and the rows that may be too long, and writes what the run is expected to take."""
        config = self.inputs.config
        found = estimate_run(with_batch(config, chosen.batch), train_rows=len(splits.train))
        write_json(self.folder.path / ESTIMATE, found.to_json())
        words = [chosen.words]
        if not config.data.is_starter:  # whose pictures and texts are all small
            words.append(longer_rows(config, chosen, prompt_tokens(config, splits.train), torch.cuda.is_available()))
        for line in words:
            log.info("%s", line)
            print(line, flush=True)

    def _train_steps(self, config: RunConfig, rows: Dataset, checkpoint: Path | None) -> None:
        """Trains the remaining steps; raises `StopRequested` or `BudgetSpent` if they end before the last."""
        self._enter("loading the model")
        recorder = Recorder(config, self.folder, self.stop, self.budget)
        callbacks = [recorder, *([PublishCallback(self.publishing)] if config.publish_to else [])]
        trainer = build_trainer(config, rows, self.folder, callbacks)
        trainer.remove_callback(transformers.PrinterCallback)
        started = time.monotonic()
        with self.stop.held():
            self._enter("training")
            try:
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            finally:
                recorder.close()
        state = trainer.state
        log.info("at step %d after %.1f minutes", state.global_step, (time.monotonic() - started) / 60)
        if state.global_step < state.max_steps:
            if recorder.over_budget and not recorder.stopped:
                raise BudgetSpent(self.budget.reason(state.global_step, self.folder.path))
            raise StopRequested

    def _make_adapter(self, splits: Splits) -> None:
        """Makes the run's adapter: that of the last checkpoint, or the best of all."""
        folder, config = self.folder, self.inputs.config
        draw_rewards(folder.history(), folder.path / "rewards.png")
        if config.choose_checkpoint:
            self._enter("choosing the checkpoint")
            step = choose_checkpoint(config, folder, splits.validation)
            print(f"checkpoint {step} is the best on {len(splits.validation)} validation rows", flush=True)
        else:
            last = folder.newest_checkpoint()
            assert last is not None, "the last step is always saved"
            take_adapter(last, folder.adapter, config.base, config.system_prompt_text)

    def _enter(self, stage: str) -> None:
        self.stop.check()
        self.stage = stage
        self._set_status("running", f"{stage}; {self.note}" if self.note else stage)
        self._record_budget()

    def _record_budget(self) -> None:
        if is_main_process():
            self.budget.record()

    def _set_status(self, status: Status, reason: str = "") -> None:
        if is_main_process():
            checkpoint = self.folder.newest_checkpoint()
            self.folder.set_status(status, reason, step_of(checkpoint) if checkpoint else 0)

    def _set_last_status(self, status: Status, reason: str) -> None:
        """Writes the status; the reason of the process that failed first is kept, as the others ended because of it."""
        before = self.folder.status()
        if before.get("status") == "failed" and str(before.get("reason", "")).startswith(OTHER_PROCESS):
            log.error("%s", before["reason"])
        elif is_main_process():
            self._set_status(status, reason)
        elif status == "failed" and self.folder.path.is_dir():
            self.folder.set_status(status, f"{OTHER_PROCESS}{rank()}: {reason}", before.get("step"))


def _train_rows(config: RunConfig, splits: Splits) -> Dataset:
    rows = order_by_difficulty(splits.train, Path(config.curriculum)) if config.curriculum else splits.train
    if is_main_process():
        print(f"{len(rows):,} train rows; {splits.dropped}", flush=True)
    check_train_rows(config, len(rows))
    return rows


@contextmanager
def _logged_to(path: Path) -> Iterator[None]:
    """Writes log lines to the file `path` too, until the end of the block."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("training").setLevel(logging.INFO)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
