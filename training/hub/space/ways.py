"""The ways to run a Space, with the prices of an hour asleep, awake and training, and which one suits.

print("\\n".join(comparison(read_space_file(), Prices())))
"""

from __future__ import annotations

from dataclasses import dataclass

from inference.common.space_file import FREE_CPU, FREE_HARDWARE, STARTER_NAME, ZERO_GPU, SpaceFile, has_gpu
from training.hub.space.prices import PriceList, Prices

A100 = "a100-large"


@dataclass(frozen=True)
class Way:
    """A way to run a Space: its hardware, and the machine of a Job if its runs are Jobs."""

    hardware: str
    job: str | None
    """Hardware of a Job; `None` trains in the Space."""

    @property
    def title(self) -> str:
        """`cpu-basic, trains as a Job on a100-large`."""
        where = "trains in itself" if self.job is None else f"trains as a Job on {self.job}"
        return f"{self.hardware}{' (an experiment)' * (self.hardware == ZERO_GPU)}, {where}"

    def hours(self, file: SpaceFile, spaces: PriceList, jobs: PriceList) -> tuple[str, str, str]:
        """The prices of an hour asleep, awake and training, in words."""
        awake = "free" if self.hardware in FREE_HARDWARE else spaces.words(self.hardware)
        paid_day_and_night = not file.space.sleep_minutes and self.hardware not in FREE_HARDWARE
        asleep = "never (sleep_minutes is 0)" if paid_day_and_night else "free"
        if self.job is None:
            return asleep, awake, awake
        besides = "" if awake == "free" else f", and {awake} if it is awake"
        return asleep, awake, f"{jobs.words(self.job)}{besides}"


def ways(file: SpaceFile) -> list[Way]:
    """The way of space.yaml first, then the others that suit its base."""
    job = file.training.job_hardware
    chosen = Way(file.space.hardware, job if file.training.trainer == "job" else None)
    if file.model.base == STARTER_NAME:
        others = [Way(FREE_CPU, None)]
    else:
        job = job if has_gpu(job) else A100
        others = [Way(A100, None), Way(FREE_CPU, job), Way(ZERO_GPU, job)]
    return [chosen, *(way for way in others if way != chosen)]


def comparison(file: SpaceFile, prices: Prices) -> list[str]:
    """The ways with their prices as lines of text, and a recommendation."""
    spaces, jobs = prices.of_spaces(), prices.of_jobs()
    lines = ["Prices of an hour:"]
    for way in ways(file):
        asleep, awake, training = way.hours(file, spaces, jobs)
        mine = " (space.yaml)" if way == ways(file)[0] else ""
        lines.append(f"  {way.title}{mine}: asleep {asleep}; awake {awake}; training {training}.")
    return [*lines, recommendation(file)]


def recommendation(file: SpaceFile) -> str:
    """The cheapest way that does what visitors come for."""
    base = file.model.base
    if base == STARTER_NAME:
        return f"Recommended: {FREE_CPU}. The starter needs no GPU, neither to answer nor to be trained."
    return (
        f"Recommended: {FREE_CPU} with Jobs to begin with. Visitors then ask the starter, since without a GPU {base} "
        f"does not answer; runs train {base} and are billed while they last. {A100} once visitors are to ask {base} "
        "itself."
    )
