"""Send a run's adapter to the Hub: `python -m training publish RUN [--to owner/name] [--public]`.

    python -m training publish runs/first --to me/adapter
    python -m training publish 20261122-143000-a1b2

Of a run that is done its result, with its evaluation and tagged by run; of one under way its newest checkpoint. A new
repository is private unless asked otherwise. The same thing is published once, however often it is asked for.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from inference.adapters import CONFIG_FILE, WEIGHTS_FILE
from inference.errors import UserError
from inference.settings import load_settings
from training.failures import UNREACHABLE
from training.publishing.package import plain_name
from training.publishing.publisher import finish
from training.publishing.queue import PublishQueue, result_step
from training.repository_names import repository_problem
from training.run_folder import RunFolder, step_of

_SECONDS = 1_800.0
"""How long the command goes on."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run, and where to."""
    parser.add_argument("run", metavar="RUN", help="a run's id or its folder")
    parser.add_argument("--to", metavar="OWNER/NAME", help="the repository (default: publish_to of the run)")
    parser.add_argument("--public", action="store_true", help="make a new repository public")
    parser.add_argument(
        "--replace", action="store_true", help="write to the main branch though somebody else wrote to it last"
    )


def main(args: argparse.Namespace) -> int:
    """Queue and send; 0 if it is there, 7 if it waits."""
    folder = find_run(args.run, load_settings(has_gpu=False).home)
    queue_run(folder, args.to, public=args.public, replace=args.replace)
    return 0 if finish(folder, _SECONDS) else UNREACHABLE


def find_run(named: str, home: Path) -> Path:
    """The folder of a run that is named by its id or by itself. Raises `UserError`."""
    path = Path(named).expanduser()
    for place in (path, *([home / "runs" / named] if len(path.parts) == 1 else [])):
        if (place / "config.json").is_file():
            return place.absolute()
    raise UserError(f"there is no run {named!r}; `python -m training runs` lists them")


def queue_run(path: Path, to: str | None, *, public: bool = False, replace: bool = False) -> str:
    """Queue what a run has to show, for `to` or else for its own `publish_to`; returns the repository.

    Raises `UserError` where nothing says where to, or there is nothing to publish yet.
    """
    folder, config = RunFolder.open(path)
    repo = to or config.publish_to
    if repo is None:
        raise UserError(
            f"nothing says where the adapter of {path.name} goes; give --to owner/name, or set publish_to under "
            "training in space.yaml"
        )
    if problem := repository_problem("the repository", repo):
        raise UserError(problem)
    newest = folder.newest_checkpoint()
    is_result = is_done(folder)
    source = folder.adapter if is_result else newest
    if source is None:
        raise UserError(f"run {path.name} has no checkpoint yet; publish it when it has")
    public = public or config.publish_public
    PublishQueue(path).put(
        source,
        newest,
        plain_name(config.base),
        repo=repo,
        step=result_step(folder) if is_result else step_of(source),
        is_result=is_result,
        public=public,
        replace=replace,
    )
    return repo


def is_done(folder: RunFolder) -> bool:
    """True if a run has its adapter, and is not about to evaluate it."""
    has_adapter = all((folder.adapter / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE))
    return has_adapter and folder.status().get("status") != "running"
