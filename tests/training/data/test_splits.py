"""Who gets which row: the recipe's own numbers, and that nothing is ever in two places."""

from __future__ import annotations

import datasets
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from inference.common.errors import UserError
from training.config.data_config import read_data_config
from training.config.run_config import RECIPE_DATA
from training.data.splits import assign_rows, splits_to_open


def test_the_recipes_rows_are_exactly_its_rows() -> None:
    """About 7.7k rows, as many as give the recipe's 384 at 5 %; numbers and order must be those of `datasets`."""
    assignment = assign_rows(read_data_config(**RECIPE_DATA), {"train": 7_689})
    assert assignment.sizes == {"train": 307, "validation": 200, "test": 77}
    theirs = datasets.Dataset.from_dict({"at": range(384)}).train_test_split(test_size=0.2, seed=42)
    assert [at for _, at in assignment.keys["train"]] == list(theirs["train"]["at"])
    assert [at for _, at in assignment.keys["test"]] == list(theirs["test"]["at"])
    assert min(at for _, at in assignment.keys["validation"]) >= 384


@settings(max_examples=25)
@given(
    st.integers(3, 400),
    st.sampled_from(["train", "train[:50%]", "train[10:]", "train[-7:]"]),
    st.floats(0, 0.9),
    st.integers(0, 20),
    st.integers(0, 3),
)
def test_no_row_is_in_two_places(num: int, split: str, share: float, validation: int, seed: int) -> None:
    config = read_data_config(
        dataset="a/b", split=split, test_share=share, validation_rows=validation, seed=seed, train_rows=50
    )
    try:
        assignment = assign_rows(config, {"train": num})
    except (UserError, ValueError) as error:
        assume(not isinstance(error, UserError))
        raise
    places = [place for role in assignment.keys.values() for place in role]
    assert len(set(places)) == len(places)
    assert len(assignment.keys["validation"]) == validation
    assert len(assignment.keys["train"]) <= 50
    inside = set(config.slice.positions(num))
    assert {at for _, at in assignment.keys["train"] + assignment.keys["test"]} <= inside
    assert assign_rows(config, {"train": num}) == assignment


@settings(max_examples=25)
@given(st.integers(12, 300), st.integers(4, 12), st.floats(0.1, 0.5), st.integers(0, 10), st.integers(0, 3))
def test_no_group_is_on_two_sides(num: int, num_groups: int, share: float, validation: int, seed: int) -> None:
    values = {"test_share": share, "validation_rows": validation, "seed": seed, "group_by": "figure"}
    groups = {("train", at): str(at % num_groups) for at in range(num)}
    try:
        found = assign_rows(read_data_config(dataset="a/b", **values), {"train": num}, groups)
    except UserError as error:
        assert "group_by is figure" in str(error) or "validation_rows is" in str(error)
        return
    of = {role: {groups[key] for key in found.keys[role]} for role in found.keys}
    assert not of["train"] & of["test"] and not of["validation"] & of["test"] and not of["train"] & of["validation"]
    assert len(found.keys["test"]) >= min(round(share * num), num - 1) - 1
    assert len({key for keys in found.keys.values() for key in keys}) == sum(map(len, found.keys.values()))


def test_splits_of_their_own() -> None:
    config = read_data_config(dataset="a/b", test_split="test[:10]", validation_split="dev", validation_rows=4)
    assert splits_to_open(config) == ["train", "test", "dev"]
    assignment = assign_rows(config, {"train": 20, "test": 30, "dev": 5})
    assert assignment.sizes == {"train": 20, "validation": 4, "test": 10}
    assert set(assignment.by_split()) == {"train", "test", "dev"}
    assert assignment.by_split()["test"] == list(range(10))


def test_a_whole_split_gives_validation_out_of_train() -> None:
    config = read_data_config(dataset="a/b", test_rows=10, validation_rows=10)
    assert assign_rows(config, {"train": 100}).sizes == {"train": 80, "validation": 10, "test": 10}


def test_the_starters_rows() -> None:
    assignment = assign_rows(read_data_config(train_rows=30, test_rows=5, validation_rows=4), {})
    assert assignment.sizes == {"train": 30, "validation": 4, "test": 5}
    assert assignment.keys["test"][-1] == ("test", 4) and assignment.keys["validation"][0] == ("test", 5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"split": "train[90:95]"}, r"train\[90:95\] of a/b holds no rows: the split train has 50"),
        ({"test_rows": 50}, "test_rows is 50 and train has 50 rows"),
        ({"split": "train[:1]"}, "has 1 row"),
        ({"validation_rows": 40}, "validation_rows is 40 and train has 40 rows"),
        ({"split": "train[:80%]", "validation_rows": 11}, "there are 10 rows to take them from"),
        ({"split": "train[:30]", "test_split": "train[20:]"}, "share 10 rows; name slices that do not overlap"),
        ({"test_split": "dev", "test_rows": 9}, "test_rows is 9, and there are 3 rows"),
        ({"validation_split": "dev", "validation_rows": 4}, "there are 3 rows"),
    ],
)
def test_what_does_not_fit(values: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        assign_rows(read_data_config(dataset="a/b", **values), {"train": 50, "dev": 3})
