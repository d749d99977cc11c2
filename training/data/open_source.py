"""Opens the dataset that a configuration names: the starter problems, a Hub dataset, or files here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from training.config.data_config import COLUMNS, DataConfig
from training.data.source import RawRow, Source, digest

STARTER_TRAIN_ROWS = 1_000
STARTER_TEST_ROWS = 200


class StarterSource:
    """The starter problems: two endless splits, cut to the given sizes."""

    revision: str | None = None

    def __init__(self, seed: int, sizes: Mapping[str, int]) -> None:
        from training.starter import drawing, problems, templates

        self.seed = seed
        self.sizes = dict(sizes)
        self.names = list(sizes)
        self.notes: list[str] = []
        code = [Path(str(module.__file__)).read_bytes() for module in (problems, drawing, templates)]
        self.identity = digest([repr(seed).encode(), *code])

    def signature(self) -> str:
        """Its identity: code does not change while it runs."""
        return self.identity

    def columns(self, split: str) -> list[str]:
        """The columns of a starter problem."""
        return list(COLUMNS)

    def rows(self, split: str, positions: Sequence[int], columns: Sequence[str]) -> Iterator[RawRow]:
        """Draws the problems up to the last position, one at a time."""
        from training.starter.problems import iterate_problems

        chosen = set(positions)
        stream = itertools.islice(iterate_problems(split, self.seed), max(chosen, default=-1) + 1)
        yield from (RawRow(at, problem.row()) for at, problem in enumerate(stream) if at in chosen)


def open_source(config: DataConfig, splits: Sequence[str], *, commit: str | None = None) -> Source:
    """The dataset that `config` names, with these splits open. Raises `UserError`, which lists the splits.

    `commit` is the commit of a Hub dataset if it is known already.
    """
    if config.source_kind == "local":
        from training.data.local_source import LocalSource

        root = None if config.image_root is None else Path(config.image_root).expanduser()
        return LocalSource(Path(config.dataset).expanduser(), splits, root)
    if config.source_kind == "hub":
        from training.data.hub_source import HubSource

        return HubSource(config, splits, commit)
    sizes = {"train": config.train_rows or STARTER_TRAIN_ROWS}
    sizes["test"] = starter_test_rows(config) + config.validation_rows
    return StarterSource(config.seed, sizes)


def starter_test_rows(config: DataConfig) -> int:
    """Number of test problems of the starter; the validation rows follow them in the same stream."""
    return STARTER_TEST_ROWS if config.test_rows is None else config.test_rows
