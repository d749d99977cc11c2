"""What skipping groups without a signal is worth: GRPO steps with real rewards, with and without it, in turns.

The starter is trained on from its own adapter, where most groups are all right or all wrong, as late in a run. The
steps of both sides have the same rows and seeds; what they learn meanwhile is the same too.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from transformers import PrinterCallback

from inference.common.settings import STARTER
from tests.benchmarks.table import Measurement, median_ratio
from training.config.run_config import load_config
from training.data.dataset import load_rows
from training.grpo.trainer import build_trainer
from training.runs.folder import RunFolder

ROUNDS = 3
"""In each of them both sides take a turn."""
STEPS = 6
WARM_UP = 1
"""Of them, not on the clock."""


def measure() -> Iterator[Measurement]:
    """One line: completions a second with skipping, and how much faster that is, step by step."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    trained: list[float] = []
    with tempfile.TemporaryDirectory() as home:
        for number in range(ROUNDS):
            for skip in (True, False):
                history = _run(Path(home), skip, number)[WARM_UP:]
                seconds[skip] += [row["step_time"] for row in history]
                trained += [row["frac_rows_trained"] for row in history if skip]
    times = median_ratio(seconds[False], seconds[True])
    note = f"real rewards, {statistics.mean(trained):.0%} of completions trained on; {times:.2f} times as fast as all"
    yield Measurement("GRPO, groups skipped", f"{64 / statistics.median(seconds[True]):.1f} completions/s", "", note)


def _run(home: Path, skip: bool, number: int) -> list[dict[str, float]]:
    values = {"start_adapter": str(STARTER / "adapter"), "max_steps": STEPS, "warmup_steps": 0, "report_to": ()}
    data = {"train_rows": 1200, "test_rows": 4}
    values |= {"skip_zero_signal": skip, "save_steps": 1000, "seed": number}
    config = load_config("starter", values | {"data": data})
    rows = load_rows(config.data, home=home).train
    trainer = build_trainer(config, rows, RunFolder.create(home / f"{number}-{skip}", config), [])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return [row for row in trainer.state.log_history if "step_time" in row]
