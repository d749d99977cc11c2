"""The ways to run a Space, their prices an hour, and the recommendation."""

from __future__ import annotations

import pytest

from inference.common.space_file import SpaceFile
from tests.support.hub.client import Client
from tests.support.hub.repos import Hub
from training.hub.space.prices import Prices
from training.hub.space.ways import comparison

BASE = {"model": {"base": "a/b"}}
A100 = "a100-large, trains in itself{}: asleep free; awake $2.50 an hour; training $2.50 an hour."
CPU = "cpu-basic, trains as a Job on a100-large{}: asleep free; awake free; training $2.50 an hour."
ZERO = "zero-a10g (an experiment), trains as a Job on a100-large{}: asleep free; awake free; training $2.50 an hour."
MINE = " (space.yaml)"


@pytest.mark.parametrize(
    ("file", "lines"),
    [
        (BASE, [A100.format(MINE), CPU.format(""), ZERO.format("")]),
        (
            BASE | {"space": {"hardware": "cpu-basic"}, "training": {"trainer": "job"}},
            [CPU.format(MINE), A100.format(""), ZERO.format("")],
        ),
        (
            BASE | {"space": {"hardware": "zero-a10g"}, "training": {"trainer": "job"}},
            [ZERO.format(MINE), A100.format(""), CPU.format("")],
        ),
        (
            BASE | {"space": {"hardware": "l4x1", "sleep_minutes": 0}, "training": {"trainer": "job"}},
            [
                "l4x1, trains as a Job on a100-large (space.yaml): asleep never (sleep_minutes is 0); awake $0.80 "
                "an hour; training $2.50 an hour, and $0.80 an hour if it is awake.",
                A100.format("").replace("asleep free", "asleep never (sleep_minutes is 0)"),
                CPU.format(""),
                ZERO.format(""),
            ],
        ),
        (
            {"model": {"base": "starter"}, "space": {"hardware": "cpu-basic"}},
            ["cpu-basic, trains in itself (space.yaml): asleep free; awake free; training free."],
        ),
    ],
)
def test_each_way_has_its_prices(hub_client: Client, file: dict, lines: list[str]) -> None:
    said = comparison(SpaceFile.model_validate(file), Prices())
    assert [line.strip() for line in said[1:-1]] == lines


def test_the_recommendation_says_what_answers(hub_client: Client) -> None:
    assert "Visitors then ask the starter" in comparison(SpaceFile.model_validate(BASE), Prices())[-1]
    starter = SpaceFile.model_validate({"model": {"base": "starter"}})
    assert comparison(starter, Prices())[-1].startswith("Recommended: cpu-basic. The starter needs no GPU")


def test_prices_that_are_not_known_are_said_so(hub: Hub, hub_client: Client) -> None:
    hub.failure = 503
    assert "price not known, " in comparison(SpaceFile.model_validate(BASE), Prices())[1]
