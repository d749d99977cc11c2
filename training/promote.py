"""Serve another adapter from now on: `python -m training promote RUN_OR_FOLDER`, or `promote --roll-back`.

A running app takes it up within two seconds; answers under way end on the adapter they began with.
"""

from __future__ import annotations

import argparse
import getpass
from pathlib import Path

from inference.adapters import CONFIG_FILE, comparison_of
from inference.errors import UserError
from inference.served import promote, roll_back
from inference.settings import load_settings
from training.promotion_rule import summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to promote, or to roll back."""
    parser.add_argument("adapter", nargs="?", metavar="RUN_OR_FOLDER", help="a run, a version, or an adapter's folder")
    parser.add_argument("--roll-back", action="store_true", help="serve again what was served before")


def main(args: argparse.Namespace) -> int:
    """Promote or roll back, and say what is served."""
    if bool(args.adapter) == args.roll_back:
        raise UserError("name one run or adapter to promote, or give --roll-back alone")
    home, by = load_settings().home, f"{getpass.getuser()}, on the command line"
    if args.roll_back:
        found = roll_back(home, by)
    else:
        folder = find_adapter(args.adapter, home)
        if comparison := comparison_of(folder):
            print(summary(comparison))
        found = promote(home, folder, by)
    print(f"served from now on: {found.name or 'the base alone'}")
    return 0


def find_adapter(named: str, home: Path) -> Path:
    """The folder of an adapter that is named by itself, by its run, or as it is listed. Raises `UserError`."""
    path = Path(named).expanduser()
    plain = len(path.parts) == 1
    listed = named.removesuffix("-adapter")
    places = [path, path / "adapter"]
    places += (
        [home / "adapters" / named, *(home / "runs" / name / "adapter" for name in (named, listed))] if plain else []
    )
    for place in places:
        if (place / CONFIG_FILE).is_file():
            return place
    raise UserError(f"there is no run and no adapter {named!r}; `python -m training adapters` lists them")
