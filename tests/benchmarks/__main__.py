"""`python -m tests.benchmarks`: every measurement as one table. It wants an otherwise idle machine.

python -m tests.benchmarks grading grpo      # some of the parts
python -m tests.benchmarks grpo --rounds 2   # a quick look
python -m tests.benchmarks --shape qwen2.5-vl-3b   # decoding with a 3B model, random weights, 8 GB
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import datasets
import torch
import transformers
import trl
from transformers.utils import logging

from tests.benchmarks import engine, grading, grpo, page, roofline, shapes, skipping
from tests.benchmarks.table import Measurement, table

PARTS: dict[str, Callable[..., Iterable[Measurement]]] = {
    "page": page.measure,
    "engine": engine.measure,
    "roofline": roofline.measure,
    "grading": grading.measure,
    "grpo": grpo.measure,
    "skipping": skipping.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Speed on this machine.")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all of them unless named")
    parser.add_argument("--rounds", type=int, default=grpo.ROUNDS, help="rounds of grpo (%(default)s)")
    parser.add_argument("--shape", choices=shapes.SHAPES, help="only the roofline, on random weights of that shape")
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; give 1 or more")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.simplefilter("ignore", FutureWarning)
    busy = os.getloadavg()[0]
    measurements: list[Measurement] = []
    arguments: dict[str, tuple[Any, ...]] = {"grpo": (options.rounds,)}
    if options.shape:
        options.parts, arguments["roofline"] = ["roofline"], (options.shape,)
    for part in options.parts or PARTS:
        started = time.perf_counter()
        measurements += PARTS[part](*arguments.get(part, ()))
        print(f"{part}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    print(
        f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads, load {busy:.1f} before and "
        f"{os.getloadavg()[0]:.1f} after; Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, TRL {trl.__version__}\n"
    )
    print(table(measurements))


if __name__ == "__main__":
    main()
