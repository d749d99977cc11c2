"""Send a run's adapter to the Hub: `python -m training publish RUN [--to owner/name] [--public]`.

    python -m training publish runs/first --to me/adapter
    python -m training publish 20261122-143000-a1b2

Of a run that is done its result, with its evaluation and tagged by run; of one under way its newest checkpoint. A new
repository is private unless asked otherwise. The same thing is published once, however often it is asked for.
"""

from __future__ import annotations

import argparse

from inference.common.settings import load_settings
from training.hub.publish.publisher import finish
from training.hub.publish.queue import find_run, queue_run
from training.runs.failures import UNREACHABLE

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
