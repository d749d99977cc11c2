"""Decoding beside what the machine allows: the weights read once a step, or the arithmetic, whichever takes longer.

Both are measured here: bandwidth by summing as many bytes as the language model's weights have (so a model that fits in
a cache is measured against the cache), arithmetic by a large matrix product in the model's own type.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from inference.engine.engine import Engine, Request
from tests.benchmarks.shapes import build
from tests.benchmarks.table import Measurement
from tests.support.samples import problems

ROWS = (1, 8, 64)
ROWS_ON_CPU = {"starter": ROWS, "qwen2.5-vl-3b": (1, 8), "qwen2.5-vl-small": ROWS}
PROMPTS = {"starter": 64, "qwen2.5-vl-3b": 1, "qwen2.5-vl-small": 1}
"""Different ones at most, on a CPU: it takes half a minute to read one with 3B. What rows of one prompt share is read
once a step there, which the roofline counts for every row: with 3B it is too low by at most 3 % for that."""
STEPS = {"starter": 64, "qwen2.5-vl-3b": 6, "qwen2.5-vl-small": 16}
REPEATS = {"starter": 3, "qwen2.5-vl-3b": 1, "qwen2.5-vl-small": 1}
GOALS = {("qwen2.5-vl-3b", 64): "40 % of the roofline on an H200"}
"""By shape and rows."""


@dataclass(frozen=True)
class Machine:
    """What it can do at most."""

    bandwidth: float
    """Bytes read a second."""
    arithmetic: float
    """Floating-point operations a second."""


def measure(shape: str = "starter") -> Iterator[Measurement]:
    """Decoding steps of some numbers of rows, on random weights unless it is the starter."""
    engine = build(shape)
    model = engine._model
    config = model.config.get_text_config()
    linears = [m.weight for m in model.get_decoder().modules() if isinstance(m, torch.nn.Linear)]
    linears.append(model.get_output_embeddings().weight)
    num_weights = sum(weight.numel() for weight in linears)
    size = linears[0].element_size()
    machine = _machine(engine.device, linears[0].dtype, num_weights * size)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    for num_rows in ROWS_ON_CPU[shape] if engine.device.type == "cpu" else ROWS:
        seconds, length = _step_seconds(engine, num_rows, shape)
        kept = 2 * config.num_hidden_layers * config.num_key_value_heads * head  # values of a token in the cache
        read = size * (num_weights + num_rows * length * kept)
        scored = 4 * config.num_hidden_layers * config.num_attention_heads * head * length
        floor = max(read / machine.bandwidth, num_rows * (2 * num_weights + scored) / machine.arithmetic)
        note = (
            f"{1000 * seconds:.3g} ms a step, {100 * floor / seconds:.0f} % of the roofline "
            f"({machine.bandwidth / 1e9:.3g} GB/s, {machine.arithmetic / 1e9:.3g} GFLOP/s; "
            f"{num_weights / 1e6:.4g} M weights, {length:.0f} tokens a row)"
        )
        if engine.device.type == "cuda":
            note += f"; {torch.cuda.max_memory_allocated() / 1e9:.0f} GB at most; {torch.cuda.get_device_name()}"
        title = f"{shape}, decode, {num_rows} {'row' if num_rows == 1 else 'rows'}"
        yield Measurement(title, f"{num_rows / seconds:.4g} tokens/s", GOALS.get((shape, num_rows), ""), note)


def _step_seconds(engine: Engine, num_rows: int, shape: str) -> tuple[float, float]:
    """The median step, and the mean number of tokens that a row had in it."""
    table = "starter" if engine.device.type == "cuda" else shape  # a GPU is quick with all of them
    steps = STEPS[table]
    rows = [
        Request(problem.image.convert("RGB"), problem.problem, max_new_tokens=steps, min_new_tokens=steps)
        for problem in itertools.islice(itertools.cycle(problems(PROMPTS[table], seed=23)), num_rows)
    ]
    taken: list[float] = []
    for _ in range(REPEATS[table]):
        decode = engine.stream(rows)
        next(decode)  # the prompts
        for _ in range(steps - 1):
            started = time.perf_counter()
            next(decode)
            taken.append(time.perf_counter() - started)
    prompts = [len(sequence.prompt_ids) for sequence in decode.group.sequences]
    return statistics.median(taken), sum(prompts) / num_rows + steps / 2


def _machine(device: torch.device, dtype: torch.dtype, num_bytes: int) -> Machine:
    numbers = torch.ones(max(num_bytes, 2**20) // 4, device=device)
    side = 1024 if device.type == "cpu" else 8192
    matrix = torch.ones(side, side, device=device, dtype=dtype)
    reading = _best(lambda: numbers.sum(), device)
    multiplying = _best(lambda: matrix @ matrix, device)
    return Machine(numbers.nbytes / reading, 2 * side**3 / multiplying)


def _best(action: Callable[[], Any], device: torch.device) -> float:
    """The shortest of ten times, in seconds."""
    times = []
    for _ in range(10):
        started = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times)
