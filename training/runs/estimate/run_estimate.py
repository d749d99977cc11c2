"""The estimate of a run before it is paid for: steps, hours, dollars and memory, each with its basis.

    found = estimate_run(config, store.list(), machine("a100-large"))
    found.hours_low, found.hours_high, found.basis      # 3.1, 12.4, 'arithmetic, within a factor of 2'

Times are those of the newest run like it that was measured on this hardware; else those of one elsewhere, carried over
by arithmetic; else arithmetic alone (`training.runs.estimate.step_time`). Loading, the choice of the checkpoint, the
evaluation and the comparison are counted. Nothing here waits for the network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inference.common.errors import UserError
from inference.common.files import Json
from training.config.run_config import RunConfig
from training.runs.estimate.hardware import Machine, machine, machine_here
from training.runs.estimate.measured import DOCTOR, MeasuredSteps, evaluated_completions, runs_like
from training.runs.estimate.memory import GB, Chosen, bytes_per_number, choose_batch, longest_prompt, picture_tokens
from training.runs.estimate.rows import count_rows
from training.runs.estimate.shapes import ModelSizes, sizes_of
from training.runs.estimate.step_time import UNCERTAINTY, StepWork, step_seconds
from training.runs.record import RunRecord

MEASURED_SHARE, FEW_STEPS_SHARE = 0.1, 0.3
"""The uncertainty of times that were measured here: of runs, and of the doctor's few steps."""
CARRIED_FACTOR = 1.5
"""The factor by which times that were measured elsewhere may be off."""
USUAL_PICTURE_TOKENS, USUAL_TEXT_TOKENS = 512, 150
"""Tokens of a usual prompt, whose picture and text may be much larger."""
MEAN_SHARE = 0.5
"""Mean length of a completion, as a share of the limit."""
EVALUATED_AT_ONCE = 64
START_SECONDS, BYTES_A_SECOND = 12.0, 0.7e9
"""Time to import the libraries, and the speed at which a base is read from disk."""
JOB_SECONDS = 300.0
"""Seconds that a Job needs for its image, the requirements and the base, before the trainer begins."""
SMALL_PARAMETERS = 5e8
"""A base of at most this size can be trained on a processor."""


@dataclass(frozen=True)
class RunEstimate:
    """The estimate of a run on a machine."""

    machine: Machine
    num_steps: int
    completions: int
    """Sampled in all steps together."""
    step_seconds: float
    loading_seconds: float
    after_seconds: float
    """The choice of the checkpoint, the evaluation and the comparison."""
    factor: float
    """The time may be this many times longer, or shorter."""
    dollars_per_hour: float | None
    """Of all its machines together."""
    memory: Chosen
    basis: str
    notes: tuple[str, ...] = ()
    """Sentences on what is assumed."""
    obstacle: str = ""
    """A sentence for a machine that cannot run it, with the remedy."""

    @property
    def training_seconds(self) -> float:
        return self.num_steps * self.step_seconds

    @property
    def hours(self) -> float:
        """With loading, evaluation and comparison."""
        return (self.loading_seconds + self.training_seconds + self.after_seconds) / 3600

    @property
    def hours_low(self) -> float:
        return self.hours / self.factor

    @property
    def hours_high(self) -> float:
        return self.hours * self.factor

    @property
    def dollars(self) -> float | None:
        """`None` where the machine has no known price."""
        return None if self.dollars_per_hour is None else self.hours * self.dollars_per_hour

    def to_json(self) -> Json:
        """Plain data."""
        batch = self.memory.batch
        return {
            "hardware": self.machine.name,
            "steps": self.num_steps,
            "hours": round(self.hours, 4),
            "hours_low": round(self.hours_low, 4),
            "hours_high": round(self.hours_high, 4),
            "dollars": None if self.dollars is None else round(self.dollars, 4),
            "peak_gb": round(self.memory.need.total_gb, 2),
            "fits": self.memory.fits,
            "basis": self.basis,
            "step_seconds": round(self.step_seconds, 4),
            "loading_seconds": round(self.loading_seconds, 1),
            "training_seconds": round(self.training_seconds, 1),
            "evaluation_seconds": round(self.after_seconds, 1),
            "micro_batch_size": batch.micro_batch_size,
            "gradient_checkpointing": batch.gradient_checkpointing,
            "notes": list(self.notes),
            "obstacle": self.obstacle,
        }


def estimate_run(
    config: RunConfig,
    records: Sequence[RunRecord] = (),
    on: Machine | None = None,
    *,
    doctor_folders: Sequence[Path] = (),
    sizes: ModelSizes | None = None,
    train_rows: int | None = None,
    dollars_per_hour: float | None = None,
    is_job: bool = False,
) -> RunEstimate:
    """The estimate of a run on a machine, by default this one; with `num_nodes` on so many of them.

    `dollars_per_hour` is the price of all together, by default the listed one.
    Raises `UserError` for a base whose sizes, or a dataset whose rows, cannot be told.
    """
    on = on or machine_here()
    sizes = sizes or sizes_of(config.base, config.base_revision)
    num_steps, notes = _num_steps(config, train_rows)
    memory = _chosen_batch(config, sizes, on)
    step, load, after = _by_arithmetic(config, sizes, on, memory, num_steps)
    basis, factor = f"arithmetic, within a factor of {UNCERTAINTY:g}", UNCERTAINTY
    if (found := _measured(config, records, doctor_folders, on)) is not None:
        name, measured = found
        share = FEW_STEPS_SHARE if name == DOCTOR else MEASURED_SHARE
        basis = f"measured here on {measured.num_steps:,} steps of {name}, ±{100 * share:.0f} %"
        ratio, factor = 1.0, 1 + share
        if measured.peak_gb is not None and measured.hardware == on.name:
            notes = (*notes, f"The doctor measured a peak of {measured.peak_gb:.1f} GB here")
        if measured.hardware != on.name:
            there = machine(measured.hardware)
            other = _by_arithmetic(config, sizes, there, _chosen_batch(config, sizes, there), num_steps)
            ratio = step / other[0]
            factor = CARRIED_FACTOR
            basis = (
                f"measured on {measured.num_steps:,} steps of {name} on {measured.hardware}, carried over to "
                f"{on.name} by arithmetic, within a factor of {factor:g}"
            )
        step = measured.seconds * ratio
        if measured.load_seconds is not None and measured.rest_seconds is not None and measured.evaluated:
            load = measured.load_seconds
            after = measured.rest_seconds * ratio * evaluated_completions(config, num_steps) / measured.evaluated
    if dollars_per_hour is None and on.dollars_per_hour is not None:
        dollars_per_hour = on.dollars_per_hour * config.num_nodes
    return RunEstimate(
        machine=on,
        num_steps=num_steps,
        completions=num_steps * config.completions_per_step,
        step_seconds=step,
        loading_seconds=load + (JOB_SECONDS if is_job else 0.0),
        after_seconds=after,
        factor=factor,
        dollars_per_hour=dollars_per_hour,
        memory=memory,
        basis=basis,
        notes=notes,
        obstacle=_obstacle(config, sizes, on, memory),
    )


def _num_steps(config: RunConfig, train_rows: int | None) -> tuple[int, tuple[str, ...]]:
    """Optimizer steps, and sentences on what is assumed of them."""
    if train_rows is None:
        rows = count_rows(config.data)  # also where max_steps is given: a dataset that is not there is noticed
        train_rows, words = rows.num, rows.words
    else:
        words = ""
    if config.max_steps:
        return config.max_steps, ()
    steps = math.ceil(train_rows / config.prompts_per_step * config.num_epochs)
    return max(1, steps), (words,) if words else ()


def _measured(
    config: RunConfig, records: Sequence[RunRecord], doctor_folders: Sequence[Path], on: Machine
) -> tuple[str, MeasuredSteps] | None:
    """The newest run like it on this hardware, else the newest on another whose figures are known."""
    elsewhere = None
    for name, measured in runs_like(config, records, doctor_folders):
        if measured.hardware == on.name:
            return name, measured
        try:
            there = machine(measured.hardware)
        except UserError:  # a card that is not in the list
            continue
        if not on.card.is_cpu and (there.card.name, there.num_cards) == (on.card.name, on.num_cards):
            return name, replace(measured, hardware=on.name)
        elsewhere = elsewhere or (name, measured)
    return elsewhere


def _num_cards(config: RunConfig, on: Machine) -> int:
    """Cards, or processors, that share a step."""
    cards = min(config.num_processes or on.num_cards, on.num_cards)
    return max(1, cards) * config.num_nodes


def _chosen_batch(config: RunConfig, sizes: ModelSizes, on: Machine) -> Chosen:
    """The micro-batch of one process; those of a processor share its memory."""
    num_local = max(1, config.num_processes or on.num_cards)
    memory = on.card.memory_gb * GB / (num_local if on.card.is_cpu else 1)
    return choose_batch(config, sizes, memory, not on.card.is_cpu, num_local * config.num_nodes)


def _by_arithmetic(
    config: RunConfig, sizes: ModelSizes, on: Machine, memory: Chosen, num_steps: int
) -> tuple[float, float, float]:
    """Seconds of a step, of loading, and of all after the last step."""
    parts = _num_cards(config, on)
    width = bytes_per_number(config, not on.card.is_cpu)
    picture = min(picture_tokens(config, sizes), USUAL_PICTURE_TOKENS)
    prompt = min(picture + USUAL_TEXT_TOKENS, longest_prompt(config, sizes))

    def work(prompts: float, completions: float, limit: int) -> StepWork:
        return StepWork(
            num_prompts=math.ceil(prompts),
            num_completions=math.ceil(completions),
            prompt_tokens=prompt,
            image_tokens=picture,
            completion_tokens=MEAN_SHARE * limit,
            longest_completion=limit,
            shares_prompts=config.share_prompts and not memory.batch.gradient_checkpointing,
            gradient_checkpointing=memory.batch.gradient_checkpointing,
            bytes_per_number=width,
        )

    share = work(config.prompts_per_step / parts, config.completions_per_step / parts, config.max_completion_length)
    step = step_seconds(share, sizes, on.card).total * (1 + config.resample_rounds)
    load = START_SECONDS + sizes.parameters * width / BYTES_A_SECOND
    evaluated = evaluated_completions(config, num_steps)
    if not evaluated:
        return step, load, 0.0
    batch = work(EVALUATED_AT_ONCE, EVALUATED_AT_ONCE, max(256, config.max_completion_length))
    seconds = step_seconds(batch, sizes, on.card).sampling * evaluated / EVALUATED_AT_ONCE
    return step, load, load + seconds


def _obstacle(config: RunConfig, sizes: ModelSizes, on: Machine, memory: Chosen) -> str:
    """A sentence for a machine on which the run is too slow or too large."""
    if on.card.is_cpu and sizes.parameters > SMALL_PARAMETERS:
        return (
            f"{on.name} has no GPU, and {config.base} has {sizes.parameters / 1e9:.1f} billion parameters: use a Job "
            "(training.trainer: job in space.yaml), or a machine with a card"
        )
    if not memory.fits:
        return (
            f"By its sizes it needs about {memory.need.total_gb:.0f} GB of the {memory.free / GB:.0f} GB of "
            f"{on.card.name}, even with micro-batches of {memory.batch.micro_batch_size}: lower max_completion_length "
            "or data.max_pixels, leave micro_batch_size and gradient_checkpointing on auto, or choose another machine"
        )
    return ""
