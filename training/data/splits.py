"""Which row of a dataset goes to train, to validation and to test, before any of them is read.

    >>> allot(read_data_config(dataset="owner/name", split="train[:10]"), {"train": 20}).sizes
    {'train': 8, 'validation': 0, 'test': 2}

The cut is `Dataset.train_test_split`'s own, so that the starting recipe's rows are exactly its rows.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inference.common.errors import UserError
from training.config.data_config import DataConfig, Slice
from training.data.open_source import STARTER_TRAIN_ROWS, starter_test_rows

ROLES = ("train", "validation", "test")
Place = tuple[str, int]
"""A split of the dataset and a position in it."""


@dataclass(frozen=True)
class Allotment:
    """The rows of each role, in the order in which they are used."""

    places: dict[str, list[Place]]

    @property
    def sizes(self) -> dict[str, int]:
        return {role: len(self.places[role]) for role in ROLES}

    def by_split(self) -> dict[str, list[int]]:
        """The positions to read of each split, increasing: the order in which a dataset is streamed."""
        found: dict[str, set[int]] = {}
        for places in self.places.values():
            for split, position in places:
                found.setdefault(split, set()).add(position)
        return {split: sorted(positions) for split, positions in found.items()}


def splits_to_open(config: DataConfig) -> list[str]:
    """The splits of the dataset that the configuration names."""
    if config.is_starter:
        return ["train", "test"]
    named = [config.split, config.test_split, config.validation_split]
    return list(dict.fromkeys(Slice.parse(text).name for text in named if text))


def allot(config: DataConfig, sizes: Mapping[str, int]) -> Allotment:
    """Share out the rows of splits of these sizes; a `UserError` says what does not fit."""
    if config.is_starter:
        return _allot_starter(config)
    chosen = _slice_places(config, config.split, sizes)
    if config.test_split is not None:
        train, test = list(chosen), _slice_places(config, config.test_split, sizes)
        if shared := set(train) & set(test):
            raise UserError(
                f"split {config.split} and test_split {config.test_split} share {len(shared):,} rows; "
                "name slices that do not overlap."
            )
        if config.test_rows is not None:
            test = _sample(test, config.test_rows, f"test_rows is {config.test_rows}", config.seed)
    else:
        train, test = _cut(chosen, config)
    train, validation = _validation(config, sizes, train, test)
    return Allotment({"train": train[: config.train_rows], "validation": validation, "test": test})


def _allot_starter(config: DataConfig) -> Allotment:
    num_test = starter_test_rows(config)
    test = [("test", i) for i in range(num_test + config.validation_rows)]
    train = [("train", i) for i in range(config.train_rows or STARTER_TRAIN_ROWS)]
    return Allotment({"train": train, "validation": test[num_test:], "test": test[:num_test]})


def _slice_places(config: DataConfig, text: str, sizes: Mapping[str, int]) -> list[Place]:
    wanted = Slice.parse(text)
    places = [(wanted.name, i) for i in wanted.positions(sizes[wanted.name])]
    if not places:
        raise UserError(
            f"{text} of {config.dataset} holds no rows: the split {wanted.name} has {sizes[wanted.name]:,}. "
            "Ask for a larger slice."
        )
    return places


def _cut(places: Sequence[Place], config: DataConfig) -> tuple[list[Place], list[Place]]:
    """Train and test, shuffled with the seed."""
    from datasets import Dataset

    size: int | float = config.test_share if config.test_rows is None else config.test_rows
    if not size:
        order = list(places)
        random.Random(f"train-{config.seed}").shuffle(order)
        return order, []
    if config.test_rows is not None and config.test_rows >= len(places):
        raise UserError(
            f"test_rows is {config.test_rows:,} and {config.split} has {len(places):,} rows: none is left for train. "
            "Ask for fewer, or for a larger slice."
        )
    if len(places) < 2:
        raise UserError(f"{config.split} has {len(places)} row; train and test need one each. Take a larger slice.")
    numbers = Dataset.from_dict({"at": list(range(len(places)))})
    try:
        cut = numbers.train_test_split(test_size=size, seed=config.seed)
    except ValueError as error:
        raise UserError(
            f"test_share is {config.test_share} of {len(places)} rows, which leaves train or test empty. "
            "Ask for another share, or for a larger slice."
        ) from error
    return [places[i] for i in cut["train"]["at"]], [places[i] for i in cut["test"]["at"]]


def _validation(
    config: DataConfig, sizes: Mapping[str, int], train: list[Place], test: list[Place]
) -> tuple[list[Place], list[Place]]:
    """Train less what validation takes of it, and validation."""
    if not config.validation_rows:
        return train, []
    what = f"validation_rows is {config.validation_rows:,}"
    if config.validation_split is not None:
        taken = {*train, *test}
        others = [place for place in _slice_places(config, config.validation_split, sizes) if place not in taken]
        return train, _sample(others, config.validation_rows, what, config.seed)
    if config.slice.is_whole:
        if config.validation_rows >= len(train):
            raise UserError(f"{what} and train has {len(train):,} rows; ask for fewer, or give a validation_split.")
        return train[: -config.validation_rows], train[-config.validation_rows :]
    name = config.slice.name
    inside = set(config.slice.positions(sizes[name])) | {at for split, at in test if split == name}
    outside = [(name, at) for at in range(sizes[name]) if at not in inside]
    return train, _sample(outside, config.validation_rows, what, config.seed)


def _sample(places: Sequence[Place], num: int, what: str, seed: int) -> list[Place]:
    if num > len(places):
        raise UserError(f"{what}, and there are {len(places):,} rows to take them from; ask for at most that many.")
    return random.Random(f"validation-{seed}").sample(list(places), num)
