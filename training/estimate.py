"""What a run would take, before it is asked for: hours and dollars from steps that were measured on this hardware.

    estimate = estimate_run(config, store.list(), dollars_per_hour=2.5)
    estimate.hours, estimate.reason     # (0.04, 'median of 143 measured steps of run 20261122-143000-a1b2')

Where nothing like it was measured here the time is unknown, and the reason says so; nothing is guessed. No torch is
loaded by importing this.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.errors import UserError
from training.audit_projection import MeasuredSteps, read_measured_run
from training.config import RunConfig
from training.run_record import RunRecord
from training.sources import STARTER_TRAIN_ROWS

MAX_LOOKED_AT = 12
"""So many runs of the same kind, the newest first, are looked at for measured steps."""


@dataclass(frozen=True)
class Estimate:
    """What a run would take; `None` is "unknown", and `reason` says why."""

    num_steps: int | None
    completions: int | None
    """Sampled in all steps together."""
    step_seconds: float | None
    hours: float | None
    """Of training alone: loading, and the evaluation at the end, come on top."""
    dollars: float | None
    reason: str


def estimate_run(
    config: RunConfig,
    records: Sequence[RunRecord],
    dollars_per_hour: float | None = None,
    hardware: str | None = None,
) -> Estimate:
    """The run's steps times the median step of the newest run like it on this hardware.

    "Like it" is the same base, completions per step, length limit, picture size and kind of sampling: what a step's
    time depends on. `hardware` is this machine's name unless given.
    """
    num_steps, about_steps = _num_steps(config)
    seconds, reason = _measured(config, records, hardware or _this_hardware())
    hours = None if seconds is None or num_steps is None else seconds * num_steps / 3600
    return Estimate(
        num_steps=num_steps,
        completions=None if num_steps is None else num_steps * config.completions_per_step,
        step_seconds=seconds,
        hours=hours,
        dollars=None if hours is None or dollars_per_hour is None else hours * dollars_per_hour,
        reason="; ".join(part for part in (about_steps, reason) if part),
    )


def _num_steps(config: RunConfig) -> tuple[int | None, str]:
    """Optimizer steps, or why they are not known."""
    if config.max_steps:
        return config.max_steps, ""
    rows = config.data.train_rows or (STARTER_TRAIN_ROWS if config.data.is_starter else None)
    if rows is None:
        return None, "the number of steps is known once the data is read; set max_steps to know it now"
    at_most = "" if config.data.is_starter else f"at most, if there are {rows:,} train rows"
    return math.ceil(rows / config.prompts_per_step * config.num_epochs), at_most


def _measured(config: RunConfig, records: Sequence[RunRecord], hardware: str) -> tuple[float | None, str]:
    """Seconds of a step, and where they are from or why they are not known."""
    alike = [record for record in records if _kind(_stored(record)) == _kind(config)]
    elsewhere: MeasuredSteps | None = None
    for record in alike[:MAX_LOOKED_AT]:
        try:
            found = read_measured_run(record.folder)
        except UserError:  # too few steps, or its folder is gone: the next one
            continue
        if found.hardware == hardware:
            return found.seconds, f"median of {found.num_steps:,} measured steps of run {record.id}"
        elsewhere = elsewhere or found
    if elsewhere is not None:
        return None, f"the time is unknown: such a run was measured on {elsewhere.hardware}, and this is {hardware}"
    least = _completions_alone(config, hardware)
    unknown = (
        "the time is unknown: no run with this base, this many completions in a step and this length limit was "
        "measured here; a run of a dozen steps measures it"
    )
    return None, f"{unknown}. {least}" if least else unknown


def _completions_alone(config: RunConfig, hardware: str) -> str:
    """What the audit that the curriculum is from says of the completions, if it was made on this hardware."""
    if config.curriculum is None:
        return ""
    try:
        rollouts = json.loads(Path(config.curriculum).expanduser().read_text(encoding="utf-8"))["rollouts"]
        if rollouts["hardware"] != hardware:
            return ""
        seconds = config.completions_per_step / float(rollouts["completions_per_second"])
    except (OSError, ValueError, LookupError, TypeError, ZeroDivisionError):
        return ""  # the run itself says what is wrong with it
    return f"By the audit, a step's completions alone take {seconds:.2f} s"


def _stored(record: RunRecord) -> RunConfig | None:
    try:
        return record.run_config
    except ValueError:  # of another version
        return None


def _kind(config: RunConfig | None) -> Any:
    """What the time of a step depends on."""
    if config is None:
        return None
    return (
        config.base,
        config.completions_per_step,
        config.max_completion_length,
        config.data.dataset,
        config.data.max_pixels,
        config.resample_rounds,
        config.skip_zero_signal,
        config.vllm,
        config.precision,
        config.gradient_checkpointing,
    )


def _this_hardware() -> str:
    from training.space.hardware import hardware_name  # it loads torch

    return hardware_name()
