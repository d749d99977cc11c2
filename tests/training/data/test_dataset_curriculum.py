"""The curriculum: easiest first, what is always or never solved left out."""

import json

import pytest
from datasets import Dataset

from inference.common.errors import UserError
from training.data.dataset import order_by_difficulty

ROWS = Dataset.from_dict({"row_id": ["a", "b", "c", "d", "e", "f"]})


def file(tmp_path, rates) -> object:
    path = tmp_path / "audit.json"
    path.write_text(json.dumps({"rollouts": {"pass_rates": rates}}))
    return path


def test_the_easiest_come_first_and_the_unmeasured_last(tmp_path) -> None:
    found = order_by_difficulty(ROWS, file(tmp_path, {"a": 0.25, "b": 1.0, "c": 0.75, "d": 0.0, "z": 0.5}))
    assert found["row_id"] == ["c", "a", "e", "f"]


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({"z": 0.5}, "none of which is a train row"),
        ({}, "none of which is a train row"),
        (dict.fromkeys("abcdef", 1.0), "always or never solves each of the 6"),
    ],
)
def test_what_cannot_order_anything_is_refused(rates, said, tmp_path) -> None:
    with pytest.raises(UserError, match=said):
        order_by_difficulty(ROWS, file(tmp_path, rates))


@pytest.mark.parametrize("text", ["", "{}", '{"rollouts": null}', '{"rollouts": {"pass_rates": {"a": "high"}}}'])
def test_a_file_without_pass_rates_is_named(text, tmp_path) -> None:
    path = tmp_path / "audit.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"audit\.json has no pass rates"):
        order_by_difficulty(ROWS, path)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        order_by_difficulty(ROWS, tmp_path / "none.json")
