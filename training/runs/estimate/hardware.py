"""Cards and rented machines by name: published figures and prices, for estimates without a network.

machine("a100-large")       # one A100 of 80 GB, $2.50 an hour
card_named("NVIDIA A100-SXM4-80GB")
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace

from inference.common.errors import UserError

GB = 1e9


@dataclass(frozen=True)
class CardModel:
    """A graphics card by its maker's data sheet."""

    name: str
    memory_gb: float
    """In 10⁹ bytes, as CUDA reports them."""
    tflops: float
    """Dense 16-bit tensor operations, in 10¹² a second."""
    bandwidth: float
    """Of its memory, in 10⁹ bytes a second."""
    pattern: str = ""
    """A regular expression for the names by which CUDA and the Hub call it."""
    is_cpu: bool = False


CARDS = (
    CardModel("T4", 15.8, 65, 320, r"\bT4"),
    CardModel("L4", 23.7, 121, 300, r"\bL4(?!0)"),
    CardModel("A10G", 23.8, 70, 600, r"\bA10(?!0)"),
    CardModel("L40S", 47.7, 362, 864, r"\bL40S"),
    CardModel("RTX PRO 6000", 101.9, 503, 1792, r"RTX PRO 6000"),
    CardModel("RTX 3090", 25.4, 71, 936, r"RTX 3090"),
    CardModel("RTX 4090", 25.4, 165, 1008, r"RTX 4090"),
    CardModel("RTX 5090", 34.2, 210, 1792, r"RTX 5090"),
    CardModel("A100 40 GB", 42.4, 312, 1555, r"A100.*40 ?GB"),
    CardModel("A100 80 GB", 85.1, 312, 2039, r"A100"),
    CardModel("H100", 85.0, 989, 3350, r"\bH100"),
    CardModel("H200", 150.1, 989, 4800, r"\bH200"),
    CardModel("B200", 191.5, 2250, 8000, r"\bB200"),
)
"""Figures of the makers' data sheets; the first whose pattern fits a name counts."""


@dataclass(frozen=True)
class Machine:
    """A machine to rent, or this one."""

    name: str
    card: CardModel
    """One of its cards, or its processor (`is_cpu`) where it has none."""
    num_cards: int
    """0 without one."""
    dollars_per_hour: float | None
    """`None` where nobody rents it out at a known price."""
    source: str = ""
    """The origin of the price and its date."""


_PAGE = "huggingface.co/docs/hub/jobs-pricing and spaces-gpus, read in November 2026"
_RENTED: tuple[tuple[str, str, int, float], ...] = (
    ("cpu-basic", "2 cores", 0, 0.01),
    ("cpu-upgrade", "8 cores", 0, 0.03),
    ("t4-small", "T4", 1, 0.40),
    ("t4-medium", "T4", 1, 0.60),
    ("l4x1", "L4", 1, 0.80),
    ("l4x4", "L4", 4, 3.80),
    ("a10g-small", "A10G", 1, 1.00),
    ("a10g-large", "A10G", 1, 1.50),
    ("a10g-largex2", "A10G", 2, 3.00),
    ("a10g-largex4", "A10G", 4, 5.00),
    ("l40sx1", "L40S", 1, 1.80),
    ("l40sx4", "L40S", 4, 8.30),
    ("l40sx8", "L40S", 8, 23.50),
    ("a100-large", "A100 80 GB", 1, 2.50),
)
"""Name, card, number of cards and dollars an hour; live prices go before them (`training.hub.space.prices`)."""
_MULTIPLE = re.compile(r"(?P<num>[1-8]) ?[x×][ -]?(?P<card>.+)|(?P<card_first>.+?)[ -]?x(?P<num_last>[1-8])")
_CORES = re.compile(r"\b(\d{1,4}) cores?$")


def card_named(name: str) -> CardModel | None:
    """The card that CUDA, the Hub or a person calls so; `None` for one that is not in the list.

    >>> card_named("NVIDIA A100-SXM4-40GB").memory_gb, card_named("a100").memory_gb
    (42.4, 85.1)
    """
    return next((card for card in CARDS if re.search(card.pattern, name, re.IGNORECASE)), None)


def processor(num_cores: int, memory_gb: float | None = None) -> CardModel:
    """A processor as a card: 10¹¹ operations and 27 × 10⁹ bytes a second and core, as measured on two cores of a server
    (docs/performance.md); 8 GB a core where its memory is not given."""
    memory = 8.0 * num_cores if memory_gb is None else memory_gb
    return CardModel(f"{num_cores} cores", memory, 0.1 * num_cores, 27.0 * num_cores, is_cpu=True)


def machine(name: str) -> Machine:
    """A rented machine by the Hub's name, a card by its own with an optional number (`2x H100`), or `8 cores`.

    The names that `inference.model.device.hardware_name` gives are understood too. Raises `UserError` for another.
    """
    for rented, card, num_cards, dollars in _RENTED:
        if name.lower() == rented:
            return replace(machine(card), name=rented, num_cards=num_cards, dollars_per_hour=dollars, source=_PAGE)
    if cores := _CORES.search(name):
        return Machine(name, processor(int(cores[1])), 0, None)
    match = _MULTIPLE.fullmatch(name.strip())
    number = int((match["num"] or match["num_last"]) if match else 1)
    found = card_named((match["card"] or match["card_first"]) if match else name)
    if found is None:
        rented_names, cards = ", ".join(row[0] for row in _RENTED), ", ".join(card.name for card in CARDS)
        raise UserError(
            f"there is no hardware {name!r} in the list; give one of {rented_names}; a card, alone or as 2x H100: "
            f"{cards}; or a processor, such as 8 cores"
        )
    return Machine(name, found, number, None)


def machine_here() -> Machine:
    """This machine: its cards, else its processor, with the memory that they really have. Imports torch.

    A card that is not in the list counts as the one with the nearest memory.
    """
    import psutil
    import torch

    from inference.model.device import hardware_name

    name = hardware_name()
    if not torch.cuda.is_available():
        cores = processor(os.cpu_count() or 1, psutil.virtual_memory().total / GB)
        return Machine(name, cores, 0, None)
    memory = torch.cuda.mem_get_info()[1] / GB
    card = card_named(name) or min(CARDS, key=lambda known: abs(known.memory_gb - memory))
    return Machine(name, replace(card, memory_gb=memory), torch.cuda.device_count(), None)
