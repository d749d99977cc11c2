"""The commands for runs in the background: `python -m training runs | start | watch | cancel | resume | withdraw`,
and for the disk that they are on: `disk | delete`.

    python -m training start --profile starter --max-hours 2 --promote
    python -m training runs
    python -m training watch 20261122-143000-a1b2

They share records and launcher with the page, so each sees the runs of the other.
"""

from __future__ import annotations

import argparse
import getpass
import time
from collections.abc import Callable
from pathlib import Path

from inference.common.settings import STARTER_NAME, load_settings
from training.config.options import add_config_options, config_values
from training.config.run_config import RunConfig, load_config
from training.hub.publish.licence import licence_words
from training.launch.jobs.launcher import launcher_for
from training.launch.local import LocalLauncher
from training.runs.database import NotWritable
from training.runs.record import RunRecord
from training.runs.snapshot import RunWatch, Snapshot
from training.runs.store import RunStore
from training.runs.upkeep import delete_stored, free_words, stored

_LOOK_SECONDS = 2.0
_PATHS = ("base", "start_adapter", "curriculum")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command that the parser is for, by the last word of its name."""
    command = parser.prog.split()[-1]
    parser.set_defaults(run=COMMANDS[command])
    if command == "start":
        add_config_options(parser)
        promote = "put the adapter into service automatically if it is better"
        parser.add_argument("--promote", action="store_true", help=promote)
        parser.add_argument(
            "--name", default="", help="of the run and of its adapter; made of date and time without it"
        )
        parser.add_argument("--dollars-per-hour", type=float, help="price of an hour of this machine")
    elif command == "delete":
        parser.add_argument("names", nargs="+", metavar="name", help="of a run or a folder, as `disk` shows it")
    elif command not in ("runs", "disk"):
        parser.add_argument("id", help="of the run, as `runs` shows it")
    if command in ("start", "resume"):
        parser.add_argument("--max-dollars", type=float, help="stop at a checkpoint before it has cost more")
    if command == "resume":
        parser.add_argument("--max-hours", type=float, help="new budget of hours, over all starts")
        parser.add_argument("--num-processes", type=int, help="processes that share each step; 0: one a card")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    settings = load_settings(has_gpu=False)  # nothing is served here, and looking for a GPU takes seconds
    launcher = launcher_for(settings, RunStore(settings.home))
    command: Callable[[LocalLauncher, argparse.Namespace], int] = args.run
    return command(launcher, args)


def _runs(launcher: LocalLauncher, args: argparse.Namespace) -> int:
    try:
        launcher.reconcile()
    except NotWritable as error:  # the folders can be read all the same
        print(error)
    if launcher.store.exists():
        if launcher.store.notice:
            print(launcher.store.notice)
        records = launcher.store.list()
        for record in records:
            print(line(record))
            if record.reason:
                print(f"    {record.reason.splitlines()[0]}")
        listed = {record.folder for record in records}
        for each in stored(launcher.store):
            if each.problem and each.path not in listed:
                print(f"{each.name}  {each.problem}")
        return 0
    print(f"no runs in {launcher.store.home} yet; `python -m training start` queues one")
    return 0


def _start(launcher: LocalLauncher, args: argparse.Namespace) -> int:
    config = _with_absolute_paths(load_config(args.profile, config_values(args), args.config, load_settings()))
    launcher.check(config)
    if config.publish_to is not None:
        print(licence_words(config.base))
    record = launcher.store.submit(
        config,
        asked_by=f"{getpass.getuser()} on the command line",
        name=args.name,
        promote=args.promote,
        max_dollars=args.max_dollars,
        dollars_per_hour=args.dollars_per_hour,
    )
    launcher.reconcile()
    print(line(launcher.store.get(record.id)))
    print(f"run folder: {record.folder}\nwatch it: python -m training watch {record.id}")
    return 0


def _watch(launcher: LocalLauncher, args: argparse.Namespace) -> int:
    """Prints changes until the run has ended; Ctrl-C ends the watching, not the run."""
    launcher.store.get(args.id)
    return _follow(launcher, args.id)


def _cancel(launcher: LocalLauncher, args: argparse.Namespace) -> int:
    record = launcher.cancel(args.id)
    return _follow(launcher, args.id) if record.is_active else _print(record)


def _resume(launcher: LocalLauncher, args: argparse.Namespace) -> int:
    launcher.reconcile()
    return _print(
        launcher.resume(
            args.id, max_hours=args.max_hours, max_dollars=args.max_dollars, num_processes=args.num_processes
        )
    )


def _withdraw(launcher: LocalLauncher, args: argparse.Namespace) -> int:
    return _print(launcher.store.withdraw(args.id))


def _disk(launcher: LocalLauncher, args: argparse.Namespace) -> int:
    """Prints what lies in the home folder, the largest first."""
    store = launcher.store
    print(free_words(store.home))
    for each in stored(store):
        can = "" if each.can_delete else "  (in use, or not deleted from here)"
        print(f"{each.num_bytes / 1e6:10.1f} MB  {each.name}{can}")
        if each.problem:
            print(f"    {each.problem}")
    return 0


def _delete(launcher: LocalLauncher, args: argparse.Namespace) -> int:
    for name in args.names:
        print(f"{name} is deleted: {delete_stored(launcher.store, name) / 1e6:.1f} MB")
    return 0


COMMANDS: dict[str, Callable[[LocalLauncher, argparse.Namespace], int]] = {
    "runs": _runs,
    "start": _start,
    "watch": _watch,
    "cancel": _cancel,
    "resume": _resume,
    "withdraw": _withdraw,
    "disk": _disk,
    "delete": _delete,
}


def line(record: RunRecord) -> str:
    """A run in one line: id, status, steps, hours, dollars, and the person who started it."""
    steps = f"step {record.step} of {record.max_steps or '?'}"
    cost = "" if record.cost_dollars is None else f"  ${record.cost_dollars:.2f}"
    return f"{record.id}  {record.status:<11}  {steps:<18}  {record.hours:6.2f} h{cost}  {record.asked_by}"


def _follow(launcher: LocalLauncher, run_id: str) -> int:
    watch, shown, printed = RunWatch(launcher.store.folder / run_id), "", set[str]()
    while True:
        launcher.reconcile()
        record = launcher.store.get(run_id)
        snapshot = watch.look(record)
        text = _line_of(record, snapshot)
        if text != shown:
            print(text, flush=True)
        for finding in snapshot.findings:
            if finding.name not in printed:
                print(f"    {finding}", flush=True)
                printed.add(finding.name)
        shown = text
        if not record.is_active and record.status != "queued":
            return _print(record)
        time.sleep(_LOOK_SECONDS)


def _line_of(record: RunRecord, snapshot: Snapshot) -> str:
    means = [
        f"{name} {snapshot.curves[name][-1][1]:.2f}"
        for name in ("reward", "format", "accuracy")
        if name in snapshot.curves
    ]
    time_left = (
        "" if not snapshot.seconds_left or snapshot.seconds_left < 0 else f"  {snapshot.seconds_left / 60:.1f} min left"
    )
    steps = f"step {snapshot.step} of {snapshot.max_steps or '?'}"
    return f"{record.status:<11}  {steps}{time_left}  {' '.join(means)}".rstrip()


def _print(record: RunRecord) -> int:
    print(line(record))
    if record.reason:
        print(record.reason)
    return 1 if record.status in ("failed", "lost") else 0


def _with_absolute_paths(config: RunConfig) -> RunConfig:
    """The configuration with absolute paths, since the trainer works in another folder."""
    changes = {name: _absolute(value) for name in _PATHS if (value := getattr(config, name)) and value != STARTER_NAME}
    data = config.data
    if not data.is_starter:
        data = data.model_copy(update={"dataset": _absolute(data.dataset)})
    return config.model_copy(update=changes | {"data": data})


def _absolute(name: str) -> str:
    path = Path(name).expanduser()
    return str(path.absolute()) if path.exists() else name
