"""Says what a run would take: `python -m training estimate`.

    python -m training estimate --profile a100 --hardware a100-large
    python -m training estimate --profile starter --json

Takes `train`'s options. Steps, hours with loading, evaluation and comparison, price, peak memory, and what they are
based on: measured runs of this home, the shipped starter's, else arithmetic. Nothing is downloaded and nothing runs.
"""

from __future__ import annotations

import argparse
import json

from inference.common.settings import load_settings, report_folders
from training.config.options import add_config_options, config_values
from training.config.run_config import load_config
from training.hub.space.prices import Prices, dollars, machine_named
from training.runs.estimate.hardware import machine_here
from training.runs.estimate.run_estimate import RunEstimate, estimate_run
from training.runs.store import RunStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds an option for each setting, and those of the estimate."""
    add_config_options(parser)
    group = parser.add_argument_group("estimate")
    group.add_argument("--hardware", metavar="NAME", help="a100-large, 'A100 40 GB', 2xH100, '8 cores' (this machine)")
    group.add_argument("--dollars-per-hour", type=float, help="the price of the hardware (the Hub's)")
    group.add_argument("--json", action="store_true", help="print the figures as JSON")


def main(args: argparse.Namespace) -> int:
    """Prints the estimate; 0 if the machine can run it, 1 if not."""
    settings = load_settings()
    config = load_config(args.profile, config_values(args), args.config, settings)
    store = RunStore(settings.home)
    found = estimate_run(
        config,
        store.list() if store.exists() else (),
        machine_named(args.hardware, Prices().of_jobs()) if args.hardware else machine_here(),
        doctor_folders=report_folders(settings),
        train_rows=config.data.train_rows if config.data.is_hub else None,
        dollars_per_hour=args.dollars_per_hour,
    )
    print(json.dumps(found.to_json(), indent=1) if args.json else text(found))
    return 0 if not found.obstacle else 1


def text(found: RunEstimate) -> str:
    """The figures in lines."""
    machine, memory = found.machine, found.memory
    price = "not known: give it with --dollars-per-hour"
    if found.dollars is not None:
        price = f"{dollars(found.dollars)} at {dollars(found.dollars_per_hour)} an hour"
        price += f" ({machine.source})" if machine.source else ""
    lines = [
        f"hardware    {machine.name}",
        f"steps       {found.num_steps:,} of {found.completions // found.num_steps} completions, "
        f"{found.completions:,} in all",
        f"time        {found.hours:.3g} hours, between {found.hours_low:.3g} and {found.hours_high:.3g}",
        f"            loading {found.loading_seconds:.0f} s, training {found.training_seconds:.0f} s "
        f"({found.step_seconds:.3g} s a step), evaluation and comparison {found.after_seconds:.0f} s",
        f"price       {price}",
        f"memory      {memory.words}",
        f"basis       {found.basis}",
        *(f"            {note}" for note in found.notes),
    ]
    return "\n".join([*lines, *([f"It cannot run there. {found.obstacle}"] if found.obstacle else [])])
