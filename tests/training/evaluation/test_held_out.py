"""The rows of an evaluation: kept apart from train, limited by a seeded draw, with what guessing would score."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from inference.common.errors import UserError
from tests.support import datasets_on_disk
from tests.support.hub.client import Client
from tests.support.hub.repos import Hub
from training.config.data_config import read_data_config
from training.config.run_config import load_config
from training.data.dataset import load_rows
from training.evaluation.held_out import load_held_out, majority_baselines, sizes_and_keys, swap
from training.evaluation.report import Report
from training.grading.grader import gold_answer
from training.starter.problems import load_problems

SIZES = [(28, 28), (29, 28), (56, 56), (448, 448), (1280, 720), (720, 1280), (3, 3)]
ROWS = st.lists(st.tuples(st.sampled_from(SIZES), st.integers(0, 12)), min_size=2, max_size=40)


def folder_config(tmp_path: Path, **values: Any) -> Any:
    folder = datasets_on_disk.write_folder(tmp_path / "pictures", 24)
    return read_data_config(dataset=str(folder), **values)


def test_the_starter_is_the_default() -> None:
    found = load_held_out(None, "test", 4, seed=3)
    assert found.rows["problem"] == load_problems("test", 4, 3)["problem"]
    assert found.about == {"dataset": "starter", "role": "test"}
    assert set(found.baselines) == {"majority by template", "majority by template, choices apart"}
    validation = load_held_out(None, "validation", 4, seed=3)
    assert [a != b for a, b in zip(validation.rows["image"], found.rows["image"])] == [True] * 4


def test_roles_of_a_dataset_share_no_row(tmp_path: Path) -> None:
    config = folder_config(tmp_path, test_rows=6, validation_rows=5)
    test, validation = (load_held_out(config, role) for role in ("test", "validation"))
    assert (len(test.rows), len(validation.rows)) == (6, 5)
    assert not set(test.rows["row_id"]) & set(validation.rows["row_id"])
    assert test.about["dataset"] == "pictures", "a path means nothing elsewhere"
    assert test.about["role"] == "test" and validation.about["role"] == "validation"


def test_rows_are_drawn_with_a_seed(tmp_path: Path) -> None:
    config = folder_config(tmp_path, test_rows=12)
    whole = load_held_out(config, "test").rows["row_id"]
    some, same, others = (load_held_out(config, "test", 5, seed).rows["row_id"] for seed in (0, 0, 1))
    assert some == same != others
    assert [row for row in whole if row in set(some)] == some, "in the order they have"
    assert load_held_out(config, "test", 99).rows["row_id"] == whole


def test_most_frequent_train_answer(tmp_path: Path) -> None:
    """Ten train rows say 5, two say 6; of four test rows three say 5."""
    rows = datasets_on_disk.rows(16)
    for i, row in enumerate(rows):
        row["solution"] = "6" if i in (0, 1, 12) else "5"
        row["image"] = f"{i}.png"
        (tmp_path / f"{i}.png").write_bytes(datasets_on_disk.picture(i))
    files = [
        datasets_on_disk.write_lines(tmp_path / f"{n}.jsonl", some)
        for n, some in (("train", rows[:12]), ("test", rows[12:]))
    ]
    config = read_data_config(dataset=str(files[0].parent), test_split="test")
    found = load_held_out(config, "test")
    assert len(found.rows) == 4
    assert found.baselines["most frequent train answer of its kind"].value == 0.75
    assert "dropped" not in found.about
    (tmp_path / "14.png").unlink()
    assert load_held_out(config, "test").about["dropped"] == "1 picture missing"
    assert "left out: 1 picture missing." in Report(["a"], {}, {"dropped": "1 picture missing"}).summary()


@pytest.mark.parametrize(
    ("role", "num_rows", "message"),
    [
        ("train", None, "--role is train: rows that were trained on show nothing; choose test or validation"),
        ("validation", None, "no validation rows as it is split; give --validation-rows"),
        ("test", 0, "the number of rows is 0; give at least 1"),
    ],
)
def test_what_cannot_be_had(tmp_path: Path, role: str, num_rows: int | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_held_out(folder_config(tmp_path), role, num_rows)


def test_majority_baselines(problems: Any) -> None:
    baselines = majority_baselines(problems, num_samples=50)
    assert all(0 <= e.value <= 0.6 and e.num_rows == len(problems) for e in baselines.values())
    letters = [gold_answer(s) == "A" for s, p in zip(problems["solution"], problems["problem"]) if "Choices" in p]
    assert baselines["majority by template, choices apart"].value * len(problems) >= sum(letters)


def test_the_recipes_validation_is_200_rows_outside_its_slice(hub: Hub, hub_client: Client) -> None:
    """On a dataset of its name with 400 rows: 5 % are 20, cut by `datasets` itself into 16 and 4."""
    recipe = load_config("recipe").data
    hub.repo("dataset", recipe.dataset).commit(datasets_on_disk.shards(datasets_on_disk.rows(400)))
    splits = load_rows(recipe)
    positions = {
        role: [int(row_id.split("-")[1]) for row_id in getattr(splits, role)["row_id"]]
        for role in ("train", "validation", "test")
    }
    cut = Dataset.from_dict({"at": list(range(20))}).train_test_split(test_size=0.2, seed=42)
    assert (positions["train"], positions["test"]) == (cut["train"]["at"], cut["test"]["at"])
    assert len(set(positions["validation"])) == 200 and min(positions["validation"]) >= 20
    assert len(load_held_out(recipe, "validation").rows) == 200 and len(load_held_out(recipe, "test").rows) == 4


@given(rows=ROWS, seed=st.integers(0, 9))
def test_everyone_gets_another_picture_and_none_is_lost(rows: list[tuple[tuple[int, int], int]], seed: int) -> None:
    sizes, keys = [size for size, _ in rows], [f"{size}-{number}" for size, number in rows]
    most = Counter(keys).most_common(1)[0][1]
    if 2 * most > len(rows):
        with pytest.raises(UserError, match=f"{most} have the same picture"):
            swap(sizes, keys, seed)
        return
    partners = swap(sizes, keys, seed)
    assert sorted(partners) == list(range(len(rows)))
    assert all(keys[row] != keys[partner] for row, partner in enumerate(partners))
    assert partners == swap(sizes, keys, seed)


def test_pictures_of_one_size_trade_among_themselves() -> None:
    sizes = [(28, 28), (448, 448)] * 10 + [(29, 28), (28, 29)]
    partners = swap(sizes, [str(i) for i in range(22)], seed=1)
    assert {sizes[partners[i]] for i in range(20) if sizes[i] == (448, 448)} == {(448, 448)}
    assert {sizes[partners[i]] for i in (20, 21)} == {(29, 28), (28, 29)}, "two of about one size trade with each other"
    assert partners != swap(sizes, [str(i) for i in range(22)], seed=2)


def test_a_picture_without_its_like_joins_the_next_larger() -> None:
    assert sorted(swap([(3, 3), (448, 448), (448, 448)], ["a", "b", "c"], seed=0)) == [0, 1, 2]


def test_sizes_and_keys_of_rows(problems: Any) -> None:
    sizes, keys = sizes_and_keys(problems.select([0, 1, 0]))
    assert sizes == [(448, 448)] * 3
    assert keys[0] == keys[2] != keys[1]
