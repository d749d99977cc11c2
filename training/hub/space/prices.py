"""Prices of hardware an hour, live from the Hub; a sentence says why where they are not known.

prices = Prices()                       # keeps an answer for an hour
prices.of_spaces().words("a100-large")  # '$2.50 an hour'
[h.name for h in prices.of_jobs().that_fit(40, num_gpus=1)]
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from inference.common.background import WAIT_SECONDS, CachedAnswers
from inference.common.errors import UserError
from inference.common.hub_errors import hub_exceptions, reason
from training.runs.estimate.hardware import Machine, card_named, machine

KEPT_SECONDS = 3600.0
RETRY_SECONDS = 60.0
"""After a request that failed."""
MAX_UNIT_COST = 10_000.0
_HOURS = {"second": 1 / 3600, "minute": 1 / 60, "hour": 1.0, "day": 24.0}


@dataclass(frozen=True)
class Hardware:
    """A machine on offer."""

    name: str
    cpu: str
    num_gpus: int
    gpu: str
    """The model of its cards; empty if it has none."""
    gpu_gb: float
    """The memory of all its cards together."""
    dollars_per_hour: float

    @property
    def words(self) -> str:
        """`a100-large: 1 x A100, 80 GB, $2.50 an hour`."""
        cards = f"{self.num_gpus} x {self.gpu}, {self.gpu_gb:g} GB" if self.num_gpus else f"{self.cpu}, no GPU"
        return f"{self.name}: {cards}, {dollars(self.dollars_per_hour)} an hour"


@dataclass(frozen=True)
class PriceList:
    """The hardware on offer, cheapest first; empty with a `problem` if the Hub did not answer."""

    hardware: tuple[Hardware, ...] = ()
    problem: str = ""

    def get(self, name: str) -> Hardware | None:
        """The machine of that name."""
        return next((found for found in self.hardware if found.name == name), None)

    def words(self, name: str) -> str:
        """`$2.50 an hour`, `free`, or why that is not known."""
        hardware = self.get(name)
        if hardware is not None:
            return f"{dollars(hardware.dollars_per_hour)} an hour" if hardware.dollars_per_hour else "free"
        return f"price not known, {self.problem or 'the Hub does not list it'}"

    def that_fit(self, gpu_gb: float, num_gpus: int = 1) -> list[Hardware]:
        """Machines with this number of cards, each with at least this memory, cheapest first."""
        return [h for h in self.hardware if h.num_gpus == num_gpus and h.gpu_gb / num_gpus >= gpu_gb]


class Prices:
    """The Hub's price lists; safe to use from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, wait_seconds: float = WAIT_SECONDS) -> None:
        self._lists: CachedAnswers[str, PriceList] = CachedAnswers(_ask, _good_for, wait_seconds, clock)

    def of_spaces(self) -> PriceList:
        """For a Space."""
        return self._list("spaces")

    def of_jobs(self) -> PriceList:
        """For a Job."""
        return self._list("jobs")

    def _list(self, kind: str) -> PriceList:
        silent = f"the Hub has not answered for {self._lists.wait_seconds:.0f} s"
        return self._lists.get(kind) or PriceList(problem=silent)


def _good_for(found: PriceList) -> float:
    return RETRY_SECONDS if found.problem else KEPT_SECONDS


def machine_named(name: str, prices: PriceList) -> Machine:
    """The machine of that name with the Hub's price, or the shipped one where that is not known. Raises `UserError`."""
    live = prices.get(name)
    try:
        known = machine(name)
    except UserError:
        card = card_named(f"{live.gpu} {live.gpu_gb / max(1, live.num_gpus):.0f} GB") if live else None
        if live is None or card is None:
            raise
        known = Machine(name, card, live.num_gpus, None)
    return known if live is None else replace(known, dollars_per_hour=live.dollars_per_hour, source="the Hub, today")


def dollars(amount: float | None) -> str | None:
    """An amount to the cent, a small one more exactly; `None` stays `None`.

    >>> dollars(1234.5), dollars(0.0133), dollars(None)
    ('$1,234.50', '$0.013', None)
    """
    if amount is None:
        return None
    return f"${amount:,.2f}" if amount >= 0.1 or not amount else f"${amount:.3f}"


def _ask(kind: str) -> PriceList:
    try:
        from huggingface_hub import HfApi

        api = HfApi()
        infos = api.list_spaces_hardware() if kind == "spaces" else api.list_jobs_hardware()
        hardware = [_read(info) for info in infos]
    except hub_exceptions() as error:
        return PriceList(problem=reason(error))
    return PriceList(tuple(sorted(hardware, key=lambda h: (h.dollars_per_hour, h.name))))


def _read(info: Any) -> Hardware:
    """Reads an entry of the Hub's list. Raises `ValueError`, `KeyError` or `TypeError` for anything else."""
    card = info.accelerator
    cost, num_gpus = float(info.unit_cost_usd), int(card.quantity) if card else 0
    if not 0 <= cost < MAX_UNIT_COST or (card and not 1 <= num_gpus <= 1024):
        raise ValueError("not a price, or not a number of cards")
    return Hardware(
        name=_text(info.name),
        cpu=_text(info.cpu),
        num_gpus=num_gpus,
        gpu=_text(card.model) if card else "",
        gpu_gb=_gigabytes(card.vram) if card else 0.0,
        dollars_per_hour=cost / _HOURS[_text(info.unit_label)],
    )


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > 100:
        raise ValueError("not a short text")
    return value


def _gigabytes(value: object) -> float:
    size = re.fullmatch(r"(\d+(?:\.\d+)?) ?(MB|GB|TB)", _text(value))
    if size is None:
        raise ValueError("not a size")
    return float(size[1]) * {"MB": 1e-3, "GB": 1.0, "TB": 1e3}[size[2]]
