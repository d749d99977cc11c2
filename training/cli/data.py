"""The prepared copies of datasets on this machine: `python -m training data` lists them, `--delete NAME` removes one.

A copy is made when a dataset is first read, and found again by every run on the same rows. Deleting one costs the time
to read the dataset anew.
"""

from __future__ import annotations

import argparse
import time

from inference.common.settings import home_folder
from training.data.prepared_copies import copies, delete_copy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the option that deletes."""
    parser.add_argument("--delete", metavar="NAME", help="delete this copy; `all` deletes all")


def main(args: argparse.Namespace) -> int:
    """Lists the copies, or deletes what is named."""
    home = home_folder()
    if args.delete:
        names = [copy.name for copy in copies(home)] if args.delete == "all" else [args.delete]
        for name in names:
            copy = delete_copy(home, name)
            print(f"deleted {copy.name}, {copy.num_bytes / 1e6:.1f} MB")
        return 0
    found = copies(home)
    for copy in found:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(copy.used_at))
        size, name = f"{copy.num_bytes / 1e6:9.1f} MB  {copy.num_rows:8,} rows", copy.dataset or "unfinished"
        print(f"{copy.name}  {size}  {used}  {name}")
    print(f"{len(found)} prepared cop{'y' if len(found) == 1 else 'ies'} under {home / 'data'}")
    return 0
