"""Words for a Job that waits: other machines with the memory that the run needs, and their prices."""

import pytest

from training.hub.space.prices import Hardware, PriceList
from training.launch.jobs.flavors import queue_words


def machine(name: str, gpus: int, gb: float, dollars: float) -> Hardware:
    return Hardware(name, name, "12 vCPU", 142.0, gpus, "A card" if gpus else "", gb, dollars)


LIST = PriceList(
    (
        machine("cpu-basic", 0, 0, 0.0),
        machine("small", 1, 24, 1.0),
        machine("chosen", 1, 80, 2.5),
        machine("twin", 2, 160, 4.0),
        machine("large", 1, 141, 5.0),
    )
)


@pytest.mark.parametrize(
    ("need", "named", "unnamed"),
    [(20.0, ["small", "large"], ["cpu-basic", "twin"]), (100.0, ["large"], ["small"]), (None, ["large"], ["small"])],
)
def test_machines_with_the_memory_are_named_with_their_price(
    need: float | None, named: list[str], unnamed: list[str]
) -> None:
    said = queue_words(LIST, "chosen", 720, need)
    assert "no chosen for 12 min" in said and "which costs nothing" in said and "training.job_hardware" in said
    assert all(f"{name}: 1 x A card" in said for name in named) and not any(name in said for name in unnamed)
    assert "$5.00 an hour" in said


@pytest.mark.parametrize("prices", [PriceList(problem="the Hub does not answer"), LIST])
def test_where_none_would_do_nothing_is_made_up(prices: PriceList) -> None:
    said = queue_words(prices, "chosen", 720, 500.0)
    assert said.endswith("waits in the Hub's queue, which costs nothing")
