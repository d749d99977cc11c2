"""`python -m training merge ADAPTER FOLDER`: writes an adapter and its base as one model, which needs no PEFT."""

from __future__ import annotations

import argparse
from pathlib import Path

from inference.adapters.record import read_record
from inference.common.settings import STARTER_NAME, load_settings
from training.cli.adapters import find_adapter
from training.hub.publish.licence import licence_words
from training.hub.publish.merged import write_merged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("adapter", metavar="ADAPTER", help="a run, a version, or an adapter's folder")
    parser.add_argument("folder", type=Path, help="that the model is written to; it must not exist yet, or be empty")
    parser.add_argument("--base", help="the base, where it is not that of the adapter's own settings")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    settings = load_settings(has_gpu=False)
    adapter = find_adapter(args.adapter, settings.home)
    base = args.base or read_record(adapter).base or settings.base
    print(licence_words(STARTER_NAME if base == STARTER_NAME else base), flush=True)
    write_merged(base, adapter, args.folder)
    print(f"{adapter.name} merged into {base}: {args.folder}")
    return 0
