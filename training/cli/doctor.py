"""Looks at whether this machine is right for a run: `python -m training doctor`.

    python -m training doctor                             # for the run that this deployment would start
    python -m training doctor --profile a100 --json       # as JSON, to attach to a bug report
    python -m training doctor --short                     # without the GRPO step: as a Job and a new Space do it

Takes `train`'s options. Each line passes, warns or fails with its remedy; what this machine does not have is skipped.
At most three minutes once the base is on disk. The report is kept by card, driver, torch, transformers and this code,
in the home and in a mounted bucket; what passes is not tried again.
"""

from __future__ import annotations

import argparse
import logging

from inference.common.hub_errors import limit_waiting
from inference.common.settings import Settings, load_settings
from inference.server.visitors import is_on_space
from training.config.options import add_config_options, config_values
from training.config.run_config import load_config
from training.hub.space.prices import Prices
from training.launch.machine_lock import by_hand


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds an option for each setting, and those of the doctor."""
    add_config_options(parser)
    group = parser.add_argument_group("doctor")
    group.add_argument("--short", action="store_true", help="without the GRPO step, its gradient and the port")
    group.add_argument("--again", action="store_true", help="look at everything again, also at what was kept")
    group.add_argument("--dollars-per-hour", type=float, help="the price of this machine, for the printed cost")
    group.add_argument("--json", action="store_true", help="print the whole report as JSON")


def main(args: argparse.Namespace) -> int:
    """Prints the lines and the cost; 0 if no line fails, 1 if one does."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    settings = load_settings()
    config = load_config(args.profile, config_values(args), args.config, settings)
    from training.doctor.checks import examine  # imports torch
    from training.doctor.report import Line, keep_report, read_report
    from training.doctor.subject import Subject

    def say(line: Line) -> None:
        if not args.json:
            print(line.words, flush=True)

    limit_waiting()
    subject = Subject(config, settings)
    if not args.json:
        print("Looking at this machine: at most three minutes once the base is on disk.", flush=True)
    with by_hand(settings.home):
        report = examine(
            subject,
            "short" if args.short else "full",
            before=None if args.again else read_report(subject.base, settings),
            say=say,
            dollars_per_hour=args.dollars_per_hour or _price(settings),
        )
    kept = keep_report(report, settings)
    if args.json:
        print(report.model_dump_json(indent=1))
        return 0 if report.is_good else 1
    print(f"{report.summary}. It took {report.cost}.")
    print(f"report: {kept[-1]}" if kept else "the report could not be kept")
    return 0 if report.is_good else 1


def _price(settings: Settings) -> float | None:
    """The price of an hour of this Space's hardware, by the Hub; `None` elsewhere."""
    found = Prices().of_spaces().get(settings.space.hardware) if is_on_space() else None
    return found.dollars_per_hour if found else None
