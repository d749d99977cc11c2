"""A GRPO run from start to adapter: `python -m training train`.

    python -m training train --profile recipe --folder runs/first
    python -m training train --resume runs/first

Trains a LoRA adapter, shows the rewards as they move, evaluates base and adapter on held-out rows, and keeps
everything in a run folder (`training.run_folder`). A run that was stopped or killed goes on with `--resume`.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from inference.errors import UserError
from inference.settings import base_source, load_settings
from training.callbacks import Recorder, Stop
from training.choice import choose_checkpoint, take_adapter
from training.config import RunConfig, load_config
from training.config_changes import change_config
from training.config_options import add_config_options, config_values
from training.curriculum import order_by_difficulty
from training.curve import draw_curve
from training.data import Splits, load_rows
from training.failures import INTERRUPTED, RunFailed, explain_failure
from training.hardware import hardware_name
from training.reward_loading import load_reward
from training.run_folder import RunFolder, Status, is_at_the_end, step_of
from training.run_sources import check_sources, pin
from training.trainer import build_trainer, check_base

log = logging.getLogger(__name__)


def run(config: RunConfig, path: Path, resume: bool = False) -> Path:
    """Train as `config` says, keep everything in the folder `path`, and return the adapter's folder.

    With `resume` the run in `path` goes on from its newest whole checkpoint. Raises `UserError` for wrong input, and
    `RunFailed`, with the exit status, for a run that ended early; the folder then says how it stands. Of several
    processes (`accelerate launch`) the first keeps the folder.
    """
    folder = RunFolder(path)
    if resume:
        config = RunFolder.open(path, config)[1]
    check_base(config)
    check_tools(config)
    config = pin(config)
    with ExitStack() as stack:
        stop = stack.enter_context(Stop())
        before: dict[str, Any] = {}
        if is_main_process():
            folder = RunFolder(path) if resume else RunFolder.create(path, config)
            stack.enter_context(folder.locked())
            stack.enter_context(_logged(folder))
            before = folder.status()
            if resume and before.get("status") == "succeeded":
                raise UserError(f"the run in {path} is finished; its adapter is in {folder.adapter}")
            folder.set_status("running")
        try:
            done = _train(config, folder, stop)
        except (Exception, KeyboardInterrupt) as error:
            failure = _failed(error, config, folder)
            if isinstance(error, UserError) and before:  # a resume that is refused leaves the run as it was
                folder.put_back_status(before)
            raise failure from error
        if not done:
            reason = f"stopped at step {_last_step(folder)}; go on with --resume {path}"
            _set_status(folder, "interrupted", reason)
            raise RunFailed(reason, INTERRUPTED)
        _set_status(folder, "succeeded")
    return folder.adapter


def check_tools(config: RunConfig) -> None:
    """Raise `UserError` if a reward function or a place for live figures is not there."""
    for name in config.rewards:
        load_reward(name)
    missing = [name for name in config.report_to if find_spec(name) is None]
    if missing:
        raise UserError(
            f"report_to names {', '.join(missing)}, which is not installed; pip install {' '.join(missing)}, "
            "or leave it out"
        )


def is_main_process() -> bool:
    """True in the process that keeps the records: the only one, or the first of several."""
    return os.environ.get("RANK", "0") == "0"


def _train(config: RunConfig, folder: RunFolder, stop: Stop) -> bool:
    """Train to the end and write the adapter; false if it was stopped before."""
    transformers.set_seed(config.seed)
    checkpoint = folder.newest_checkpoint()
    processes = PartialState(cpu=not torch.cuda.is_available())
    config = broadcast_object_list([config])[0]  # a branch of the Hub may move between two processes' look-ups
    with processes.main_process_first():  # the others find the rows prepared
        splits = load_rows(config.data, _processor(config), progress=is_main_process())
    if is_main_process():
        check_sources(config, folder, splits)
        folder.change(config)
        folder.add_versions(_hardware() | {"num_processes": processes.num_processes})
        folder.rewind(step_of(checkpoint) if checkpoint else 0)
    if checkpoint is None or not is_at_the_end(checkpoint):  # else it was killed after its last step
        if not _train_on(config, folder, stop, _train_rows(config, splits), checkpoint):
            return False
    if is_main_process():
        last = folder.newest_checkpoint()
        assert last is not None, "the last step is always saved"
        take_adapter(last, folder.adapter, config.base)
        draw_curve(folder.history(), folder.path / "rewards.png")
        if config.choose_checkpoint:
            step = choose_checkpoint(config, folder, splits.validation)
            print(
                f"checkpoint {step} is the best of those kept on {len(splits.validation)} validation rows", flush=True
            )
    return True


def _train_on(config: RunConfig, folder: RunFolder, stop: Stop, rows: Any, checkpoint: Path | None) -> bool:
    """The steps that are left; false if it was stopped before the last."""
    trainer = build_trainer(config, rows, folder, [Recorder(folder, stop, config.keep_checkpoints)])
    trainer.remove_callback(transformers.PrinterCallback)
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    state = trainer.state
    log.info("at step %d after %.1f minutes", state.global_step, (time.monotonic() - started) / 60)
    return not (stop.agreed() and state.global_step < state.max_steps)


def _train_rows(config: RunConfig, splits: Splits) -> Any:
    rows = order_by_difficulty(splits.train, Path(config.curriculum)) if config.curriculum else splits.train
    if is_main_process():
        print(f"{len(rows):,} train rows; {splits.dropped}", flush=True)
    return rows


def _set_status(folder: RunFolder, status: Status, reason: str = "") -> None:
    if is_main_process():
        folder.set_status(status, reason, _last_step(folder))


def _processor(config: RunConfig) -> Any:
    """The base's processor where the limit on prompts needs one."""
    if config.data.max_prompt_tokens is None:
        return None
    return transformers.AutoProcessor.from_pretrained(base_source(config.base), revision=config.base_revision)


def _failed(error: BaseException, config: RunConfig, folder: RunFolder) -> BaseException:
    """What to raise for an error: an explained failure where there is a remedy; the folder's status is set."""
    explained = None if isinstance(error, UserError) else explain_failure(error, config, folder.path)
    stopped = isinstance(error, KeyboardInterrupt)
    reason = "interrupted at once, without a checkpoint of the last steps" if stopped else str(explained or error)
    log.error("%s", reason, exc_info=explained is None and not isinstance(error, UserError | KeyboardInterrupt))
    try:
        _set_status(folder, "interrupted" if stopped else "failed", reason)
    except OSError as full:  # a full disk must not hide why the run ended
        log.error("the status cannot be written: %s", full)
    return explained or error


def _last_step(folder: RunFolder) -> int:
    checkpoint = folder.newest_checkpoint()
    return step_of(checkpoint) if checkpoint else 0


def _hardware() -> dict[str, Any]:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {"hardware": hardware_name(), "num_gpus": gpus, "cuda": torch.version.cuda if gpus else None}


class _logged:
    """Adds the run's log file for as long as it runs."""

    def __init__(self, folder: RunFolder) -> None:
        self.handler = logging.FileHandler(folder.log, encoding="utf-8")
        self.handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def __enter__(self) -> None:
        logging.getLogger().addHandler(self.handler)
        logging.getLogger("training").setLevel(logging.INFO)

    def __exit__(self, *error: object) -> None:
        logging.getLogger().removeHandler(self.handler)
        self.handler.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One option for each setting, the run folder, and the folder to resume."""
    add_config_options(parser)
    parser.add_argument("--folder", type=Path, help="the run folder (default: a new one under LOOKTHINK_HOME/runs)")
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with the run in this folder")


def _lacks_evaluation(folder: Path) -> bool:
    """True for a run that is trained to its end, but whose evaluation was cut off."""
    return RunFolder(folder).status().get("status") == "succeeded" and not (folder / "adapter/evaluation.json").exists()


def main(args: argparse.Namespace) -> int:
    """Train, evaluate, and say where everything is."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    values = config_values(args)
    if args.resume and (args.folder or args.config or args.profile):
        raise UserError("--resume goes on with a run where it is; leave --folder, --config and --profile out")
    folder = args.resume or args.folder or load_settings().home / "runs" / time.strftime("%Y%m%d-%H%M%S")
    if args.resume:
        config = RunFolder.open(folder, change_config(RunFolder.open(folder)[1], values))[1]
    else:
        config = load_config(args.profile, values, args.config)
    try:
        made_before = args.resume and config.eval_rows and _lacks_evaluation(folder)
        adapter = folder / "adapter" if made_before else run(config, folder, resume=bool(args.resume))
    except RunFailed as failure:
        print(f"run folder: {folder}\nended early: {failure}", flush=True)
        return failure.status
    if config.eval_rows and is_main_process():
        from training.run_evaluation import evaluate_run

        evaluate_run(folder)
    print(f"run folder: {folder}\nserve it: LOOKTHINK_ADAPTER={adapter} make app")
    return 0
