"""Where a run would be executed, in words: a Job with its price and its memory, or the card that the app shares."""

from pathlib import Path

import pytest

from inference.common.settings import STARTER, Settings
from inference.common.space_file import TrainingSection
from training.config.run_config import load_config
from training.hub.space.prices import Hardware, PriceList
from training.launch.jobs.placement import machine_of, need_gb, placement_words, price_per_hour, queue_words
from training.runs.estimate.memory import Card

STARTER_RUN = load_config("starter")
BUCKET = Path("/state")


def machine(name: str, gpus: int, gb: float, dollars: float) -> Hardware:
    return Hardware(name, "12 vCPU", gpus, "A card" if gpus else "", gb, dollars)


LIST = PriceList(
    (
        machine("cpu-basic", 0, 0, 0.0),
        machine("small", 1, 24, 1.0),
        machine("chosen", 1, 80, 2.5),
        machine("twin", 2, 160, 4.0),
        machine("large", 1, 141, 5.0),
    )
)


def settings(home, **training) -> Settings:
    return Settings(
        base=str(STARTER),
        base_reason="",
        named_base=str(STARTER),
        adapter=None,
        home=home,
        state=BUCKET,
        training=TrainingSection.model_validate(training),
    )


def test_a_job_says_its_price_and_what_it_needs(home) -> None:
    prices = PriceList((machine("a100-large", 1, 80, 2.5), *LIST.hardware))
    first, second = placement_words(STARTER_RUN, settings(home, trainer="job"), lambda: prices, lambda: None)
    assert "Hugging Face Job on a100-large ($2.50 an hour)" in first and "about 1 GB of a card's 80" in second


def test_a_job_on_too_small_a_machine_names_others(home) -> None:
    small = PriceList((machine("a100-large", 1, 0.5, 0.1), *LIST.hardware))
    said = placement_words(STARTER_RUN, settings(home, trainer="job"), lambda: small, lambda: None)
    assert "That is not enough; it would fit on small: 1 x A card, 24 GB, $1.00 an hour" in said[-1]


def test_the_price_and_the_hardware_of_a_job_are_its_own(home) -> None:
    job, here = settings(home, trainer="job", job_hardware="l40sx1"), settings(home)
    prices = PriceList((machine("l40sx1", 1, 48, 1.8),))
    assert price_per_hour(job, 2, lambda: prices) == 3.6 and price_per_hour(here, 1, lambda: prices) is None
    assert price_per_hour(job, 1, PriceList) is None
    there = machine_of(job, [], lambda: prices)
    assert (there.name, there.card.name, there.dollars_per_hour) == ("l40sx1", "L40S", 1.8)
    assert machine_of(here, [], lambda: prices).dollars_per_hour is None


def test_a_job_whose_price_is_not_to_be_had_says_so(home) -> None:
    nothing = PriceList(problem="the Hub does not answer")
    (said,) = placement_words(STARTER_RUN, settings(home, trainer="job"), lambda: nothing, lambda: None)
    assert "price not known, the Hub does not answer" in said


def test_the_spaces_own_card_is_shared_or_left(home) -> None:
    here = settings(home)
    assert placement_words(STARTER_RUN, here, lambda: LIST, lambda: None) == []
    (beside,) = placement_words(STARTER_RUN, here, lambda: LIST, lambda: Card(80e9, 9e9))
    assert "goes on answering" in beside
    (way,) = placement_words(STARTER_RUN, here, lambda: LIST, lambda: Card(10e9, 9.3e9))
    assert "leaves the card while the run trains" in way
    unknown = load_config("recipe", {"base": "nobody/nothing"})
    (said,) = placement_words(unknown, here, lambda: LIST, lambda: Card(80e9, 9e9))
    assert said.startswith("It is not known if it fits beside the model that answers") and need_gb(unknown) is None


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


def test_without_a_bucket_a_run_is_said_to_end_with_the_disk(home: Path) -> None:
    bare = settings(home).model_copy(update={"state": None})
    (words,) = placement_words(STARTER_RUN, bare, lambda: LIST, lambda: None, {"SPACE_ID": "me/look"})
    assert "no bucket" in words and "its adapter are gone" in words
    assert placement_words(STARTER_RUN, bare, lambda: LIST, lambda: None, {}) == [], "off a Space the disk stays"
    job = settings(home, trainer="job").model_copy(update={"state": None})
    assert "set LOOKTHINK_STATE" in placement_words(STARTER_RUN, job, lambda: LIST, lambda: None, {})[-1]
