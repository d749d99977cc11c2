"""Files of rows: what is found in a folder, how rows are read by position, and what damaged files lead to."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from datasets import Dataset

from inference.common.errors import UserError
from tests.support.datasets_on_disk import parquet, rows, shards, write_folder, write_lines
from training.data.files import json_rows, row_files
from training.data.local_source import LocalSource
from training.data.refusals import Refusal
from training.data.shapes.golds import one_answer


def ids(source: LocalSource, split: str, positions: list[int]) -> list[tuple[int, str]]:
    found = [(raw.position, raw.cells) for raw in source.rows(split, positions, ["problem"])]
    return [(at, "refused" if isinstance(cells, Refusal) else cells["problem"].split()[2]) for at, cells in found]


def test_a_folder_with_metadata(tmp_path: Path) -> None:
    source = LocalSource(write_folder(tmp_path / "set", 4), ["train"])
    assert (source.names, source.sizes) == (["train"], {"train": 4})
    assert source.columns("train")[:3] == ["file_name", "problem", "solution"]
    assert ids(source, "train", [1, 3]) == [(1, "1"), (3, "3")]
    assert next(source.rows("train", [0], [])).folders.tried == (tmp_path / "set",)


def test_a_folder_for_each_split(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", 3)
    write_folder(tmp_path / "test", 2, first=10)
    source = LocalSource(tmp_path, ["test"])
    assert (source.names, source.sizes) == (["test", "train"], {"test": 2})
    assert next(source.rows("test", [0], [])).folders.tried == (tmp_path / "test", tmp_path)
    with pytest.raises(UserError, match="no split 'dev'; it has test, train. Name one of them: --split test"):
        LocalSource(tmp_path, ["dev"])


@pytest.mark.parametrize("place", ["data", "."])
def test_parquet_shards_are_one_split(tmp_path: Path, place: str) -> None:
    for name, data in shards(rows(20), num=2).items():
        target = tmp_path / place / Path(name).name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(data)
    source = LocalSource(tmp_path, ["train"])
    assert source.sizes == {"train": 20}
    assert ids(source, "train", [0, 8, 9, 10, 19]) == [(i, str(i)) for i in (0, 8, 9, 10, 19)]


def test_one_file(tmp_path: Path) -> None:
    file = tmp_path / "geometry.parquet"
    file.write_bytes(parquet(rows(3)))
    assert LocalSource(file, ["train"]).sizes == {"train": 3}


def test_files_named_after_their_split(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", [{"problem": "What is 5"}])
    write_lines(tmp_path / "validation.jsonl", [{"problem": "What is 6"}, {"problem": "What is 7"}])
    source = LocalSource(tmp_path, ["train", "validation"])
    assert source.sizes == {"train": 1, "validation": 2}
    assert ids(source, "validation", [1]) == [(1, "7")]


def test_lines_that_are_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "MAX_LINE_BYTES", 4_000)
    good = {"problem": "What is 5"}
    bad = ["{", "[1]", '"text"', "[" * 3_000, '{"a": ' + "9" * 3_990 + "9" * 600 + "}", '{"a": "' + "x" * 9_000 + '"}']
    file = write_lines(tmp_path / "x.jsonl", [good, "", *bad, "   ", good])
    with file.open("ab") as end:
        end.write(b'\xff\xfe\n{"problem": "What is 6"}')  # not UTF-8, and a last line without its end
    found = ids(LocalSource(file, ["train"]), "train", list(range(10)))
    assert [text for _, text in found] == ["5", *["refused"] * 6, "5", "refused", "6"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.parquet", b"PAR1 but not really PAR1", "x.parquet is not a readable Parquet file"),
        ("x.json", b"[]", "x.json is neither an array of objects nor one object a line"),
        ("x.pkl", b"\x80\x04.", "x.pkl is none of .jsonl, .ndjson, .json, .csv"),
        ("empty", None, "There is no data in the folder empty"),
        ("nowhere", b"", "There is no dataset"),
    ],
)
def test_what_is_no_dataset(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is None:
        path.mkdir()
    elif content:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        LocalSource(path, ["train"])


def test_a_damaged_row_group(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    data = bytearray(parquet(rows(20)))
    data[200:2_000] = bytes(1_800)
    file.write_bytes(data)
    with pytest.raises(UserError, match="x.parquet, row group 0"):
        list(LocalSource(file, ["train"]).rows("train", range(20), ["image", "problem"]))


def test_the_identity_changes_with_the_files(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set", 3)
    before = LocalSource(folder, ["train"]).identity
    assert LocalSource(folder, ["train"]).identity == before
    (folder / "1.png").write_bytes(b"another picture")
    assert LocalSource(folder, ["train"]).identity != before


def test_what_runs_leave_beside_the_rows_is_not_part_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKTHINK_HOME", str(tmp_path / "set" / "home"))
    folder = write_folder(tmp_path / "set", 3)
    before = LocalSource(folder, ["train"]).identity
    for place in ("home/data", "first/checkpoints"):
        (folder / place).mkdir(parents=True)
    for file in ("home/data/rows.arrow", "first/config.json", "first/metrics.jsonl"):
        (folder / file).write_text("{}")
    assert LocalSource(folder, ["train"]).identity == before
    (folder / "more").mkdir()
    (folder / "more" / "9.png").write_bytes(b"a picture that a row may name")
    assert LocalSource(folder, ["train"]).identity != before


def saved(folder: Path, problem: str) -> Path:
    Dataset.from_dict({"image": ["1.png"], "problem": [problem], "solution": ["7"]}).save_to_disk(str(folder))
    return folder


@pytest.mark.parametrize(
    "way", ["absolute", "relative", "a link", "a split", "a split that is a link", "a list", "huge"]
)
def test_a_saved_dataset_names_files_of_its_own_alone(tmp_path: Path, way: str) -> None:
    """The library opens whatever the folder's small files name, on the whole machine."""
    secret = saved(tmp_path / "secret", "not yours")
    [rows_there] = secret.glob("*.arrow")
    ours = saved(tmp_path / "ours", "ours")
    assert [raw.cells["problem"] for raw in LocalSource(ours, ["train"]).rows("train", [0], ["problem"])] == ["ours"]
    state = json.loads((ours / "state.json").read_text())
    name = {"absolute": str(rows_there), "relative": f"../secret/{rows_there.name}", "a link": "linked.arrow"}.get(way)
    (ours / "linked.arrow").symlink_to(rows_there)
    if name:
        state["_data_files"] = [{"filename": name}]
    (ours / "state.json").write_text(json.dumps([state] if way == "a list" else state) + " " * (way == "huge") * 2**21)
    if way.startswith("a split"):
        (ours / "linked").symlink_to(secret)
        split = "../secret" if way == "a split" else "linked"
        (ours / "dataset_dict.json").write_text(json.dumps({"splits": [split]}))
    with pytest.raises(UserError, match="no file of its own folder|cannot be read"):
        LocalSource(ours, ["train"])


def test_a_link_leads_no_further_than_the_folders_that_were_named(tmp_path: Path) -> None:
    write_lines(tmp_path / "outside.jsonl", [{"problem": "a"}, {"problem": "b"}])
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").symlink_to(tmp_path / "outside.jsonl")
    with pytest.raises(UserError, match="is a link to a place outside set.*--image-root"):
        LocalSource(tmp_path / "set", ["train"])
    assert LocalSource(tmp_path / "set", ["train"], tmp_path).sizes == {"train": 2}
    with pytest.raises(UserError, match="neither a file nor a folder"):
        LocalSource(Path("/dev/null"), ["train"])


def test_a_text_that_is_not_closed_is_read_once(tmp_path: Path) -> None:
    """Eight times the quotes take about eight times as long, not sixty-four times; the page stands still meanwhile."""

    def seconds(num_quotes: int) -> float:
        (tmp_path / "rows.json").write_bytes(b'[{"a":"' + b'\\"' * num_quotes)
        began = time.process_time()
        with pytest.raises(UserError, match="neither an array of objects"):
            row_files.open_file(tmp_path / "rows.json")
        return time.process_time() - began

    assert min(seconds(800_000) for _ in range(3)) < 24 * max(min(seconds(100_000) for _ in range(3)), 0.005)


def test_many_answers_are_counted_in_one_pass() -> None:
    answers = [f"answer {i}" for i in range(60_000)] + ["answer 7"]
    began = time.process_time()
    assert one_answer(answers, "answers") == "answer 7"
    assert time.process_time() - began < 5
