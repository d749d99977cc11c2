"""Assigns the rows of a dataset to train, validation and test, before any of them is read.

    >>> from training.config.data_config import read_data_config
    >>> assign_rows(read_data_config(dataset="owner/name", split="train[:10]"), {"train": 20}).sizes
    {'train': 8, 'validation': 0, 'test': 2}

The split is made by `Dataset.train_test_split`, so that the starting recipe gets exactly its own rows.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inference.common.errors import UserError
from training.config.data_config import DataConfig, Slice
from training.data.open_source import STARTER_TRAIN_ROWS, starter_test_rows

ROLES = ("train", "validation", "test")
RowKey = tuple[str, int]
"""A split of the dataset and a position in it."""


@dataclass(frozen=True)
class RowAssignment:
    """The rows of each split of the run, in the order in which they are used."""

    keys: dict[str, list[RowKey]]

    @property
    def sizes(self) -> dict[str, int]:
        return {role: len(self.keys[role]) for role in ROLES}

    def by_split(self) -> dict[str, list[int]]:
        """For each split of the dataset the positions to read, increasing, as a dataset is streamed."""
        by_split: dict[str, set[int]] = {}
        for keys in self.keys.values():
            for split, position in keys:
                by_split.setdefault(split, set()).add(position)
        return {split: sorted(positions) for split, positions in by_split.items()}


def splits_to_open(config: DataConfig) -> list[str]:
    """The splits of the dataset that the configuration names."""
    if config.is_starter:
        return ["train", "test"]
    slices = [config.split, config.test_split, config.validation_split]
    return list(dict.fromkeys(Slice.parse(text).name for text in slices if text))


def assign_rows(
    config: DataConfig, sizes: Mapping[str, int], groups: Mapping[RowKey, str] | None = None
) -> RowAssignment:
    """Assigns the rows of splits of these sizes. Raises `UserError` for settings that do not fit them.

    With `groups`, by row, train shares none with validation and test, nor validation with test.
    """
    if config.is_starter:
        return _assign_starter(config)
    chosen = _slice_keys(config, config.split, sizes)
    if config.test_split is not None:
        train, test = list(chosen), _slice_keys(config, config.test_split, sizes)
        if shared := set(train) & set(test):
            raise UserError(
                f"split {config.split} and test_split {config.test_split} share {len(shared):,} rows; "
                "name slices that do not overlap."
            )
        if config.test_rows is not None:
            test = _sample(test, config.test_rows, f"test_rows is {config.test_rows}", config.seed)
    else:
        train, test = _cut(chosen, config) if groups is None else _cut_groups(chosen, config, groups)
    train, validation = _validation(config, sizes, train, test)
    if groups is not None:
        in_test = {groups[key] for key in test}
        validation = [key for key in validation if groups[key] not in in_test]
        apart = in_test | {groups[key] for key in validation}
        train = [key for key in train if groups[key] not in apart]
    return RowAssignment({"train": train[: config.train_rows], "validation": validation, "test": test})


def _assign_starter(config: DataConfig) -> RowAssignment:
    num_test = starter_test_rows(config)
    test = [("test", i) for i in range(num_test + config.validation_rows)]
    train = [("train", i) for i in range(config.train_rows or STARTER_TRAIN_ROWS)]
    return RowAssignment({"train": train, "validation": test[num_test:], "test": test[:num_test]})


def _slice_keys(config: DataConfig, text: str, sizes: Mapping[str, int]) -> list[RowKey]:
    part = Slice.parse(text)
    keys = [(part.name, i) for i in part.positions(sizes[part.name])]
    if not keys:
        raise UserError(
            f"{text} of {config.dataset} holds no rows: the split {part.name} has {sizes[part.name]:,}. "
            "Ask for a larger slice."
        )
    return keys


def _cut(keys: Sequence[RowKey], config: DataConfig) -> tuple[list[RowKey], list[RowKey]]:
    """The keys of train and test, shuffled with the seed."""
    from datasets import Dataset

    size: int | float = config.test_share if config.test_rows is None else config.test_rows
    if not size:
        order = list(keys)
        random.Random(f"train-{config.seed}").shuffle(order)
        return order, []
    if config.test_rows is not None and config.test_rows >= len(keys):
        raise UserError(
            f"test_rows is {config.test_rows:,} and {config.split} has {len(keys):,} rows: none is left for train. "
            "Ask for fewer, or for a larger slice."
        )
    if len(keys) < 2:
        raise UserError(f"{config.split} has {len(keys)} row; train and test need one each. Take a larger slice.")
    numbers = Dataset.from_dict({"at": list(range(len(keys)))})
    try:
        cut = numbers.train_test_split(test_size=size, seed=config.seed)
    except ValueError as error:
        raise UserError(
            f"test_share is {config.test_share} of {len(keys)} rows, which leaves train or test empty. "
            "Ask for another share, or for a larger slice."
        ) from error
    return [keys[i] for i in cut["train"]["at"]], [keys[i] for i in cut["test"]["at"]]


def _cut_groups(
    keys: Sequence[RowKey], config: DataConfig, groups: Mapping[RowKey, str]
) -> tuple[list[RowKey], list[RowKey]]:
    """The keys of train and test: whole groups, in the seed's order, until test has as many rows as it is to have."""
    by_group: dict[str, list[RowKey]] = {}
    for key in keys:
        by_group.setdefault(groups[key], []).append(key)
    order = list(by_group)
    random.Random(f"groups-{config.seed}").shuffle(order)
    wanted = config.test_rows if config.test_rows is not None else round(config.test_share * len(keys))
    test: list[RowKey] = []
    while order and len(test) < wanted:
        test += by_group[order.pop()]
    train = [key for group in order for key in by_group[group]]
    if not train:
        raise UserError(
            f"group_by is {config.group_by}, and none of the {len(by_group):,} groups of {config.split} is left for "
            f"train beside {wanted:,} test rows; ask for fewer, or group by another column."
        )
    random.Random(f"train-{config.seed}").shuffle(train)
    return train, test


def _validation(
    config: DataConfig, sizes: Mapping[str, int], train: list[RowKey], test: list[RowKey]
) -> tuple[list[RowKey], list[RowKey]]:
    """The keys of train without those of validation, and the keys of validation."""
    if not config.validation_rows:
        return train, []
    what = f"validation_rows is {config.validation_rows:,}"
    if config.validation_split is not None:
        taken = {*train, *test}
        others = [key for key in _slice_keys(config, config.validation_split, sizes) if key not in taken]
        return train, _sample(others, config.validation_rows, what, config.seed)
    if config.slice.is_whole:
        if config.validation_rows >= len(train):
            raise UserError(f"{what} and train has {len(train):,} rows; ask for fewer, or give a validation_split.")
        return train[: -config.validation_rows], train[-config.validation_rows :]
    name = config.slice.name
    inside = set(config.slice.positions(sizes[name])) | {at for split, at in test if split == name}
    outside = [(name, at) for at in range(sizes[name]) if at not in inside]
    return train, _sample(outside, config.validation_rows, what, config.seed)


def _sample(keys: Sequence[RowKey], num: int, what: str, seed: int) -> list[RowKey]:
    if num > len(keys):
        raise UserError(f"{what}, and there are {len(keys):,} rows to take them from; ask for at most that many.")
    return random.Random(f"validation-{seed}").sample(list(keys), num)
