"""From any dataset to rows: what is kept, what is dropped and counted, what is kept apart, and what it costs."""

from __future__ import annotations

import errno
import io
import json
import resource
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from PIL import Image
from transformers import AutoProcessor

from inference.common.errors import UserError
from inference.common.settings import STARTER
from tests.inference.prompt.test_image import bomb
from tests.support.datasets_on_disk import parquet, picture, rows, shards, write_folder, write_lines
from tests.support.hub.client import Client
from tests.support.hub.repos import Hub
from training.__main__ import main
from training.config.data_config import read_data_config
from training.config.run_config import RECIPE_DATA
from training.data import dataset as data
from training.data import prepare, prepared_copies
from training.data.dataset import Splits, load_rows


def load(path: Path, processor: Any = None, **values: Any) -> Splits:
    return load_rows(read_data_config(dataset=str(path), **values), processor)


def answers(split: datasets.Dataset) -> set[str]:
    return {text.split("<answer>")[1].split("<")[0] for text in split["solution"]}


def test_a_folder(tmp_path: Path) -> None:
    splits = load(write_folder(tmp_path / "set", 20), test_rows=5, validation_rows=3)
    sizes = {"train": 12, "validation": 3, "test": 5}
    reading = {"words": {"train": "image = file_name, problem = problem, solution = solution"}, "doubts": []}
    assert splits.about == {
        "dataset": "set", "revision": None, "allotted": sizes, "reading": reading, "kept": sizes
    }  # fmt: skip
    assert len(splits.dropped) == 0 and str(splits.dropped) == "dropped no row"
    names = ["image", "problem", "solution", "original_question", "original_answer", "row_id"]
    for split in (splits.train, splits.validation, splits.test):
        assert split.column_names == names
    first = splits.train[0]
    assert (first["image"].mode, first["image"].size) == ("RGB", (36, 30))
    everything = answers(splits.train) | answers(splits.validation) | answers(splits.test)
    assert everything == {str(i + 1) for i in range(20)}


def test_the_same_rows_every_time_and_from_what_was_kept(tmp_path: Path, home: Path) -> None:
    folder = write_folder(tmp_path / "set", 10)
    one = load(folder)
    kept = list((home / "data").iterdir())
    assert {p.name for p in kept[0].iterdir()} == {
        *("rows-00000.arrow", "state-00000.json", "about.json", "reading.json", ".lock")
    }
    other = load(folder)
    assert list(one.train["row_id"]) == list(other.train["row_id"]) and list(one.test["row_id"]) == list(
        other.test["row_id"]
    )
    load(folder, seed=1, test_rows=3)
    assert list((home / "data").iterdir()) == kept and len(kept) == 1, "another split of the same rows is the same copy"
    load(folder, max_pixels=784)
    assert len(list((home / "data").iterdir())) == 2


def test_reading_goes_on_where_a_killed_process_was(tmp_path: Path, home: Path, monkeypatch) -> None:
    folder = write_folder(tmp_path / "set", 10)
    monkeypatch.setattr(prepare, "PART_ROWS", 3)
    whole = load(folder)
    [copy] = (home / "data").iterdir()
    untouched = {path.name: path.stat().st_mtime_ns for path in copy.glob("rows-0000[02]*")}
    for name in ("rows-00001.arrow", "state-00001.json", "state-00003.json"):
        (copy / name).unlink()
    (copy / "partial-1.arrow").write_bytes(b"half")
    again = load(folder)
    assert list(again.train["row_id"]) == list(whole.train["row_id"]) and answers(again.test) == answers(whole.test)
    assert untouched == {path.name: path.stat().st_mtime_ns for path in copy.glob("rows-0000[02]*")}


def test_copies_are_listed_bounded_and_deleted(tmp_path: Path, home: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(prepared_copies, "MAX_COPIES", 2)
    for number in range(3):
        load(write_folder(tmp_path / f"set{number}", 4, first=number))
    assert [copy.dataset for copy in prepared_copies.copies(home)] == ["set2", "set1"]
    assert main(["data"]) == 0
    said = capsys.readouterr().out
    assert "set2" in said and "4 rows" in said and "2 prepared copies under" in said
    name = prepared_copies.copies(home)[0].name
    assert main(["data", "--delete", name]) == 0 and len(prepared_copies.copies(home)) == 1
    assert main(["data", "--delete", name]) == 2 and "there is no prepared copy" in capsys.readouterr().err
    assert main(["data", "--delete", "all"]) == 0 and prepared_copies.copies(home) == []


def test_hostile_rows_are_dropped_and_counted(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set", 6)
    (tmp_path / "secret.png").write_bytes(picture(99))
    (folder / "bomb.png").write_bytes(bomb())
    (folder / "broken.png").write_bytes(picture(1)[:60])
    good = {"problem": "Why?", "solution": "<answer>1</answer>"}
    lines: list[Any] = (folder / "metadata.jsonl").read_text().splitlines()
    lines += [good | {"file_name": name} for name in ("../secret.png", "http://a.b/c.png", "bomb.png", "broken.png")]
    lines += [good | {"file_name": "nowhere.png"}, good | {"file_name": None}, "not json"]
    lines += [{"file_name": "0.png", "problem": "", "solution": "1"}, {"file_name": "0.png", "problem": ["x", "y"]}]
    lines += [good | {"file_name": "0.png", "solution": {"a": 1}}]
    write_lines(folder / "metadata.jsonl", lines)
    splits = load(folder, test_share=0)
    assert answers(splits.train) == {str(i + 1) for i in range(6)}
    assert splits.dropped.counts() == {
        "no problem": 2,
        "picture missing": 2,
        "picture refused": 2,
        "no gold": 1,
        "picture broken": 1,
        "picture too large": 1,
        "row unreadable": 1,
    }
    assert "2 picture refused (train)" in str(splits.dropped)
    refused = [drop for drop in splits.dropped.rows if drop.reason == "picture refused"]
    assert refused[0].place.startswith("train[") and "leads out of" in refused[0].detail + refused[1].detail


def test_nothing_left(tmp_path: Path, home: Path) -> None:
    file = write_lines(tmp_path / "x.jsonl", [{"image": "a.png", "problem": "Which?", "solution": "1"}] * 3)
    with pytest.raises(UserError, match=r"No row of .* can be used: dropped 3 rows: 3 picture missing \(test, train\)"):
        load(file)
    assert list((home / "data").iterdir()) == []


def test_parquet_with_bytes_and_mapped_columns(tmp_path: Path) -> None:
    renamed = [{"image": r["image"], "frage": r["problem"], "antwort": r["original_answer"]} for r in rows(8)]
    (tmp_path / "x.parquet").write_bytes(parquet(renamed))
    with pytest.raises(UserError) as refused:
        load(tmp_path / "x.parquet")
    assert "has no column 'problem' for `problem`; it has image, frage, antwort" in str(refused.value)
    assert '--columns "{problem: NAME}"' in str(refused.value)
    splits = load(tmp_path / "x.parquet", columns={"problem": "frage", "solution": "antwort"})
    assert splits.train.column_names == ["image", "problem", "solution", "row_id"]
    assert set(splits.train["solution"]) <= {str(i + 1) for i in range(8)}
    with pytest.raises(UserError, match="no column 'kinds' for `kind`"):
        load(tmp_path / "x.parquet", columns={"problem": "frage", "solution": "antwort", "kind": "kinds"})


def test_leaks_are_dropped_from_train(tmp_path: Path) -> None:
    """The same picture and problem, however encoded and spelt, is in one split only; test keeps it."""
    write_folder(tmp_path / "train", 10)
    write_folder(tmp_path / "test", 4, first=6)
    write_folder(tmp_path / "dev", 3, first=4)
    Image.open(tmp_path / "train" / "7.png").save(tmp_path / "train" / "7.bmp")
    lines = [json.loads(line) for line in (tmp_path / "train" / "metadata.jsonl").read_text().splitlines()]
    lines[7] |= {"file_name": "7.bmp", "problem": "what  IS 7 + 1?"}
    lines[8] |= {"problem": "Another question about the same picture?"}
    write_lines(tmp_path / "train" / "metadata.jsonl", lines)
    splits = load(tmp_path, test_split="test", validation_split="dev", validation_rows=3)
    assert answers(splits.test) == {"7", "8", "9", "10"}
    assert answers(splits.validation) == {"5", "6"}
    assert answers(splits.train) == {"1", "2", "3", "4", "9"}
    assert splits.dropped.counts("train") == {"also in test": 3, "also in validation": 2}
    assert splits.dropped.counts("validation") == {"also in test": 1}


def test_long_prompts_are_dropped_where_a_processor_measures_them(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set", 6)
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    lines[2]["problem"] += " and more" * 200
    write_lines(folder / "metadata.jsonl", lines)
    processor = AutoProcessor.from_pretrained(STARTER)
    assert len(load(folder, test_share=0, max_prompt_tokens=400).train) == 6
    splits = load(folder, processor, test_share=0, max_prompt_tokens=400)
    assert answers(splits.train) == {"1", "2", "4", "5", "6"}
    [drop] = splits.dropped.rows
    assert (drop.role, drop.place, drop.reason) == ("train", "train[2]", "prompt too long")
    assert "400 are allowed" in drop.detail
    with pytest.raises(UserError, match="is left to train on: dropped 6 rows: 6 prompt too long"):
        load(folder, processor, test_share=0, max_prompt_tokens=16)


def test_the_starter(home: Path) -> None:
    splits = load_rows(read_data_config(train_rows=6, test_rows=3, validation_rows=2, max_pixels=28 * 28 * 16))
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [6, 2, 3]
    assert "kind" in splits.train.column_names
    assert all(row["image"].size == (112, 112) for row in splits.test)


def test_a_hub_dataset_as_the_recipe_takes_it(hub: Hub, hub_client: Client) -> None:
    """40 rows in Parquet shards with embedded pictures; pinned, sliced, split, and offline afterwards."""
    repo = hub.repo("dataset", "owner/geometry")
    commit = repo.commit(shards(rows(40), num=2))
    repo.commit(shards(rows(40, 500), num=2))
    recipe = RECIPE_DATA | {"dataset": "owner/geometry", "revision": commit, "split": "train[:50%]"}
    splits = load_rows(read_data_config(**recipe | {"validation_rows": 6}))
    assert splits.about["revision"] == commit
    assert splits.about["kept"] == {"train": 16, "validation": 6, "test": 4}
    theirs = datasets.load_dataset("owner/geometry", revision=commit, split="train[:50%]")
    theirs = theirs.train_test_split(test_size=0.2, seed=42)
    assert list(splits.train["problem"]) == list(theirs["train"]["problem"])
    assert list(splits.test["problem"]) == list(theirs["test"]["problem"])
    assert all(20 < int(answer) <= 40 for answer in answers(splits.validation))
    assert splits.train[0]["image"].tobytes() == theirs["train"][0]["image"].convert("RGB").tobytes()
    hub_client.go_offline()
    hub.requests.clear()
    again = load_rows(read_data_config(**recipe | {"validation_rows": 7}))
    assert list(again.train["row_id"]) == list(splits.train["row_id"]) and len(again.validation) == 7
    assert hub.requests == []


def test_pictures_of_paths_in_a_hub_dataset_are_refused(hub: Hub, hub_client: Client, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(1))
    some = rows(6)
    for row, path in zip(some, ["http://127.0.0.1/x.png", str(tmp_path / "secret.png"), "../../token"]):
        row["image"] = {"bytes": None, "path": path}
    texts = {name: datasets.Value("string") for name in list(some[0])[1:]}
    features = datasets.Features({"image": datasets.Image(decode=False)} | texts)
    buffer = io.BytesIO()
    pq.write_table(datasets.Dataset.from_list(some, features=features).data.table, buffer)
    hub.repo("dataset", "owner/paths").commit({"data/train-00000-of-00001.parquet": buffer.getvalue()})
    splits = load_rows(read_data_config(dataset="owner/paths", test_share=0))
    assert len(splits.train) == 3
    assert splits.dropped.counts() == {"picture refused": 3}


def test_rows_are_read_only_a_little_ahead() -> None:
    ahead = []
    started = iter(range(200))

    def items() -> Any:
        for i in started:
            ahead.append(i)
            yield i

    for done, (item, result) in enumerate(prepare._in_order(lambda i: i * 2, items())):
        assert result == item * 2 and item == done
        assert len(ahead) - done <= 2 * prepare.WORKERS
    assert len(ahead) == 200


@pytest.mark.long
@pytest.mark.slow
def test_ten_thousand_rows_in_bounded_memory(tmp_path: Path) -> None:
    """Decoded they would take 1.2 GB."""
    Image.effect_noise((200, 200), 60).convert("RGB").save(tmp_path / "one.png")
    lines = ({"image": "one.png", "problem": f"Question {i}?", "solution": str(i)} for i in range(10_000))
    file = write_lines(tmp_path / "x.jsonl", lines)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    splits = load(file, test_rows=10)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert len(splits.train) == 9_990 and splits.train[9_000]["image"].size == (200, 200)
    assert grown < 300, f"{grown:.0f} MB"


def test_a_full_disk_is_said_plainly(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prepare.ArrowWriter, "write", full)
    with pytest.raises(UserError, match="The disk is full.*LOOKTHINK_HOME"):
        load(write_folder(tmp_path / "set", 4))
    assert list((home / "data").iterdir()) == []


def test_progress_is_shown_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = read_data_config(dataset=str(write_folder(tmp_path / "set", 4)))
    data.load_rows(config, progress=True)
    assert "reading rows" in capsys.readouterr().err
