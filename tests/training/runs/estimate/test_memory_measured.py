"""The memory estimate against the bytes that live in real steps on a CPU; `tests.benchmarks memory` has more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.memory import CONFIGURATIONS, estimate_and_peak

SHORT = {"max_completion_length": 24}


@pytest.mark.parametrize("name", ["starter, 8 at once", "starter, checkpointing"])
def test_the_estimate_is_near_the_peak_of_a_step(name: str, tmp_path: Path) -> None:
    need, peak = estimate_and_peak(CONFIGURATIONS[name] | SHORT, tmp_path / "run")
    assert need.tensors == pytest.approx(peak, rel=0.15)
