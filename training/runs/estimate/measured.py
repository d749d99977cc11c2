"""Measured times of runs: their steps, and what they took besides, from their folders.

    for name, measured in runs_like(config, store.list(), doctor_folders): ...     # here or elsewhere, newest first

A run is like another with the same base, completions per step, length limit, picture size and kind of sampling, on
which a step's time depends. The doctor's steps (`training.doctor`) are records too, and so is the
shipped starter's run. Importing this does not load torch.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inference.common.errors import UserError
from inference.common.files import Json, read_json
from inference.common.settings import STARTER, STARTER_NAME, base_source
from training.config.run_config import RunConfig
from training.runs.folder import RunFolder
from training.runs.record import RunRecord

MAX_RUNS_READ = 12
"""Runs of the same kind, the newest first, that are read for measured steps."""
WARM_UP_STEPS = 2
"""The first steps of a run, which are slower (compilation, caches) and not measured."""
MIN_STEPS = 3
"""Measured steps that are needed at least."""
NUM_CONDITIONS = {"main": 5, "all": 17}
"""Conditions of an evaluation (`training.evaluation.conditions`, which is above this room)."""
DOCTOR = "the doctor"
"""The name of its steps in the basis of an estimate."""
SHIPPED = Path(__file__).with_name("starter.json")
"""The record of the shipped starter's run."""


def runs_like(
    config: RunConfig, records: Sequence[RunRecord], doctor_folders: Sequence[Path] = ()
) -> Iterator[tuple[str, MeasuredSteps]]:
    """Measured runs of the same kind with their names, the newest first; then steps in the doctor's reports; last the
    shipped starter's, if it is one."""
    kind = _kind(config)
    for record in [record for record in records if _kind(_stored(record)) == kind][:MAX_RUNS_READ]:
        try:
            yield f"run {record.id}", read_measured_run(record.folder)
        except UserError:  # too few steps, or its folder is gone: the next one
            continue
    base, pixels = plain_base(config.base), config.data.max_pixels
    step = StepConditions(base, config.completions_per_step, config.max_completion_length, pixels, False, 0)
    for path in sorted(path for folder in doctor_folders for path in folder.glob("*.json")):
        for measured in (read_json(path) or {}).get("steps", ()):
            if kind == _kind(_stored_settings(measured)):
                yield DOCTOR, MeasuredSteps(step=step, **measured["measured"])
    shipped = json.loads(SHIPPED.read_text(encoding="utf-8"))
    if kind == _kind(RunConfig(**shipped["settings"])):
        yield "the shipped starter's run", MeasuredSteps(step=replace(step, max_pixels=None), **shipped["measured"])


def _stored_settings(measured: Json) -> RunConfig | None:
    try:
        return RunConfig.model_validate(measured["settings"])
    except (ValueError, KeyError, TypeError):  # of another version
        return None


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
    shared = config.num_processes, config.num_nodes, config.shard_weights
    return *step, *model, *shared, config.data.dataset, config.data.max_pixels, json.dumps(config.trl, sort_keys=True)


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
    load_seconds: float | None = None
    """From the beginning of its process to its first step; `None` where that is not known."""
    rest_seconds: float | None = None
    """After its last step: choice of the checkpoint, evaluation and comparison; `None` where that is not known."""
    evaluated: int = 0
    """Completions of those stages (`evaluated_completions`)."""
    peak_gb: float | None = None
    """Of a card's memory, where it was measured."""


def evaluated_completions(config: RunConfig, num_steps: int) -> int:
    """Completions after the last step: of the choice of a checkpoint, the evaluation, and the comparison of two
    adapters on the validation rows."""
    validation = config.data.validation_rows or (config.eval_rows if config.data.is_starter else 0)
    candidates = math.ceil(num_steps / config.save_steps) if config.choose_checkpoint else 0
    compared = 2 * validation if config.eval_rows else 0
    return config.eval_rows * NUM_CONDITIONS[config.eval_conditions] + compared + candidates * validation


def read_measured_run(folder: Path) -> MeasuredSteps:
    """The steps of a run's last start: times in `metrics.jsonl`, conditions in `config.json` and `versions.json`."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        run = RunFolder(folder)
        start = run.starts()[-1]
        # An earlier start may have had other hardware or settings.
        steps = [row.get("step_time") for row in run.history() if row["step"] > start.get("step", 0)]
        step = StepConditions(
            plain_base(config["base"]),
            int(config["prompts_per_step"]) * int(config["num_generations"]),
            int(config["max_completion_length"]),
            None if (most := config["data"]["max_pixels"]) is None else int(most),
            start.get("gradient_checkpointing", config["gradient_checkpointing"]) is True,
            int(start["num_gpus"]),
        )
        hardware = str(start["hardware"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{folder} is no run folder with config.json, versions.json and metrics.jsonl "
            f"({type(error).__name__}: {error}). Name the folder of a run."
        ) from error
    seconds = [float(step) for step in steps if isinstance(step, int | float)][WARM_UP_STEPS:]
    if len(seconds) < MIN_STEPS:
        raise UserError(
            f"{folder} has {len(seconds)} timed steps after the first {WARM_UP_STEPS} of its "
            f"last start; at least {MIN_STEPS} are needed. Let it run a little longer."
        )
    return MeasuredSteps(statistics.median(seconds), len(seconds), step, hardware, *_around(folder, steps, config))


def _around(folder: Path, steps: Sequence[object], config: Json) -> tuple[float | None, float | None, int]:
    """Seconds before the first and after the last step of a run that succeeded at its first start, and the completions
    of its evaluation."""
    hours, status = read_json(folder / "hours.json") or {}, read_json(folder / "status.json") or {}
    starts, load = hours.get("starts"), hours.get("load_seconds", "unknown")
    if status.get("status") != "succeeded" or not isinstance(starts, list) or len(starts) != 1 or None in steps:
        return None, None, 0
    try:
        rest = float(starts[0]["seconds"]) - float(load) - float(hours["trained_seconds"])
        evaluated = evaluated_completions(RunConfig.model_validate(config), len(steps))
        return float(load), max(0.0, rest), evaluated
    except (LookupError, TypeError, ValueError):  # edited by hand, or of an earlier version
        return None, None, 0
