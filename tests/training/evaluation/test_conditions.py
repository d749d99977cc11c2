"""Conditions by name and by group."""

from __future__ import annotations

import pytest

from inference.common.errors import UserError
from training.evaluation.conditions import (
    CAREFUL,
    CONDITIONS,
    GROUPS,
    STARTER_CAREFUL,
    choose_conditions,
    with_careful_beginning,
)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["main"], ["base-direct", "base-thinking", "base-forced", "base-careful", "adapter-thinking"]),
        (["adapter-thinking", "base-direct"], ["base-direct", "adapter-thinking"]),
        (
            ["main", "base-direct", "sampled"],
            [
                *("base-direct", "base-thinking", "base-sampled", "base-forced", "base-careful", "base-forced-sampled"),
                *("adapter-thinking", "adapter-sampled"),
            ],
        ),
        (["all"], [condition.name for condition in CONDITIONS]),
    ],
)
def test_choice_is_in_one_order_and_once(names: list[str], chosen: list[str]) -> None:
    assert [condition.name for condition in choose_conditions(names)] == chosen


def test_temperature_is_that_of_the_sampled_ones() -> None:
    found = {condition.name: condition.temperature for condition in choose_conditions(["all"], temperature=0.7)}
    assert {name for name, temperature in found.items() if temperature} == set(GROUPS["sampled"])
    assert found["base-sampled"] == 0.7


@pytest.mark.parametrize(
    ("names", "temperature", "message"),
    [
        (["base-thinking", "base-dreaming"], 1.0, "no condition 'base-dreaming'; choose from base-direct, "),
        (["all"], 0.0, "temperature of sampling is 0.0"),
        (["all"], float("nan"), "temperature of sampling is nan"),
    ],
)
def test_wrong_choices(names: list[str], temperature: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_conditions(names, temperature)


def test_each_condition_changes_one_thing_of_its_reference() -> None:
    by_name = {condition.name: condition for condition in CONDITIONS}
    for condition in CONDITIONS:
        if condition.reference:
            other = by_name[condition.reference]
            fields = ("tuned", "system_prompt", "prefix", "temperature", "picture", "thought")
            assert sum(getattr(condition, name) != getattr(other, name) for name in fields) == 1, condition.name


def test_only_base_careful_begins_with_care() -> None:
    conditions = with_careful_beginning(CONDITIONS, STARTER_CAREFUL)
    assert {c.name: c.prefix for c in conditions if c.prefix} == {
        "base-forced": "<think>",
        "base-careful": "<think>Part by part.",
        "base-forced-sampled": "<think>",
        "adapter-forced": "<think>",
    }
    assert CAREFUL.startswith("<think>") and "</think>" not in CAREFUL
