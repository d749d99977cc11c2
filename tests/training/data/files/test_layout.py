"""Which files of a dataset make which split: by the names alone, and what a folder's reader says of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path, PurePosixPath

import pytest

from inference.common.errors import UserError
from tests.support.datasets_on_disk import parquet, picture, rows, write_folder, write_lines
from training.config.data_config import read_data_config
from training.data.files.layout import not_read, split_files
from training.data.local_source import LocalSource
from training.data.source import no_such_split, row_shape

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
    "two formats of other rows": (
        ["train_a.jsonl", "train_b.csv"],
        {"train": [0, 1]},
        ["train is train_a.jsonl, train_b.csv"],
    ),
    "two formats of other shards": (["train_1.csv", "train_2.jsonl"], {"train": [0, 1]}, []),
    "shards of which one is there twice": (
        ["train_1.csv", "train_2.csv", "train_2.jsonl"],
        {"train": [0, 2]},
        ["train_2.jsonl is read and not train_2.csv"],
    ),
    "shards without a separator": (["train1.jsonl", "train2.jsonl"], {"train": [0, 1]}, []),
    "a folder beside the splits": (
        ["samples/train.jsonl", "test.jsonl", "train.jsonl"],
        {"test": [1], "train": [2]},
        ["not read: samples/train.jsonl"],
    ),
    "train and validation in one file": (
        ["test.json", "trainval.json"],
        {"test": [0], "train": [1]},
        ["train is trainval"],
    ),
    "numbered shards": (["train_100.jsonl", "train_101.jsonl"], {"train": [0, 1]}, []),
    "one size of each": (["test_1k.jsonl", "train_10k.jsonl"], {"test": [0], "train": [1]}, []),
    "one fold of each": (["train_fold0.csv", "val_fold0.csv"], {"train": [0], "val": [1]}, []),
    "a size beside all": (["train.csv", "train_1k.csv"], {"train": [0]}, ["not read beside train.csv: train_1k.csv"]),
    "sizes of two sets": (
        ["train/geo_100.csv", "train/geometry_5k.csv", "train/math_10k.csv", "train/sets_200.csv"],
        {"train": [0, 1, 2, 3]},
        ["train is train/geo_100.csv"],
    ),
    "shards of one size": (["train_10k_1.csv", "train_10k_2.csv"], {"train": [0, 1]}, []),
    "shards of years": (
        ["train_2019.jsonl", "train_2020.jsonl"],
        {"train": [0, 1]},
        ["train is train_2019.jsonl, train_2020.jsonl"],
    ),
    "other files in a split's folder": (
        ["train/algebra.jsonl", "train/geometry.jsonl"],
        {"train": [0, 1]},
        ["train is train/algebra.jsonl, train/geometry.jsonl"],
    ),
    "splits as `datasets` names them": (
        ["data/train_hard-00000-of-00001.parquet", "data/testmini-00000-of-00001-0a1b2c.parquet"],
        {"train_hard": [0], "testmini": [1]},
        [],
    ),
    **{
        f"another edition, {name}": (
            sorted(["train.jsonl", "test.jsonl", name]),
            {
                split: [sorted(["train.jsonl", "test.jsonl", name]).index(f"{split}.jsonl")]
                for split in ("train", "test")
            },
            [f"not read beside train.jsonl: {name}"],
        )
        for name in [
            "train_old.jsonl",
            "train (copy).jsonl",
            "train (1).jsonl",
            "Copy of train.jsonl",
            "train - Kopie.jsonl",
            "train_backup.csv",
            "train-v1/0000.jsonl",
            "train-v1.jsonl",
            "train_1.jsonl",
            "old_train.jsonl",
            "train.orig.jsonl",
            "train_2023-11-05.jsonl",
            "geometry_train_final.jsonl",
            "train_extra.jsonl",
        ]
    },
    "another edition in the split's folder": (
        ["train/data.jsonl", "train/data_old.jsonl"],
        {"train": [0]},
        ["not read beside data.jsonl: train/data_old.jsonl"],
    ),
    "a part of the test": (
        ["problems_test.json", "problems_test1k.json", "problems_train.json"],
        {"test": [0], "train": [2]},
        ["not read beside problems_test.json: problems_test1k.json"],
    ),
    "shards that are missing": (
        ["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"],
        {"train": [0, 1]},
        ["train: 2 of 3 shards are there"],
    ),
    "one file of two splits": (["train_test.jsonl"], {"train": [0]}, ["train_test.jsonl is read as train"]),
    "a file beside a test": (["data.jsonl", "test.jsonl"], {"train": [0], "test": [1]}, ["train is data.jsonl"]),
    "several beside a test": (["a.jsonl", "b.jsonl", "test.jsonl"], {"a": [0], "b": [1], "test": [2]}, []),
    "files that describe": (
        ["config.jsonl", "state.jsonl", "train.jsonl"],
        {"train": [2]},
        ["not read: config.jsonl, state.jsonl"],
    ),
    "metadata beside a split": (["metadata.csv", "train.jsonl"], {"train": [1]}, ["not read: metadata.csv"]),
    "metadata beside shards": (
        ["data/train-00000-of-00001.parquet", "metadata.jsonl"],
        {"train": [0]},
        ["not read: metadata.jsonl"],
    ),
    "metadata that is none": (["data.jsonl", "metadata.json"], {"train": [0]}, ["not read: metadata.json"]),
    "two words for validation": (["train/a.jsonl", "val/validation.jsonl"], {"train": [0], "validation": [1]}, []),
    "metadata as JSON alone": (["metadata.json"], {"train": [0]}, []),
    "metadata of one split, a table of another": (
        ["test.jsonl", "train/metadata.csv"],
        {"test": [0], "train": [1]},
        [],
    ),
    "metadata in the folder of a split's table": (
        ["train/metadata.csv", "train/train.jsonl"],
        {"train": [1]},
        ["not read: train/metadata.csv"],
    ),
    "metadata of several classes": (
        ["train/cats/metadata.csv", "train/dogs/metadata.csv"],
        {"train": [0, 1]},
        [],
    ),
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


REFUSED: dict[str, tuple[list[str], str]] = {
    "two splits": (["test.jsonl", "train_test.jsonl"], "train_test.jsonl, whose name holds the splits train and test"),
    "merged": (["a.csv", "test_train_merged.csv"], "test_train_merged.csv, whose name holds the splits test and train"),
    "a folder and a file of two": (["test/train.jsonl", "val.jsonl"], "test/train.jsonl, .*the splits test and train"),
    "two editions": (["train-v1.jsonl", "train-v2.jsonl"], "train-v1.jsonl, train-v2.jsonl for the split .*twice"),
    "old and new": (["train_new.jsonl", "train_old.jsonl"], "train_new.jsonl, train_old.jsonl .*as train_1.jsonl"),
    "two sizes": (["train_10k.jsonl", "train_1k.jsonl"], "train_10k.jsonl, train_1k.jsonl for the split train; "),
    "two sizes as numbers": (["train-100.jsonl", "train-1000.jsonl"], "train-100.jsonl, train-1000.jsonl for"),
    "shots": (["train_10shot.jsonl", "train_5shot.jsonl"], "for the split train; they may hold the same rows"),
    "folds": (
        ["train_fold0.csv", "train_fold1.csv", "val_fold0.csv", "val_fold1.csv"],
        "train_fold0.csv, train_fold1.csv for the split train; they may hold the same rows",
    ),
    "numbered folds": (["train_fold_0.csv", "train_fold_1.csv"], "for the split train; they may hold the same rows"),
    "two words for a split": (["train.jsonl", "training.jsonl"], "for the split train; they may hold the same rows"),
    "a file and a folder": (["train.jsonl", "train/0000.jsonl"], "for the split train; they may hold the same rows"),
    "two folders": (["data/train.jsonl", "train.jsonl"], "for the split train; they may hold the same rows"),
    "two pushes": (
        ["train-00000-of-00001-0a1b2c.parquet", "train-00000-of-00001-0a1b2d.parquet"],
        "for the split train; they may hold the same rows",
    ),
    "two numbers of shards": (
        ["train-00000-of-00001.parquet", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
        "for the split train; they may hold the same rows",
    ),
    "a folder a row": ([f"train/{n}/data.json" for n in range(24)], "24 folders with a data.json each, such as train/"),
    "a file a picture": ([f"bird{'abcdefgh'[n % 8]}{'xyz'[n // 8]}.json" for n in range(24)], "24 JSON files .*jq -c"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_names_that_may_mean_two_things_are_refused(name: str) -> None:
    names, words = REFUSED[name]
    with pytest.raises(UserError, match=f"The folder x has .*{words}"):
        split_files([PurePosixPath(one) for one in names], "The folder x", str)


@pytest.mark.parametrize(
    "form", ["data_{}_x.csv", "train_{}_x.csv", "train-{:05d}-of-04000.csv", "train_{}.csv", "a{}/train.csv"]
)
def test_many_files_take_little_time(form: str) -> None:
    names = [PurePosixPath(form.format(number)) for number in range(4_000)]
    began = time.process_time()
    try:
        split_files(names, "The folder x", str)
    except UserError as error:
        assert len(str(error)) < 1_000
    assert time.process_time() - began < 4


def test_many_splits_are_named_in_short() -> None:
    error = no_such_split("x", "train", [f"data_{number}" for number in range(3_000)])
    assert "data_19 and 2,980 more. Name one of them: --split data_0." in str(error)


@pytest.mark.parametrize("names", [["0", "1", "10"], ["bird", "bird_2", "cat"]])
def test_a_json_file_for_each_picture(tmp_path: Path, names: list[str]) -> None:
    """Files that name their picture are rows; the command that is named makes rows of the others."""
    for at, name in enumerate(names):
        (tmp_path / f"{name}.png").write_bytes(picture(at))
        row = {"problem": f"What is {at}?", "solution": "7", "image": f"{name}.png"}
        (tmp_path / f"{name}.json").write_text(json.dumps(row, indent=1))
    assert LocalSource(tmp_path, ["train"]).sizes == {"train": 3}
    shapes = {"problem": "What?", "shapes": [{"label": "bar"}], "tags": {}}
    for name in names:
        (tmp_path / f"{name}.json").write_text(json.dumps(shapes, indent=1))
    with pytest.raises(UserError, match="has 3 JSON files named after pictures, such as .*jq -c"):
        LocalSource(tmp_path, ["train"])


def test_a_folder_for_each_row(tmp_path: Path) -> None:
    """The command that is named makes rows of them."""
    for at in range(24):
        (tmp_path / "set" / "train" / str(at)).mkdir(parents=True)
        (tmp_path / "set" / "train" / str(at) / "image.png").write_bytes(picture(at))
        (tmp_path / "set" / "train" / str(at) / "data.json").write_text('{"problem": "What?", "solution": "7"}')
    with pytest.raises(UserError, match="24 folders with a data.json each") as refused:
        LocalSource(tmp_path / "set", ["train"])
    if shutil.which("jq") is None:
        pytest.skip("needs jq")
    subprocess.run(str(refused.value).rpartition("): ")[2], shell=True, check=True, cwd=tmp_path / "set")
    source = LocalSource(tmp_path / "set", ["train"])
    rows = list(source.rows("train", range(24), ["image"]))
    assert all((tmp_path / "set" / str(raw.cells["image"])).is_file() for raw in rows)  # type: ignore[index]


def test_a_json_file_for_each_picture_on_the_hub() -> None:
    names = [PurePosixPath(f"{name}.json") for name in ("bird", "bird_2", "cat")]
    chosen = split_files(names, "The dataset x", str, pictures={"bird", "bird_2", "cat"})
    assert chosen.splits == {"train": names}
    assert chosen.notes == ["train is a file for each picture: bird.json, bird_2.json, cat.json"]


def test_metadata_without_pictures_is_a_table(tmp_path: Path) -> None:
    for name in ("data", "metadata"):
        write_lines(tmp_path / f"{name}.jsonl", [{"problem": "What?", "solution": "7"}])
    with pytest.raises(UserError, match="no split 'train'; it has data, metadata"):
        LocalSource(tmp_path, ["train"])
    (tmp_path / "0.png").write_bytes(picture(0))
    assert LocalSource(tmp_path, ["train"]).notes == ["not read: data.jsonl"]


def test_files_that_are_passed_over_are_named(tmp_path: Path) -> None:
    for name in ("_train.jsonl", "config.json", "answers_stats.json", "_old/a.jsonl", "__MACOSX/b.jsonl", ".c.jsonl"):
        write_lines(tmp_path / name, [{"problem": "What?"}])
    with pytest.raises(UserError, match=r"no file of .* \(not read: .*_train.jsonl.*\)"):
        LocalSource(tmp_path, ["train"])
    write_lines(tmp_path / "train.jsonl", [{"problem": "What?"}])
    assert LocalSource(tmp_path, ["train"]).notes == [
        "not read: _old/a.jsonl, _train.jsonl, answers_stats.json, config.json"
    ]


def test_links_say_what_is_wrong_with_them(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "rows").mkdir()
    (tmp_path / "set" / "rows").symlink_to(tmp_path / "rows")
    with pytest.raises(UserError, match="not followed: rows, a link to a folder; give its own path"):
        LocalSource(tmp_path / "set", ["train"])
    (tmp_path / "set" / "train.jsonl").symlink_to("gone.jsonl")
    with pytest.raises(UserError, match="train.jsonl is a broken link: there is no gone.jsonl"):
        LocalSource(tmp_path / "set", ["train"])


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
