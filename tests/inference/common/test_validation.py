"""What pydantic refuses, in one line with the setting, its value and the remedy."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from inference.common.validation import MAX_SHOWN_CHARS, explain
from training.config.data_config import DataConfig
from training.config.run_config import RunConfig


@pytest.mark.parametrize(
    ("model", "values", "said"),
    [
        (RunConfig, {"seed": -1}, "seed is -1: Input should be greater than or equal to 0"),
        (RunConfig, {"sed": 1}, "sed is not a setting; the nearest are seed, "),
        (RunConfig, {"se\nd": 1}, "se?d is not a setting; the nearest are seed, "),
        (RunConfig, {"sed" * 9999: 1}, "sedsedsed"),
        (RunConfig, {"data": {"sed": 1}}, "data.sed is not a setting; there are columns, dataset"),
        (RunConfig, {"data": {"split": "a-b"}}, "data.split is 'a-b': 'a-b' is not a split; write train"),
        (RunConfig, {"data": {"test_rows": 1, "test_share": 0.5}}, "data: test_share 0.5 and test_rows 1 are both set"),
        (RunConfig, {"rewards": {}}, "no reward has a weight above 0"),
        (RunConfig, {"rewards": 3}, "rewards is 3: write it as {name: value, name: value}"),
        (DataConfig, {"columns": {"frage": "x"}}, "columns: frage is not a column of a row"),
        (RunConfig, {"base": ["x" * 9999]}, "base is ['xxx"),
    ],
)
def test_the_first_mistake_in_one_line(model: type[BaseModel], values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        model(**values)
    found = explain(caught.value, model)
    assert found.startswith(said) and "\n" not in found
    assert len(found) < MAX_SHOWN_CHARS + 400
