"""Sends a run's adapter to the Hub: `python -m training publish RUN [--to owner/name] [--public]`.

    python -m training publish runs/first --to me/adapter
    python -m training publish 20261122-143000-a1b2

Sends the result of a finished run, with its evaluation and the run's tag, or the newest checkpoint of one under way. A
new repository is private unless `--public` is given. The licence of the base is printed before. The same adapter is
published once, however often you ask.
"""

from __future__ import annotations

import argparse

from inference.common.settings import load_settings
from training.hub.publish.licence import licence_words
from training.hub.publish.publisher import finish
from training.hub.publish.queue import find_run, queue_run
from training.runs.failures import UNREACHABLE
from training.runs.folder import RunFolder

_SECONDS = 1_800.0
"""The time limit of the command."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, and the repository."""
    parser.add_argument("run", metavar="RUN", help="a run's id or its folder")
    parser.add_argument("--to", metavar="OWNER/NAME", help="the repository (default: publish_to of the run)")
    parser.add_argument("--public", action="store_true", help="make a new repository public")
    parser.add_argument(
        "--replace", action="store_true", help="write to the main branch even if somebody else wrote to it last"
    )


def main(args: argparse.Namespace) -> int:
    """Queues and sends; returns 0 if it is published, 7 if it waits."""
    folder = find_run(args.run, load_settings(has_gpu=False).home)
    repo = queue_run(folder, args.to, public=args.public, replace=args.replace)
    print(f"publishing to {repo}. {licence_words(RunFolder.open(folder)[1].base)}", flush=True)
    return 0 if finish(folder, _SECONDS) else UNREACHABLE
