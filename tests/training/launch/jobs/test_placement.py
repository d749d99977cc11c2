"""Where a run would be executed, in words: a Job with its price and its memory, or the card that the app shares."""

from inference.common.settings import STARTER, Settings
from inference.common.space_file import TrainingSection
from tests.training.launch.jobs.test_flavors import LIST, machine
from training.config.run_config import load_config
from training.hub.space.prices import PriceList
from training.launch.jobs.placement import hardware_of, need_gb, place_words, price_per_hour
from training.launch.memory import Card

STARTER_RUN = load_config("starter")


def settings(home, **training) -> Settings:
    return Settings(
        base=str(STARTER), base_reason="", adapter=None, home=home, training=TrainingSection.model_validate(training)
    )


def test_a_job_says_its_price_and_what_it_needs(home) -> None:
    prices = PriceList((machine("a100-large", 1, 80, 2.5), *LIST.hardware))
    first, second = place_words(STARTER_RUN, settings(home, trainer="job"), lambda: prices, lambda: None)
    assert "Hugging Face Job on a100-large ($2.50 an hour)" in first and "about 5 GB of a card's 80" in second


def test_a_job_on_too_small_a_machine_names_others(home) -> None:
    small = PriceList((machine("a100-large", 1, 4, 0.1), *LIST.hardware))
    said = place_words(STARTER_RUN, settings(home, trainer="job"), lambda: small, lambda: None)
    assert "That is not enough; it would fit on small: 1 x A card, 24 GB, $1.00 an hour" in said[-1]


def test_the_price_and_the_hardware_of_a_job_are_its_own(home) -> None:
    job, here = settings(home, trainer="job", job_hardware="l40sx1"), settings(home)
    prices = PriceList((machine("l40sx1", 1, 48, 1.8),))
    assert price_per_hour(job, lambda: prices) == 1.8 and price_per_hour(here, lambda: prices) is None
    assert price_per_hour(job, PriceList) is None
    assert hardware_of(job, []) == "l40sx1" and hardware_of(here, []) is None


def test_a_job_whose_price_is_not_to_be_had_says_so(home) -> None:
    nothing = PriceList(problem="the Hub does not answer")
    (said,) = place_words(STARTER_RUN, settings(home, trainer="job"), lambda: nothing, lambda: None)
    assert "price not known, the Hub does not answer" in said


def test_the_spaces_own_card_is_shared_or_left(home) -> None:
    here = settings(home)
    assert place_words(STARTER_RUN, here, lambda: LIST, lambda: None) == []
    (beside,) = place_words(STARTER_RUN, here, lambda: LIST, lambda: Card(80e9, 9e9))
    assert "goes on answering" in beside
    (way,) = place_words(STARTER_RUN, here, lambda: LIST, lambda: Card(12e9, 9e9))
    assert "leaves the card while the run trains" in way
    unknown = load_config("recipe", {"base": "nobody/nothing"})
    (said,) = place_words(unknown, here, lambda: LIST, lambda: Card(80e9, 9e9))
    assert said.startswith("Whether it fits beside the model that answers is not known") and need_gb(unknown) is None
