"""`DataConfig`: the dataset of a run, its splits and the limits of its rows; validated once.

    >>> read_data_config(dataset="owner/name", split="train[:5%]").slice
    Slice(name='train', start=None, stop=5, percent=True)

No torch and no datasets here: a wrong setting is refused before anything loads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from inference.common.errors import UserError
from inference.common.hub_names import is_hub_name
from inference.common.settings import DEFAULT_LIMITS
from inference.common.validation import explain

STARTER = "starter"
COLUMNS = ("image", "problem", "solution", "original_question", "original_answer", "kind")
"""The columns of a row; the first three are required."""
REQUIRED = COLUMNS[:3]
MAPPABLE = (*COLUMNS, "options")
"""The columns that the dataset may have under other names; options become part of the problem."""
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_SPLIT = re.compile(r"(?P<name>\w+(?:\.\w+)*)(?:\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")
_NOT_FOR_STARTER = ("revision", "subset", "split", "test_split", "validation_split", "columns", "group_by")


@dataclass(frozen=True)
class Slice:
    """A split and a range of its rows, as in `train[:5%]`, with the meaning and rounding of `datasets`."""

    name: str
    start: int | None = None
    stop: int | None = None
    percent: bool = False

    @classmethod
    def parse(cls, text: str) -> Slice:
        """Reads `name`, `name[a:b]` or `name[a%:b%]`; raises `ValueError` with the remedy."""
        match = _SPLIT.fullmatch(text.replace(" ", ""))
        if match is None:
            raise ValueError(f"{text!r} is not a split; write train, train[:200], train[100:200] or train[:5%]")
        ends = [match["start"], match["stop"]]
        percents = {end.endswith("%") for end in ends if end}
        if len(percents) > 1:
            raise ValueError(f"{text!r} mixes rows and percent; write train[100:200] or train[:5%]")
        start, stop = (int(end.rstrip("%")) if end else None for end in ends)
        parsed = cls(match["name"], start, stop, True in percents)
        if parsed.percent and any(end is not None and abs(end) > 100 for end in (start, stop)):
            raise ValueError(f"{text!r} asks for more than 100 %; write for example train[:5%]")
        return parsed

    @property
    def is_whole(self) -> bool:
        return self.start is None and self.stop is None

    def positions(self, num_rows: int) -> range:
        """The indices of its rows in a split of `num_rows`; percents are rounded to the nearest row."""

        def row(end: int | None, default: int) -> int:
            if end is None:
                return default
            at = round(end * num_rows / 100.0) if self.percent else end
            return min(max(num_rows + at, 0) if at < 0 else at, num_rows)

        start = row(self.start, 0)
        return range(start, max(start, row(self.stop, num_rows)))


class DataConfig(BaseModel):
    """The dataset, its splits, and the limits beyond which a row is dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = Field(
        STARTER, description="`starter`, a Hub id `owner/name`, or a folder or file of JSON, CSV, Parquet, Arrow or tar"
    )
    revision: str | None = Field(
        None, description="branch, tag or commit of a Hub dataset; pin a commit to repeat a run"
    )
    subset: str | None = Field(None, description="configuration, or folder, of a Hub dataset that has several")
    split: str = Field("train", description="the split that is cut into train and test, or a slice: train[:5%]")
    test_split: str | None = Field(None, description="take the test rows from this split instead of cutting them off")
    validation_split: str | None = Field(None, description="take the validation rows from this split")
    test_share: float = Field(0.2, ge=0, lt=1, description="share of the split's rows that becomes test")
    test_rows: int | None = Field(None, ge=0, description="number of test rows, instead of a share (starter: 200)")
    train_rows: int | None = Field(None, ge=1, description="train rows at most (starter: exactly, 1,000)")
    validation_rows: int = Field(
        0,
        ge=0,
        description="rows to choose a checkpoint by: outside the slice, or out of train if there is none",
    )
    seed: int = Field(42, ge=0, lt=2**32, description="seed of the split's shuffle, and of the starter problems")
    group_by: str | None = Field(
        None, description="column whose equal values stay on one side of the split, such as a figure's name; or image"
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="our column names to the dataset's: {problem: question, solution: answer}"
    )
    image_root: str | None = Field(
        None, description="folder of the pictures that rows name, where it is not the dataset's (local datasets)"
    )
    max_pixels: int | None = Field(
        DEFAULT_LIMITS.max_model_pixels,
        ge=784,
        le=16_777_216,
        description="larger pictures are scaled down to this; none leaves them as they come",
    )
    max_prompt_tokens: int | None = Field(
        None, ge=16, description="rows whose prompt is longer, picture tokens included, are dropped"
    )
    drop_repeats: bool = Field(
        True, description="drop train rows that are in test or validation too, and validation rows that are in test"
    )
    drop_unreadable: bool = Field(True, description="drop rows in whose solution the grader can read no answer")

    tolerance: float = Field(
        0.0, ge=0, lt=1, description="relative error that a number may have and still be right, such as 0.05 (0: exact)"
    )

    @field_validator("dataset")
    @classmethod
    def _names_a_dataset(cls, value: str) -> str:
        value = value.strip()
        if not value or _URL.match(value):
            raise ValueError("give `starter`, a Hub id such as owner/name, or a path; addresses are not fetched")
        return value

    @field_validator("split", "test_split", "validation_split")
    @classmethod
    def _is_a_split(cls, value: str | None) -> str | None:
        if value is not None:
            Slice.parse(value)
        return value

    @field_validator("columns")
    @classmethod
    def _maps_known_columns(cls, value: dict[str, str]) -> dict[str, str]:
        unknown = sorted(set(value) - set(MAPPABLE))
        if unknown:
            raise ValueError(f"{', '.join(unknown)} is not a column of a row; map some of {', '.join(MAPPABLE)}")
        if empty := [ours for ours, theirs in value.items() if not theirs.strip()]:
            raise ValueError(f"the column for {empty[0]} has no name; write {{{empty[0]}: its_name}}, or leave it out")
        return value

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        present = self.model_fields_set
        is_share_set = "test_share" in present and self.test_share != type(self).model_fields["test_share"].default
        if is_share_set and self.test_rows is not None:
            raise ValueError(f"test_share {self.test_share} and test_rows {self.test_rows} are both set; keep one")
        if is_share_set and self.test_split is not None:
            raise ValueError(f"test_split {self.test_split} and test_share {self.test_share} are both set; keep one")
        if self.validation_split is not None and not self.validation_rows:
            raise ValueError(f"validation_split is {self.validation_split}, validation_rows 0; ask for at least 1 row")
        for name in ("test_split", "validation_split"):
            if (other := getattr(self, name)) is not None and Slice.parse(other) == self.slice:
                raise ValueError(f"{name} is {other}, the same as split; name another split or slice")
        wrong = [
            name for name in _NOT_FOR_STARTER if name in present and getattr(self, name) not in (None, {}, "train")
        ]
        if self.is_starter and wrong:
            raise ValueError(f"the starter problems have no {wrong[0]}; leave it out, or name another dataset")
        if self.image_root is not None and self.source_kind != "local":
            raise ValueError(f"image_root is for datasets on this machine, and {self.dataset} is none; leave it out")
        if not self.is_hub and not self.is_starter and (self.revision or self.subset):
            wrong = ["revision" if self.revision else "subset"]
            raise ValueError(f"{wrong[0]} is for datasets of the Hub, and {self.dataset} is a path; leave it out")
        return self

    @property
    def slice(self) -> Slice:
        """`split`, parsed."""
        return Slice.parse(self.split)

    @property
    def has_test_rows(self) -> bool:
        """True if the report has test rows."""
        if self.test_rows is not None:
            return self.test_rows > 0
        return self.is_starter or self.test_split is not None or self.test_share > 0

    @property
    def is_starter(self) -> bool:
        return self.dataset == STARTER

    @property
    def is_hub(self) -> bool:
        """True for a Hub id; a path that exists here wins over an id of the same form."""
        return self.source_kind == "hub"

    @property
    def source_kind(self) -> Literal["starter", "hub", "local"]:
        """The kind of the dataset's source; one with a revision is on the Hub, whatever path exists here."""
        if self.is_starter:
            return "starter"
        if self.revision and is_hub_name(self.dataset):
            return "hub"
        exists_here = Path(self.dataset).expanduser().exists()
        return "local" if exists_here or not is_hub_name(self.dataset) else "hub"


def check_there(dataset: str) -> None:
    """Raises `UserError` for a path at which nothing is; names of the Hub are not looked up."""
    if _URL.match(dataset.strip()):
        raise UserError(f"The dataset is {dataset[:200]}; addresses are not fetched. Download it and give its path.")
    if dataset != STARTER and not is_hub_name(dataset) and not Path(dataset).expanduser().exists():
        raise UserError(
            f"There is no dataset {dataset}: no such file or folder, and it is not a Hub id (owner/name). "
            "Check the name, or use `starter`."
        )


def check_image_root(folder: Path) -> None:
    """Raises `UserError` for a folder of pictures that is not there."""
    if not folder.is_dir():
        raise UserError(f"image_root is {folder}, and there is no such folder; name the folder of the pictures")


def read_data_config(**values: Any) -> DataConfig:
    """A checked `DataConfig`; a `UserError` names the setting, its value and the remedy."""
    try:
        return DataConfig(**values)
    except ValidationError as error:
        raise UserError(explain(error, DataConfig)) from None
