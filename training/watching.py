"""What is to be seen of a run while it trains: read from its folder, only what is new, in bounded memory.

    watch = RunWatch(record.folder)
    snapshot = watch.look(store.get(record.id))     # again and again, from one thread at a time
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.diagnosis import Finding
from training.run_record import RunRecord

CURVES = {
    "reward": "reward",
    "format": "rewards/format_reward/mean",
    "accuracy": "rewards/accuracy_reward/mean",
    "completion_tokens": "completions/mean_length",
    "zero_std_share": "frac_reward_zero_std",
    "loss": "loss",
}
"""Names of the curves and of the columns of `metrics.jsonl` that they are drawn from."""


@dataclass(frozen=True)
class Snapshot:
    """A run at a moment."""

    status: str
    reason: str
    step: int
    max_steps: int | None
    """`None` before the number of steps is known."""
    seconds_left: float | None
    """Of training, by the newest steps; `None` where nothing is known."""
    hours: float | None
    cost_dollars: float | None
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """For each name of `CURVES` that has values: points (step, value), at most `MAX_POINTS`; means where thinned."""
    findings: list[Finding] = field(default_factory=list)
    """What is going wrong, in words."""
    log: str = ""
    """The tail of the process's output, plain text."""
    groups: list[dict[str, Any]] = field(default_factory=list)
    """The newest rollout groups as in `rollouts.jsonl`, the newest last; `image` is the picture's `Path` or `None`."""


class RunWatch:
    """Follows one run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def look(self, record: RunRecord | None = None) -> Snapshot:
        """How the run stands now; without its record, what the folder alone says."""
        raise NotImplementedError
