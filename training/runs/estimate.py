"""Estimates of a run before it is submitted: hours and dollars from steps that were measured on this hardware.

    estimate = estimate_run(config, store.list(), dollars_per_hour=2.5)
    estimate.hours, estimate.reason     # (0.04, 'median of 143 measured steps of run 20261122-143000-a1b2')

Where no such run was measured here the time is unknown, and the reason says so; nothing is guessed. Importing this does
not load torch.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.common.errors import UserError
from inference.common.settings import STARTER, STARTER_NAME, base_source
from training.config.run_config import RunConfig
from training.data.open_source import STARTER_TRAIN_ROWS
from training.runs.record import RunRecord

MAX_RUNS_READ = 12
"""Runs of the same kind, the newest first, that are read for measured steps."""
WARM_UP_STEPS = 2
"""The first steps of a run, which are slower (compilation, caches) and not measured."""
MIN_STEPS = 3
"""Measured steps that are needed at least."""


@dataclass(frozen=True)
class RunEstimate:
    """The estimate of a run; `None` means unknown, and `reason` tells why."""

    num_steps: int | None
    completions: int | None
    """Sampled in all steps together."""
    step_seconds: float | None
    hours: float | None
    """Of training alone, without loading and the evaluation at the end."""
    dollars: float | None
    reason: str


def estimate_run(
    config: RunConfig, records: Sequence[RunRecord], dollars_per_hour: float | None = None, hardware: str | None = None
) -> RunEstimate:
    """The run's steps times the median step of the newest run like it on this hardware.

    A run is like it with the same base, completions per step, length limit, picture size and kind of sampling, on which
    a step's time depends. `hardware` is this machine's name unless given.
    """
    num_steps, about_steps = _num_steps(config)
    if hardware is None:
        from training.runs.provenance import hardware_name  # it loads torch

        hardware = hardware_name()
    seconds, reason = _measured(config, records, hardware)
    hours = None if seconds is None or num_steps is None else seconds * num_steps / 3600
    return RunEstimate(
        num_steps=num_steps,
        completions=None if num_steps is None else num_steps * config.completions_per_step,
        step_seconds=seconds,
        hours=hours,
        dollars=None if hours is None or dollars_per_hour is None else hours * dollars_per_hour,
        reason="; ".join(part for part in (about_steps, reason) if part),
    )


def _num_steps(config: RunConfig) -> tuple[int | None, str]:
    """Optimizer steps, or the reason why they are unknown."""
    if config.max_steps:
        return config.max_steps, ""
    rows = config.data.train_rows or (STARTER_TRAIN_ROWS if config.data.is_starter else None)
    if rows is None:
        return None, "the number of steps is known once the data is read; set max_steps to know it now"
    at_most = "" if config.data.is_starter else f"at most, if there are {rows:,} train rows"
    return math.ceil(rows / config.prompts_per_step * config.num_epochs), at_most


def _measured(config: RunConfig, records: Sequence[RunRecord], hardware: str) -> tuple[float | None, str]:
    """Seconds of a step, and their source or the reason why they are unknown."""
    alike = [record for record in records if _kind(_stored(record)) == _kind(config)]
    elsewhere: MeasuredSteps | None = None
    for record in alike[:MAX_RUNS_READ]:
        try:
            measured = read_measured_run(record.folder)
        except UserError:  # too few steps, or its folder is gone: the next one
            continue
        if measured.hardware == hardware:
            return measured.seconds, f"median of {measured.num_steps:,} measured steps of run {record.id}"
        elsewhere = elsewhere or measured
    if elsewhere is not None:
        return None, f"the time is unknown: such a run was measured on {elsewhere.hardware}, and this is {hardware}"
    least = _completions_alone(config, hardware)
    unknown = (
        "the time is unknown: no run with this base, this many completions in a step and this length limit was "
        "measured here; a run of a dozen steps measures it"
    )
    return None, f"{unknown}. {least}" if least else unknown


def _completions_alone(config: RunConfig, hardware: str) -> str:
    """The time of a step's completions by the curriculum's audit, in words, if it was made on this hardware."""
    if config.curriculum is None:
        return ""
    try:
        rollouts = json.loads(Path(config.curriculum).expanduser().read_text(encoding="utf-8"))["rollouts"]
        if rollouts["hardware"] != hardware:
            return ""
        seconds = config.completions_per_step / float(rollouts["completions_per_second"])
    except (OSError, ValueError, LookupError, TypeError, ZeroDivisionError):
        return ""  # the run itself reports what is wrong with it
    return f"By the audit, a step's completions alone take {seconds:.2f} s"


def _stored(record: RunRecord) -> RunConfig | None:
    try:
        return record.run_config
    except ValueError:  # of another version
        return None


def _kind(config: RunConfig | None) -> tuple[object, ...] | None:
    """The settings that the time of a step depends on."""
    if config is None:
        return None
    step = config.completions_per_step, config.max_completion_length, config.resample_rounds, config.skip_zero_signal
    model = config.base, config.precision, config.gradient_checkpointing, config.share_prompts
    return *step, *model, config.data.dataset, config.data.max_pixels, json.dumps(config.trl, sort_keys=True)


@dataclass(frozen=True)
class StepConditions:
    """The conditions of a step's time, apart from the hardware."""

    base: str
    """`starter`, an absolute path, or a Hub id."""
    completions: int
    max_completion_length: int
    """Tokens of a completion at most."""
    max_pixels: int | None
    """Pixels of a picture at most; `None` where pictures are not scaled."""
    gradient_checkpointing: bool
    num_gpus: int


def plain_base(base: str) -> str:
    """The canonical name of a base: `starter`, an absolute path, or a Hub id."""
    folder = Path(base_source(base)).expanduser()
    if not folder.is_dir():
        return base
    return STARTER_NAME if folder.resolve() == STARTER.resolve() else str(folder.resolve())


@dataclass(frozen=True)
class MeasuredSteps:
    """The steps of an earlier run."""

    seconds: float
    """The median of a step, without the first ones."""
    num_steps: int
    step: StepConditions
    hardware: str


def read_measured_run(folder: Path) -> MeasuredSteps:
    """The steps of a run's last start: times in `metrics.jsonl`, conditions in `config.json` and `versions.json`."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        start = json.loads((folder / "versions.json").read_text(encoding="utf-8"))[-1]
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
        # An earlier start may have had other hardware or settings.
        steps = [row.get("step_time") for row in rows if row.get("step", 0) > start.get("step", 0)]
        step = StepConditions(
            plain_base(config["base"]),
            int(config["prompts_per_step"]) * int(config["num_generations"]),
            int(config["max_completion_length"]),
            None if (most := config["data"]["max_pixels"]) is None else int(most),
            bool(config["gradient_checkpointing"]),
            int(start["num_gpus"]),
        )
        hardware = str(start["hardware"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"--measured-run is {folder}, which is no run folder with config.json, versions.json and metrics.jsonl "
            f"({type(error).__name__}: {error}). Name the folder of a run."
        ) from error
    seconds = [float(step) for step in steps if isinstance(step, int | float)][WARM_UP_STEPS:]
    if len(seconds) < MIN_STEPS:
        raise UserError(
            f"--measured-run is {folder}, which has {len(seconds)} timed steps after the first {WARM_UP_STEPS} of its "
            f"last start; at least {MIN_STEPS} are needed. Let it run a little longer."
        )
    return MeasuredSteps(statistics.median(seconds), len(seconds), step, hardware)
