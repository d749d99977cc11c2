"""A column that names the split of each row: it decides, it is said, and what it leaves empty is told in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
import pytest

from inference.common.errors import UserError
from tests.support.datasets_on_disk import parquet, rows, write_lines
from training.data.local_source import LocalSource
from training.data.refusals import Refusal


def lines(*values: object, column: str = "split") -> list[dict[str, object]]:
    return [{"problem": f"What is {at}?", "solution": "7", column: value} for at, value in enumerate(values)]


def numbers(source: LocalSource, split: str) -> list[str]:
    found = source.rows(split, range(source.sizes[split]), ["problem"])
    return ["?" if isinstance(raw.cells, Refusal) else str(raw.cells["problem"]).split()[2][0] for raw in found]


MIXED = ["train", "test", "Train", "val", "train", None, "TEST "]
CASES: dict[str, tuple[Mapping[str, Sequence[dict[str, object]]], list[str], dict[str, str], str]] = {
    "one file": (
        {"data.jsonl": lines(*MIXED)},
        ["train", "test", "val"],
        {"train": "024", "test": "16", "validation": "3"},
        "train = the 3 of 7 rows whose split says so",
    ),
    "shards": (
        {"0.jsonl": lines("train", "test"), "1.jsonl": lines("test", "dev")},
        ["train", "test", "dev"],
        {"test": "10"},
        "test = the 2 of 4",
    ),
    "a file of its split": ({"train.jsonl": lines("train", "train")}, ["train"], {"train": "01"}, ""),
    "a file with others among them": (
        {"train.jsonl": lines("train", "val"), "test.jsonl": lines("test")},
        ["train", "test"],
        {"train": "0", "test": "0"},
        "train = the 1 of 2 rows whose split says so: of others the names of the files say train, and the column says "
        "val (to read all, rename the column)",
    ),
    "files that were cut anew": (
        {"train.jsonl": lines("train", "test", "train", "val"), "test.jsonl": lines("train", "test")},
        ["test", "train"],
        {"train": "02", "test": "1"},
        "train = the 2 of 4 rows whose split says so: of others the names of the files say train, and the column says "
        "test, val (to read all, rename the column); test = the 1 of 2 rows whose split says so: of others the names "
        "of the files say test, and the column says train",
    ),
    "files that were cut from one split": (
        {"train.jsonl": lines("train", "train"), "test.jsonl": lines("train"), "val.jsonl": lines("train")},
        ["test", "train", "val"],
        {"train": "01", "test": "0"},
        "the column 'split' is not read: it says train in all files",
    ),
    "another word for it": (
        {"dev.jsonl": lines("validation"), "test.jsonl": lines("test")},
        ["dev", "test"],
        {"dev": "0"},
        "",
    ),
    "another split among them": (
        {"a.jsonl": lines("train", "hidden", "train_hard")},
        ["train", "hidden", "train_hard"],
        {"hidden": "1"},
        "hidden = the 1",
    ),
    "with a number": ({"a.jsonl": lines("train2014", "test-1")}, ["train", "test"], {"test": "1"}, "test = the 1 of 2"),
    "another name of the column": (
        {"a.jsonl": lines("train", "test", column="Partition")},
        ["train", "test"],
        {"test": "1"},
        "whose Partition says so",
    ),
    "a column of other things": (
        {"a.jsonl": lines("easy", "hard")},
        ["train"],
        {"train": "01"},
        "the column 'split' names no split such as train or test, and is not read as one",
    ),
    "sets": ({"a.jsonl": lines("train set", "test set")}, ["train", "test"], {"test": "1"}, "test = the 1 of 2"),
    "training sets": ({"a.jsonl": lines("Test Set", "Training-set")}, ["train", "test"], {"train": "1"}, "the 1 of 2"),
    "a split's": ({"a.jsonl": lines("train_split", "test_split")}, ["train", "test"], {"train": "0"}, "the 1"),
    "with a language": ({"a.jsonl": lines("train/en", "test/de")}, ["train", "test"], {"train": "0"}, "the 1 of 2"),
    "numbered": ({"a.jsonl": lines("1.train", "2.test")}, ["train", "test"], {"train": "0"}, "the 1 of 2"),
    "a subset of other things": (
        {"a.jsonl": lines("train", "geometry", column="subset")},
        ["train"],
        {"train": "01"},
        "",
    ),
    "numbers": ({"a.jsonl": lines(1, 2)}, ["train"], {"train": "01"}, "names no split such as train or test"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_rows_of_the_split_that_is_asked_for(tmp_path: Path, name: str) -> None:
    files, names, expected, note = CASES[name]
    for file, some in files.items():
        write_lines(tmp_path / file, some)
    source = LocalSource(tmp_path, list(expected))
    assert sorted(source.names) == sorted(names)
    assert {split: "".join(numbers(source, split)) for split in expected} == expected
    assert (note in "; ".join(source.notes)) if note else not source.notes


def test_all_rows_are_asked_for_their_split(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [*lines(*["restval"] * 1_100), *lines("train", "test", "train")])
    source = LocalSource(tmp_path, ["train"])
    assert source.sizes == {"train": 2} and source.names == ["train", "restval", "test"]


def test_positions_are_those_among_the_rows_of_the_split(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [*lines(*["train", "test"] * 9), '{"broken'])
    source = LocalSource(tmp_path / "a.jsonl", ["train", "test"])
    found = list(source.rows("test", [1, 4, 8], ["problem"]))
    assert [raw.position for raw in found] == [1, 4, 8]
    assert [raw.cells["problem"] for raw in found] == [f"What is {at}?" for at in (3, 9, 17)]  # type: ignore[index]
    assert source.sizes == {"train": 10, "test": 9} and numbers(source, "train")[-1] == "?"


def test_a_column_of_parquet_and_of_csv(tmp_path: Path) -> None:
    some = [row | {"split": "test" if at % 3 else "train"} for at, row in enumerate(rows(9))]
    (tmp_path / "a.parquet").write_bytes(parquet(some))
    assert LocalSource(tmp_path / "a.parquet", ["test"]).sizes == {"test": 6}
    (tmp_path / "a.csv").write_text("problem,solution,split\n" + "p,1,train\np,2,val\n" * 4)
    assert LocalSource(tmp_path / "a.csv", ["val"]).sizes == {"val": 4}


@pytest.mark.parametrize(
    ("name", "places", "sizes"),
    [
        ("metadata", ["train/images", "test/images"], {"train": 3, "test": 3}),
        ("metadata", ["images/train2014", "images\\val2014"], {"train": 3, "val": 3}),
        ("metadata", ["train", "other"], {"train": 6}),
        ("metadata", ["test", "test"], {"train": 6}),
        ("rows", ["train2014", "val2014"], {"train": 6}),
    ],
)
def test_metadata_above_the_folders_of_splits(
    tmp_path: Path, name: str, places: list[str], sizes: dict[str, int]
) -> None:
    some = [row | {"file_name": f"{places[at % 2]}/{at}.png"} for at, row in enumerate(lines(*"abcdef", column="x"))]
    write_lines(tmp_path / f"{name}.jsonl", some)
    (tmp_path / "0.png").touch()
    source = LocalSource(tmp_path, list(sizes))
    assert source.sizes == sizes
    assert ("train = the 3 of 6 rows whose file_name says so" in source.notes) == (len(sizes) > 1)


@pytest.mark.parametrize("is_saved", [True, False])
def test_splits_that_were_saved_go_before_a_column_of_their_rows(tmp_path: Path, is_saved: bool) -> None:
    """After `train_test_split` the rows still say which split they were of."""
    if is_saved:
        whole = datasets.Dataset.from_list(lines("train", "test", "test", "train"))
        datasets.DatasetDict(train=whole.select([1, 3, 0]), test=whole.select([2])).save_to_disk(tmp_path / "set")
    else:
        for split, values in (("train", ["test", "train", "train"]), ("test", ["test"])):
            some = [row | line for row, line in zip(rows(3), lines(*values))]
            (tmp_path / "set" / "data").mkdir(parents=True, exist_ok=True)
            (tmp_path / "set" / "data" / f"{split}-00000-of-00001.parquet").write_bytes(parquet(some))
    source = LocalSource(tmp_path / "set", ["train", "test"])
    assert source.sizes == {"train": 3, "test": 1}
    assert source.notes == ["the column 'split' is not read: the splits are those that were saved"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.jsonl": ["test", "val"]}, "by its column 'split', has no split 'train'; it has test, val. .*--split test"),
        ({"a.jsonl": ["public_train", "private_test"]}, "has no split 'train'; it has public_train, private_test"),
        ({"a.jsonl": ["trainval", "test"]}, "has no split 'train'; it has trainval, test. .*--split trainval"),
        ({"train.jsonl": ["test"]}, "by its column 'split', has no split 'train'; it has test"),
        (
            {"train.jsonl": ["val"], "test.jsonl": ["test"]},
            "files of train in set hold no row of train: their column 'split' says val. Give the path .*--split val",
        ),
        ({"train.jsonl": ["val"], "val.jsonl": ["val", "test"]}, "files of train in set hold no row of train"),
    ],
)
def test_a_split_without_rows_is_told_in_words(tmp_path: Path, files: dict[str, list[str]], words: str) -> None:
    for name, values in files.items():
        write_lines(tmp_path / "set" / name, map(json.dumps, lines(*values)))
    with pytest.raises(UserError, match=words):
        LocalSource(tmp_path / "set", ["train"])


def test_two_words_for_one_split_are_refused(tmp_path: Path) -> None:
    write_lines(tmp_path / "val.jsonl", lines("val"))
    write_lines(tmp_path / "train.jsonl", lines("train"))
    with pytest.raises(UserError, match="val and validation are one split of .*: val. Name another"):
        LocalSource(tmp_path, ["val", "validation"])
