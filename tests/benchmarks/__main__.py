"""`python -m tests.benchmarks`: every measurement as a line of one table, printed as it comes, on an idle machine.

python -m tests.benchmarks grading grpo      # some of the parts
python -m tests.benchmarks grpo --rounds 2   # a quick look
OMP_NUM_THREADS=1 python -m tests.benchmarks engine grpo --cpu-time   # ratios on a machine that has other work
python -m tests.benchmarks --shape qwen2.5-vl-3b   # decoding with a 3B model, random weights, 8 GB
python -m tests.benchmarks roofline grpo --shape qwen2.5-vl-3b    # and whole GRPO steps, on CUDA: about ten minutes
python -m tests.benchmarks roofline grpo --shape qwen2.5-vl-small # the same on no one's model, for any machine
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

from tests.benchmarks import engine, grading, grpo, memory, page, rewards, roofline, shapes, skipping
from tests.benchmarks.table import HEAD, Measurement, line

ELSEWHERE = ("page", "grading")
"""Parts whose work is done by other processes."""
SHAPED = ("roofline", "grpo")
"""Parts that can have another model than the starter."""
PARTS: dict[str, Callable[..., Iterable[Measurement]]] = {
    "page": page.measure,
    "engine": engine.measure,
    "roofline": roofline.measure,
    "grading": grading.measure,
    "rewards": rewards.measure,
    "grpo": grpo.measure,
    "skipping": skipping.measure,
    "memory": memory.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Speed on this machine.")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all of them unless named")
    parser.add_argument("--rounds", type=int, help="rounds of grpo (5; 1 with a shape)")
    parser.add_argument("--length", type=int, help="tokens of a completion in grpo (64; 512 with 3B, 32 with small)")
    shape = "random weights of that shape: the roofline alone, or of roofline and grpo what is named"
    parser.add_argument("--shape", choices=shapes.SHAPES, help=shape)
    what = "count this process's CPU seconds instead of the clock's, which other work on the machine makes longer"
    parser.add_argument("--cpu-time", action="store_true", help=what)
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    for name in ("rounds", "length"):
        if (value := getattr(options, name)) is not None and value < 1:
            parser.error(f"--{name} is {value}; give 1 or more")
    if options.shape:
        options.parts = options.parts or ["roofline"]
        if others := sorted(set(options.parts) - set(SHAPED)):
            parser.error(f"--shape is for {' and '.join(SHAPED)}, not for {', '.join(others)}")
        if "grpo" in options.parts and options.shape == "qwen2.5-vl-3b" and not torch.cuda.is_available():
            parser.error("grpo with 3B wants CUDA: on a CPU a step takes hours; try --shape qwen2.5-vl-small")
    if options.cpu_time:
        if set(options.parts or PARTS) & set(ELSEWHERE):
            parser.error(f"--cpu-time is for this process alone: name the parts, without {' and '.join(ELSEWHERE)}")
        vars(time)["perf_counter"] = time.process_time  # what all parts, and the engine, take the time by
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.simplefilter("ignore", FutureWarning)
    busy = os.getloadavg()[0]
    shape = options.shape or "starter"
    arguments: dict[str, tuple[Any, ...]] = {"roofline": (shape,), "grpo": (shape, options.rounds, options.length)}
    print(HEAD, flush=True)
    try:
        for part in options.parts or PARTS:
            started = time.perf_counter()
            for measurement in PARTS[part](*arguments.get(part, ())):
                print(line(measurement), flush=True)
            print(f"{part}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("stopped; the lines above are whole measurements", file=sys.stderr)
    print(
        f"\n{os.cpu_count()} cores, {torch.get_num_threads()} torch threads, load {busy:.1f} before and "
        f"{os.getloadavg()[0]:.1f} after; Python {platform.python_version()}, torch {torch.__version__}, "
        f"{torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'}, "
        f"transformers {transformers.__version__}, TRL {trl.__version__}{'; CPU seconds' if options.cpu_time else ''}"
    )


if __name__ == "__main__":
    main()
