"""The sentences before a start: the machine of the run, its price and memory, and whether its files outlive a restart.

placement_words(config, settings)       # ['It runs as a Hugging Face Job on a100-large ($2.50 an hour) …']
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from inference.common.background import CachedAnswers
from inference.common.errors import UserError
from inference.common.settings import Settings, base_source
from training.config.run_config import RunConfig
from training.hub.space.prices import RETRY_SECONDS, PriceList, Prices, machine_named
from training.launch.jobs.spec import hardware_of_jobs
from training.runs.estimate.hardware import Machine, machine_here
from training.runs.estimate.memory import GB, Card, card_here, memory_need, share_card
from training.runs.estimate.shapes import KNOWN, ModelSizes, sizes_of
from training.runs.record import RunRecord

NONE_FREE = "no free machine:"
"""The beginning of the reason of a run whose Job has waited for long."""
_NUM_SHOWN = 3
_prices = Prices()


def placement_words(
    config: RunConfig,
    settings: Settings,
    prices: Callable[[], PriceList] = _prices.of_jobs,
    card: Callable[[], Card | None] = card_here,
    env: Mapping[str, str] = os.environ,
) -> list[str]:
    """Sentences for the person who is about to start the run; none for a process on a machine without a GPU."""
    if settings.training.trainer == "job":
        return _job_words(config, settings.training.job_hardware, prices()) + _bucket_words(settings, env)
    gpu = card()
    words = []
    if gpu is not None:
        try:
            words = [share_card(config, known_sizes(config), gpu).words]
        except UserError as error:
            words = [f"It is not known if it fits beside the model that answers: {error}."]
    return words + _bucket_words(settings, env)


def _bucket_words(settings: Settings, env: Mapping[str, str]) -> list[str]:
    """A warning where nothing outlives the disk, or a Job's records do not come home."""
    if settings.state is not None:
        return []
    if settings.training.trainer == "job":
        return ["The bucket is not mounted here, so its figures and its adapter do not come here: set LOOKTHINK_STATE."]
    if not env.get("SPACE_ID", "").strip():
        return []
    return [
        "This Space has no bucket, so its runs end with its disk: when it restarts, this run and its adapter are gone. "
        "Mount a bucket (see the setup above)."
    ]


def _job_words(config: RunConfig, flavor: str, prices: PriceList) -> list[str]:
    words = [
        f"It runs as a Hugging Face Job on {flavor} ({prices.words(flavor)}), whether this Space is awake or not; the "
        "Job loads for some minutes first."
    ]
    machine = prices.get(flavor)
    if machine is None or not machine.num_gpus:
        return words
    try:
        need, has = _need_gb(config), machine.gpu_gb / machine.num_gpus
    except UserError:
        return words
    words.append(f"By its sizes it needs about {need:.0f} GB of a card's {has:.0f}.")
    if need > has:
        fitting = [machine.words for machine in prices.that_fit(need)][:_NUM_SHOWN]
        words.append(f"That is not enough; it would fit on {', '.join(fitting) or 'no machine that the Hub offers'}.")
    return words


def price_per_hour(
    settings: Settings, num_nodes: int = 1, prices: Callable[[], PriceList] = _prices.of_jobs
) -> float | None:
    """The price of an hour of a run's Jobs, by the Hub; `None` for a local process, whose price is not known."""
    if settings.training.trainer != "job":
        return None
    machine = prices().get(settings.training.job_hardware)
    return machine.dollars_per_hour * num_nodes if machine else None


def machine_of(
    settings: Settings, records: Sequence[RunRecord], prices: Callable[[], PriceList] = _prices.of_jobs
) -> Machine:
    """The machine that a run would train on, with its price. Raises `UserError` for hardware that is not known."""
    if settings.training.trainer != "job":
        return machine_here()
    flavor = settings.training.job_hardware
    found = machine_named(flavor, prices())
    return replace(found, name=hardware_of_jobs(records, flavor))


def need_gb(config: RunConfig) -> float | None:
    """The memory that a run needs, in GB; `None` where its base's sizes are not known."""
    try:
        return _need_gb(config)
    except UserError:
        return None


def queue_words(prices: PriceList, flavor: str, waited_seconds: float, need_gb: float | None) -> str:
    """A sentence on how long a Job has waited for a machine, and on the cheapest others that the run fits on.

    If the run's need is not known, these have as much memory as the chosen one.
    """
    waited = f"{NONE_FREE} no {flavor} for {waited_seconds / 60:.0f} min; the Job waits in the Hub's queue"
    own = prices.get(flavor)
    least = need_gb if need_gb is not None else own.gpu_gb / max(1, own.num_gpus) if own else 0.0
    others = [machine.words for machine in prices.that_fit(least) if machine.name != flavor][:_NUM_SHOWN]
    if not others:
        return f"{waited}, which costs nothing"
    return (
        f"{waited}, which costs nothing. The run would fit on {'; '.join(others)}. To change: cancel it, set "
        "training.job_hardware in space.yaml, and resume it"
    )


def _need_gb(config: RunConfig) -> float:
    """The least that the run needs: with the smallest micro-batch where that is chosen automatically."""
    return memory_need(config, known_sizes(config)).total / GB


def known_sizes(config: RunConfig) -> ModelSizes:
    """The sizes of a run's base, without waiting for the Hub. Raises `UserError` until they are known."""
    if config.base in KNOWN or Path(base_source(config.base)).is_dir():
        return sizes_of(config.base, config.base_revision)
    sizes = _of_the_hub.get((config.base, config.base_revision))
    if isinstance(sizes, ModelSizes):
        return sizes
    raise sizes or UserError(f"the sizes of {config.base} are not known, because the Hub has not answered yet")


def _ask_the_hub(base: tuple[str, str | None]) -> ModelSizes | UserError:
    try:
        return sizes_of(*base)
    except UserError as error:
        return error


_of_the_hub: CachedAnswers[tuple[str, str | None], ModelSizes | UserError] = CachedAnswers(
    _ask_the_hub, lambda sizes: math.inf if isinstance(sizes, ModelSizes) else RETRY_SECONDS
)
