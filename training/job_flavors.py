"""The machines that a Job can have: memory, price, and which of them would do as well.

>>> others([Flavor("a", "A", 80, 2.5), Flavor("b", "B", 141, 5.0)], "a", 40)
[Flavor(name='b', gpu='B', gpu_gb=141, dollars_per_hour=5.0)]
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_PER_HOUR = {"second": 3600.0, "minute": 60.0, "hour": 1.0}
_SHOWN = 3
NONE_FREE = "no free machine:"


@dataclass(frozen=True)
class Flavor:
    """One kind of machine."""

    name: str
    gpu: str
    """Its card as people call it; empty for a machine without."""
    gpu_gb: float
    """Memory of each card, in GB; 0 without one."""
    dollars_per_hour: float

    def __str__(self) -> str:
        card = f"{self.gpu}, {self.gpu_gb:g} GB, " if self.gpu else ""
        return f"{self.name} ({card}${self.dollars_per_hour:,.2f} an hour)"


def flavor_of(info: Any) -> Flavor | None:
    """One line of `list_jobs_hardware`; `None` for one that cannot be understood."""
    card = info.accelerator
    memory = re.match(r"\s*([\d.]+)", str(card.vram)) if card else None
    try:
        cost = float(info.unit_cost_usd) * _PER_HOUR[str(info.unit_label)]
        return Flavor(str(info.name), str(card.model) if card else "", float(memory[1]) if memory else 0.0, cost)
    except (KeyError, ValueError, TypeError):
        return None


def named(flavors: Sequence[Flavor], name: str) -> Flavor | None:
    """The one of that name."""
    return next((each for each in flavors if each.name == name), None)


def others(flavors: Sequence[Flavor], name: str, need_gb: float | None) -> list[Flavor]:
    """Those that a run fits on as well, the cheapest first; without a need, those with as much memory as `name` has."""
    own = named(flavors, name)
    least = need_gb if need_gb is not None else own.gpu_gb if own else 0.0
    fitting = [each for each in flavors if each.name != name and each.gpu_gb >= least and (each.gpu or not least)]
    return sorted(fitting, key=lambda each: each.dollars_per_hour)[:_SHOWN]


def queue_words(flavors: Sequence[Flavor], name: str, waited_seconds: float, need_gb: float | None = None) -> str:
    """What is said of a Job that no machine is free for."""
    waited = f"{NONE_FREE} no {name} for {waited_seconds / 60:.0f} min; the Job waits in the Hub's queue"
    free = others(flavors, name, need_gb)
    if not free:
        return f"{waited}. It costs nothing meanwhile"
    kinds = ", ".join(map(str, free))
    return (
        f"{waited}, which costs nothing. The run would fit on {kinds} too: cancel it, set training.job_hardware in "
        "space.yaml, and resume it"
    )
