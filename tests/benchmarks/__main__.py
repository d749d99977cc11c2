"""`python -m tests.benchmarks`: every measurement as one table. It wants an otherwise idle machine."""

from __future__ import annotations

import os

import torch
from transformers.utils import logging

from tests.benchmarks import engine, grading, grpo, page
from tests.benchmarks.table import table


def main() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    busy = os.getloadavg()[0]
    measurements = [*page.measure(), *engine.measure(), *grading.measure(), *grpo.measure()]
    print(f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads, load {busy:.1f} before the start\n")
    print(table(measurements))


if __name__ == "__main__":
    main()
