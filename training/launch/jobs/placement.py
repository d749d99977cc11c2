"""Where a run would be executed, what that machine costs and whether it has the memory: said before the button.

place_words(config, settings)       # ['It runs as a Hugging Face Job on a100-large ($2.50 an hour) …']
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from inference.common.background import CachedAnswers
from inference.common.errors import UserError
from inference.common.settings import Settings, base_source
from training.config.run_config import RunConfig
from training.hub.space.prices import RETRY_SECONDS, PriceList, Prices
from training.launch.jobs.spec import hardware_of_jobs
from training.launch.memory import GB, Card, MemoryNeed, ModelSizes, card_here, memory_need, share_card, sizes_of
from training.runs.record import RunRecord

_prices = Prices()


def place_words(
    config: RunConfig,
    settings: Settings,
    prices: Callable[[], PriceList] = _prices.of_jobs,
    card: Callable[[], Card | None] = card_here,
) -> list[str]:
    """Sentences for whoever is about to start the run; none for a process on a machine without a card."""
    if settings.training.trainer == "job":
        return _job_words(config, settings.training.job_hardware, prices())
    here = card()
    if here is None:
        return []
    try:
        return [share_card(_need(config), here).words]
    except UserError as error:
        return [f"Whether it fits beside the model that answers is not known: {error}."]


def _job_words(config: RunConfig, flavor: str, prices: PriceList) -> list[str]:
    words = [
        f"It runs as a Hugging Face Job on {flavor} ({prices.words(flavor)}), whether this Space is awake or not; the "
        "Job loads for some minutes first."
    ]
    machine = prices.get(flavor)
    if machine is None or not machine.num_gpus:
        return words
    try:
        need, has = _need(config).total_gb, machine.gpu_gb / machine.num_gpus
    except UserError:
        return words
    words.append(f"By its sizes it needs about {need:.0f} GB of a card's {has:.0f}.")
    if need > has:
        fitting = [found.words for found in prices.that_fit(need)][:3]
        words.append(f"That is not enough; it would fit on {', '.join(fitting) or 'no machine that the Hub offers'}.")
    return words


def price_per_hour(settings: Settings, prices: Callable[[], PriceList] = _prices.of_jobs) -> float | None:
    """What an hour of a Job costs, by the Hub; `None` for a process here, whose price nobody tells."""
    if settings.training.trainer != "job":
        return None
    machine = prices().get(settings.training.job_hardware)
    return machine.dollars_per_hour if machine else None


def hardware_of(settings: Settings, records: Sequence[RunRecord]) -> str | None:
    """On what a step's time must have been measured to count; `None` for this machine."""
    if settings.training.trainer != "job":
        return None
    return hardware_of_jobs(records, settings.training.job_hardware)


def need_gb(config: RunConfig) -> float | None:
    """What a run needs of a card, in GB; `None` where its base's sizes are not known."""
    try:
        return _need(config).total / GB
    except UserError:
        return None


def _need(config: RunConfig) -> MemoryNeed:
    if Path(base_source(config.base)).is_dir():
        return memory_need(config, sizes_of(config.base, config.base_revision))
    found = _of_the_hub.get((config.base, config.base_revision))
    if isinstance(found, ModelSizes):
        return memory_need(config, found)
    raise found or UserError(f"the sizes of {config.base} are not known, for the Hub has not answered yet")


def _ask_the_hub(base: tuple[str, str | None]) -> ModelSizes | UserError:
    try:
        return sizes_of(*base)
    except UserError as error:
        return error


_of_the_hub: CachedAnswers[tuple[str, str | None], ModelSizes | UserError] = CachedAnswers(
    _ask_the_hub, lambda found: math.inf if isinstance(found, ModelSizes) else RETRY_SECONDS
)
