"""Number of a run's train rows before its data are read: from files here, the Hub's metadata, or what is known.

count_rows(load_config("a100").data).num        # no download
"""

from __future__ import annotations

from dataclasses import dataclass

from inference.common.background import CachedAnswers
from inference.common.errors import UserError
from inference.common.hub_errors import HubUnreachable
from training.config.data_config import DataConfig
from training.data.open_source import open_source
from training.data.splits import assign_rows, splits_to_open

KNOWN_SIZES = {"lmms-lab/multimodal-open-r1-8k-verified": {"train": 7_689}}
"""Rows of datasets that profiles name, by their cards in November 2026; used where the Hub is not reached."""
ASSUMED_ROWS = 10_000
"""Train rows of a dataset whose size is not known."""
_KEPT_SECONDS, _RETRY_SECONDS = 3600.0, 60.0


@dataclass(frozen=True)
class RowCount:
    """A number of train rows."""

    num: int
    words: str = ""
    """A sentence if the number is assumed."""


def count_rows(data: DataConfig) -> RowCount:
    """The train rows of a dataset. Raises `UserError` for one that is not there, or whose rows do not fit the settings.

    Rows that will be dropped are counted, since they are not read. The Hub is asked in the background, and not again
    within an hour.
    """
    answer = _counts.get(data.model_dump_json()) if data.is_hub else _count(data)
    if isinstance(answer, UserError):
        raise answer
    return answer or _assumed(data, "the Hub has not answered yet")


def _count(data: DataConfig) -> RowCount:
    if data.is_hub:
        from training.data.hub_source import published_sizes

        try:
            sizes = published_sizes(data)
        except HubUnreachable:
            return _assumed(data, "the Hub cannot be reached")
        if not sizes.keys() >= set(splits_to_open(data)):
            return _assumed(data, "its card does not tell")
    else:
        sizes = {} if data.is_starter else open_source(data, splits_to_open(data)).sizes
    return RowCount(assign_rows(data, sizes).sizes["train"])


def _assumed(data: DataConfig, reason: str) -> RowCount:
    if (known := KNOWN_SIZES.get(data.dataset)) and known.keys() >= set(splits_to_open(data)):
        return RowCount(assign_rows(data, known).sizes["train"])
    if data.train_rows:
        return RowCount(data.train_rows)
    return RowCount(
        ASSUMED_ROWS,
        f"The number of rows of {data.dataset} is not known ({reason}): {ASSUMED_ROWS:,} are assumed; with another "
        "number the time changes in proportion",
    )


def _answer(data: str) -> RowCount | UserError:
    try:
        return _count(DataConfig.model_validate_json(data))
    except UserError as error:
        return error


_counts: CachedAnswers[str, RowCount | UserError] = CachedAnswers(
    _answer, lambda answer: _RETRY_SECONDS if isinstance(answer, UserError) or answer.words else _KEPT_SECONDS
)
