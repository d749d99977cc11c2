"""The reward lab: a record of 9,600 completions read, weighed anew and compared; and graded anew."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.table import Measurement
from tests.support.recorded_run import record_rollouts
from training.config.run_config import load_config
from training.learn.grades import GradeStore
from training.learn.regrading import grade_missing, lab_config, needed
from training.learn.reward_lab import compare, read_rollouts, scored
from training.runs.folder import RunFolder

STEPS = 150
"""Of 64 completions each."""


def measure() -> Iterator[Measurement]:
    """Both of the lab's lines, on a record with three reward functions."""
    rewards = {"format_reward": 0.5, "accuracy_reward": 1.0, "length_reward": 0.3}
    config = load_config("starter", {"rewards": rewards})
    with tempfile.TemporaryDirectory() as home:
        folder = RunFolder.create(Path(home) / "run", config)
        record_rollouts(folder, config, STEPS)
        store = GradeStore(Path(home))
        started = time.perf_counter()
        recorded = read_rollouts(folder.path, config)
        other = lab_config(config, {name: 1.0 for name in rewards}, 0.0, config.max_completion_length)
        needs = needed(recorded, config, other, store)
        compare(recorded, scored(recorded, config, recorded.rewards), scored(recorded, other, needs.rewards))
        seconds, num = time.perf_counter() - started, recorded.num_completions
        note = "read from rollouts.jsonl, weighed before and after, compared"
        yield Measurement(f"re-weighting {num:,} completions", f"{seconds:.2f} s", "at most 3 s", note)
        other = lab_config(config, rewards, 0.05, config.max_completion_length)
        needs = needed(recorded, config, other, store)
        started = time.perf_counter()
        grade_missing(folder.path, config, other, needs, store, lambda _: None)
        speed = needs.num_missing / (time.perf_counter() - started)
        note = "another tolerance, two functions; numbers, which need no mathematics"
        yield Measurement("regrading recorded completions", f"{speed:,.0f} grades/s", "", note)
