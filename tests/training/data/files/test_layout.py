"""Which files of a dataset make which split: by the names alone, and what a folder's reader says of it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from tests.support.datasets_on_disk import parquet, picture, rows, write_folder, write_lines
from training.config.data_config import read_data_config
from training.data.files.layout import not_read, split_files
from training.data.local_source import LocalSource
from training.data.source import row_shape

SPARK = "part-0000{}-1c1c9d8e-0b1a-4c1d-9f5e-2a2f3b4c5d6e"
CASES: dict[str, tuple[list[str], dict[str, list[int]], list[str]]] = {
    "a split after a dot": (["a.test.jsonl", "a.train.jsonl"], {"test": [0], "train": [1]}, []),
    "a split after a version": (["v1.5_train.jsonl", "v1.5_test.jsonl"], {"train": [0], "test": [1]}, []),
    "bare shard numbers": (["0000.parquet", "0001.parquet"], {"train": [0, 1]}, []),
    "shards of a split": (["train/0000.parquet", "test/0000.parquet"], {"train": [0], "test": [1]}, []),
    "Spark": ([f"{SPARK.format(n)}-c000.snappy.parquet" for n in (0, 1)], {"train": [0, 1]}, []),
    "Spark, packed": ([f"{SPARK.format(n)}.c000.json.gz" for n in (0, 1)], {"train": [0, 1]}, []),
    "a split as a partition": (["split=train/part-0.csv", "split=test/part-0.csv"], {"train": [0], "test": [1]}, []),
    "partitions of other columns": (["year=1/part-0.csv", "year=2/part-0.csv"], {"train": [0, 1]}, []),
    "shards of which some are packed": (["a-0.jsonl", "a-1.jsonl.gz"], {"train": [0, 1]}, []),
    "numbered without zeros": (["geo_1.jsonl", "geo_2.jsonl", "geo_10.jsonl"], {"train": [0, 1, 2]}, []),
    "metadata in the pictures' folder": (["images/metadata.jsonl"], {"train": [0]}, []),
    "and in one for each split": (
        ["images/test/metadata.csv", "images/train/metadata.csv"],
        {"test": [0], "train": [1]},
        [],
    ),
    "metadata in any folder": (["charts/metadata.csv"], {"train": [0]}, []),
    "two formats": (["train.jsonl", "train.parquet"], {"train": [1]}, ["train.parquet is read and not train.jsonl"]),
    "two formats, one packed": (["a.jsonl", "a.jsonl.gz"], {"train": [0]}, ["a.jsonl is read and not a.jsonl.gz"]),
    "two formats of shards": (
        ["data/train-00000-of-00001-0a1b2c.parquet", "train.json"],
        {"train": [0]},
        ["0a1b2c.parquet is read and not train.json"],
    ),
    "two formats of metadata": (["metadata.csv", "metadata.jsonl"], {"train": [1]}, ["not metadata.csv"]),
    "pictures packed beside their table": (["00000.parquet", "00000.tar"], {"train": [1]}, ["not 00000.parquet"]),
    "two formats of other rows": (["train_a.jsonl", "train_b.csv"], {"train": [0, 1]}, []),
    "a file without a split": (["notes.csv", "train.csv"], {"train": [1]}, ["not read: notes.csv"]),
    "rows beside metadata": (["metadata.csv", "old.csv"], {"train": [0]}, ["not read: old.csv"]),
    "sets of other names": (["geo.jsonl", "math.jsonl"], {"geo": [0], "math": [1]}, []),
}


@pytest.mark.parametrize("name", CASES)
def test_the_files_of_each_split(name: str) -> None:
    names, expected, notes = CASES[name]
    chosen = split_files([PurePosixPath(one) for one in names], "The folder x", str)
    assert {split: [str(one) for one in found] for split, found in chosen.splits.items()} == {
        split: [names[at] for at in found] for split, found in expected.items()
    }
    assert len(chosen.notes) == len(notes) and all(part in said for part, said in zip(notes, chosen.notes))


def test_files_without_rows_are_named_in_short() -> None:
    left = [*map("notes{}.txt".format, range(7)), "_SUCCESS", ".part-0.crc", "a.parquet.crc", "README.md", "1.PNG"]
    [note] = not_read(map(PurePosixPath, left))
    assert note == "not read: notes0.txt, notes1.txt, notes2.txt, notes3.txt, notes4.txt and 2 more"


def test_the_reading_line_names_what_is_not_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set" / "images", 3).parent
    (folder / "notes.txt").write_text("mine")
    (folder / "_SUCCESS").touch()
    source = LocalSource(folder, ["train"])
    words = row_shape(read_data_config(dataset=str(folder)), source, "train").words
    assert words.endswith("solution = solution; not read: notes.txt"), words
    assert source.sizes == {"train": 3}


def test_the_same_rows_in_two_formats_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(parquet(rows(3)))
    (tmp_path / "0.png").write_bytes(picture(0))
    write_lines(tmp_path / "train.jsonl", [{"image": "0.png", "problem": "What?", "solution": "7"}] * 3)
    source = LocalSource(tmp_path, ["train"])
    assert source.sizes == {"train": 3}
    assert source.notes == ["train.parquet is read and not train.jsonl, which has its name in another format"]
