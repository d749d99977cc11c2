"""The command line: `python -m training pretrain | audit | train | evaluate | runs | start | …`, each with `--help`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from inference.common.errors import UserError
from inference.common.logs import replace_odd_characters

COMMANDS = {
    "pretrain": "make the starter model",
    "grade": "grade pairs of gold and answer of a file, and say what was read and why",
    "audit": "check a dataset before money is spent on it",
    "data": "list the prepared copies of datasets, and delete them",
    "estimate": "say what a run would take on a machine: steps, hours, price, memory",
    "doctor": "try out whether this machine is right for a run, at most three minutes",
    "train": "post-train an adapter with GRPO",
    "evaluate": "score a base and an adapter on held-out problems",
    "learn": "record what a run's training changed, for the page",
    "rewards": "score a run's rollouts by other rewards, weights and limits",
    "runs": "list the runs in the background",
    "start": "queue a run in the background; it starts when no other is active",
    "watch": "follow a run until it ends",
    "cancel": "stop a run with a checkpoint, or withdraw a queued one",
    "resume": "continue a run that ended early from its newest checkpoint",
    "withdraw": "take a run out of the queue",
    "disk": "say what takes room in the home folder, and which folders are no whole runs",
    "delete": "delete runs, or what `disk` lists, for good",
    "adapters": "list the adapters with their scores, and the served one",
    "publish": "send a run's adapter to the Hub",
    "promote": "put another adapter into service, or the one before again",
    "merge": "write an adapter and its base as one model",
    "deploy": "make or update the Space",
}
"""Each has a module in `training.cli`, with `add_arguments(parser)` and `main(args) -> int`."""
_OF_RUNS = ("runs", "start", "watch", "cancel", "resume", "withdraw", "disk", "delete")


def module_of(name: str) -> ModuleType:
    """The module of a command."""
    of = {"promote": "adapters", "merge": "adapters", "rewards": "grade"} | dict.fromkeys(_OF_RUNS, "runs")
    module = of.get(name, name)
    return importlib.import_module(f"training.cli.{module}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status: 2 for wrong input, 130 when interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    replace_odd_characters()
    try:
        _check_paths(argv[1:])
        return _run(argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _check_paths(options: Sequence[str]) -> None:
    """Refuses a mistyped path at once: the modules of commands take seconds to load."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--dataset", "--image-root", "--base", "--config", "--run", "--resume"):
        early.add_argument(option, nargs="?")
    given = early.parse_known_args(options)[0]
    from inference.common.settings import check_base
    from training.config.data_config import check_image_root, check_there

    datasets = [given.dataset]
    if given.config:
        from training.config.run_config import read_config_file

        data = read_config_file(Path(given.config)).get("data")
        datasets.append(data.get("dataset") if isinstance(data, dict) else None)
    for dataset in datasets:
        if isinstance(dataset, str):
            check_there(dataset)
    if given.image_root:
        check_image_root(Path(given.image_root).expanduser())
    if given.base:
        check_base("--base", given.base)
    for folder in filter(None, (given.run, given.resume)):
        from training.runs.folder import RunFolder

        RunFolder.open(Path(folder))


def _run(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose)
        if argv[:1] == [name]:  # the others stay unimported: they are slow to load
            module = module_of(name)
            module.add_arguments(command)
    args = parser.parse_args(argv)
    return module.main(args)


if __name__ == "__main__":
    sys.exit(main())
