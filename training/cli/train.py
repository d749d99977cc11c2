"""Runs GRPO from start to adapter: `python -m training train`.

    python -m training train --profile recipe --folder runs/first
    python -m training train --resume runs/first
    python -m training train --folder FOLDER --num-nodes 2 --node 1 --address 10.0.0.5:29500    # on each machine

Trains a LoRA adapter, shows the rewards as they move, evaluates base and adapter on held-out rows, and keeps
everything in a run folder (`training.runs.folder`). A run that was stopped or killed continues with `--resume`.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
import warnings
from pathlib import Path

from inference.common.errors import UserError
from inference.common.settings import load_settings
from training.config.options import add_config_options, config_values
from training.config.run_config import RunConfig, change_config, load_config
from training.hub.publish.licence import licence_words
from training.hub.publish.publisher import finish
from training.launch.machine_lock import by_hand
from training.launch.ranks import processes_of, train_together
from training.launch.rendezvous import ALONE, Node
from training.pipeline.signals import Stop, StopRequested
from training.runs.failures import BUDGET_SPENT, INTERRUPTED, OTHER_PROCESS, RunFailed
from training.runs.folder import RunFolder
from training.runs.processes import own_identity

_PUBLISHING_SECONDS = 600.0
"""The longest wait for the adapter to reach the Hub at the end of a run; a first failure ends it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds an option for each setting, the run folder, and the folder to resume."""
    add_config_options(parser)
    parser.add_argument("--folder", type=Path, help="the run folder (default: a new one under LOOKTHINK_HOME/runs)")
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="continue the run in this folder")
    parser.add_argument("--node", type=int, default=0, metavar="NUMBER", help="this machine's of --num-nodes")
    parser.add_argument("--address", metavar="HOST:PORT", help="of machine 0, a port that is free there (--num-nodes)")


def main(args: argparse.Namespace) -> int:
    """Trains, evaluates and prints the folders; returns a status of `training.runs.failures`."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # a line at each save
    folder, config = _folder_and_config(args)
    if config.publish_to is not None and _is_first():
        print(licence_words(config.base), flush=True)
    with Stop() as stop:
        try:
            with by_hand(load_settings().home):
                adapter = _train(folder, config, args, stop)
        except StopRequested:
            return _stopped_early(folder, (folder / "config.json").is_file())
        except RunFailed as failure:
            where = f"run folder: {folder}\n" if (folder / "config.json").is_file() else ""
            if _is_first() or failure.status not in (INTERRUPTED, BUDGET_SPENT):  # else the first process prints it
                print(f"{where}ended early: {failure}", flush=True)
            return failure.status
    if _is_first() and args.node == 0:
        print(_next_commands(folder, adapter), flush=True)
        if RunFolder.open(folder)[1].publish_to is not None:
            finish(folder, _PUBLISHING_SECONDS)
    return 0


def _train(folder: Path, config: RunConfig, args: argparse.Namespace, stop: Stop) -> Path:
    """Trains in this process, or in one for each card of this and other machines; returns the adapter's folder."""
    has_launcher = "RANK" in os.environ  # `torchrun` or `accelerate launch` has started one process a card
    num_processes = 1 if has_launcher else processes_of(config)
    if has_launcher or num_processes * config.num_nodes == 1:
        from training.pipeline.run import run  # imports torch: takes seconds, and signals count already

        return run(config, folder, resume=bool(args.resume), stop=stop, began=own_identity())
    node = Node(args.node, config.num_nodes, args.address or ALONE.address)
    if node.number == 0:
        (RunFolder(folder) if args.resume else RunFolder.create(folder, config)).change(config)
    status, reason = train_together(folder, num_processes, stop, node)
    if status:
        before = RunFolder(folder).status()
        if node.number == 0 and before.get("status") != "interrupted":  # a killed process has written nothing
            RunFolder(folder).set_status("failed", reason, before.get("step"))
        raise RunFailed(reason, status)
    return RunFolder(folder).adapter


def _next_commands(folder: Path, adapter: Path) -> str:
    """The run folder, and what to type next."""
    return (
        f"run folder: {folder}\n"
        f"serve it: LOOKTHINK_ADAPTER={adapter} make app\n"
        f"score it in every way: .venv/bin/python -m training evaluate --run {folder}"
    )


def _is_first() -> bool:
    """As `training.grpo.distributed.is_main_process`, which imports torch."""
    return os.environ.get("RANK", "0") == "0"


def _folder_and_config(args: argparse.Namespace) -> tuple[Path, RunConfig]:
    """The folder and the configuration that the options name."""
    values = config_values(args)
    if args.resume and (args.folder or args.config or args.profile):
        raise UserError("--resume continues a run where it is; leave --folder, --config and --profile out")
    if args.resume:
        return args.resume, RunFolder.open(args.resume, change_config(RunFolder.open(args.resume)[1], values))[1]
    if args.folder is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("several processes share this run, and each would make its own folder; name one with --folder")
    settings = load_settings()
    folder = args.folder or settings.home / "runs" / time.strftime("%Y%m%d-%H%M%S")
    return folder, load_config(args.profile, values, args.config, settings)


def _stopped_early(path: Path, resume: bool) -> int:
    """Handles a stop before the first step: a new run has written nothing, a resumed one is unchanged."""
    if not resume:
        print("ended early: stopped before the run began; nothing was written", flush=True)
        return INTERRUPTED
    folder = RunFolder(path)
    with folder.locked():
        before = folder.status()
        step = before.get("step")
        reason = f"stopped while starting, at step {step or 0}; go on with --resume {path}"
        is_failed = before.get("status") == "failed" and str(before.get("reason")).startswith(OTHER_PROCESS)
        # A finished run stays one, and so does one for whose failure in another process this one is stopped.
        if before.get("status") != "succeeded" and not is_failed:
            folder.set_status("interrupted", reason, step)
    print(f"run folder: {path}\nended early: {reason}", flush=True)
    return INTERRUPTED
