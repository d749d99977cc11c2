"""WebDataset archives: which files are one sample, the pictures that its JSON names, and what is bounded."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from inference.common.errors import UserError
from tests.support.datasets_on_disk import picture
from tests.training.data.files.test_row_files import read
from training.config.data_config import read_data_config
from training.data.files import tar_rows
from training.data.local_source import LocalSource
from training.data.source import row_shape


def archive(folder: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return folder / "a.tar"


def sample(stem: str, *endings: str) -> dict[str, bytes]:
    return {
        f"{stem}.{ending}": json.dumps({"of": stem}).encode() if ending == "json" else stem.encode()
        for ending in endings
    }


SAMPLES: dict[str, tuple[dict[str, bytes], list[set[str]]]] = {
    "one picture": (sample("000", "png", "json") | sample("001", "png", "json"), [{"png", "of"}] * 2),
    "not beside one another": (
        sample("000", "png") | sample("001", "png") | sample("000", "json") | sample("001", "json"),
        [{"png", "of"}] * 2,
    ),
    "dots in the names": (
        sample("chart.v1.000", "png", "json") | sample("chart.v1.001", "png", "json"),
        [{"png", "of"}] * 2,
    ),
    "words after the dot": (sample("bar.red", "png", "json") | sample("bar.blue", "png", "json"), [{"png", "of"}] * 2),
    "one sample of each name with a dot": (
        sample("chart_0.v1", "png", "json") | sample("chart_1.v1", "png", "json"),
        [{"png", "of"}] * 2,
    ),
    "several names with dots": (
        sample("a.0", "jpg", "txt") | sample("a.1", "jpg", "txt") | sample("b.0", "jpg", "txt")
        | sample("b.1", "jpg", "txt"),
        [{"jpg", "txt"}] * 4,
    ),
    "two pictures of a sample": (
        sample("000", "left.png", "right.png", "json") | sample("001", "left.png", "right.png", "json"),
        [{"left.png", "right.png", "of"}] * 2,
    ),
    "numbered pictures of a sample": (
        sample("000", "1.png", "2.png", "json") | sample("001", "1.png", "2.png", "json"),
        [{"1.png", "2.png", "of"}] * 2,
    ),
    "two files of each kind": (
        sample("000", "png", "json", "seg.png", "seg.json") | sample("001", "png", "json", "seg.png", "seg.json"),
        [{"png", "of", "seg.png", "seg.json"}] * 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_the_files_of_a_sample(tmp_path: Path, name: str) -> None:
    files, expected = SAMPLES[name]
    found = read(archive(tmp_path, files))
    assert [set(row) for row in found] == expected
    stems = [
        {value if isinstance(value, str) else value.decode()[:20] for key, value in row.items() if "seg" not in key}
        for row in found
    ]
    assert all(len(of_row) == 1 for of_row in stems), "what is one sample has one name"
    has_dots = "dot" in name
    assert (
        "told apart by their names up to the last dot" in "".join(LocalSource(tmp_path, ["train"]).notes)
    ) is has_dots


def test_samples_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    files = sample("c.v1.0", "left.png", "right.png", "json") | sample("c.v1.1", "left.png", "right.png", "json")
    with pytest.raises(UserError, match="c.v1.0.json and c.v1.1.json in a.tar are of one sample, c, .*: c_v1_0.json"):
        read(archive(tmp_path, files))


@pytest.mark.parametrize(
    ("named", "suffixes", "num"),
    [
        ({"images": ["000.left.png", "000.right.png"]}, ["left.png", "right.png"], 2),
        ({"images": ["a/0.png"]}, ["png"], 1),
        ({"image": "0.png"}, ["png"], 1),
        ({}, ["png"], 1),
    ],
)
def test_a_picture_that_the_json_names_is_there_once(
    tmp_path: Path, named: dict[str, object], suffixes: list[str], num: int
) -> None:
    said = json.dumps(named | {"problem": "How high?", "solution": "7"}).encode()
    files = {f"000.{suffix}": picture(at) for at, suffix in enumerate(suffixes)} | {"000.json": said}
    source = LocalSource(archive(tmp_path, files), ["train"])
    shape = row_shape(read_data_config(dataset=str(tmp_path)), source, "train")
    [row] = source.rows("train", [0], source.columns("train"))
    cell = shape.pictures(row.cells)  # type: ignore[arg-type]
    assert (cell if isinstance(cell, list) else [cell]) == [picture(at) for at in range(num)]


def test_a_list_of_more_pictures_than_the_sample_has_stays_as_it_is(tmp_path: Path) -> None:
    files = {"000.png": picture(0), "000.json": json.dumps({"images": ["000.png", "001.png"]}).encode()}
    assert read(archive(tmp_path, files)) == [{"images": ["000.png", "001.png"], "png": picture(0)}]


def test_a_sample_of_a_tar_has_its_own_pictures(tmp_path: Path) -> None:
    """Its JSON may name them by any path: the bytes in the sample are meant."""
    named = {"image": "000.jpg", "images": ["x/000.left.png", "000.right.png"], "problem": "a.jpg", "other": "7"}
    members = {"json": json.dumps(named).encode(), "jpg": b"0", "left.png": b"1", "right.png": b"2"}
    more = {"json": json.dumps({"image": "train/0815.PNG", "problem": "What?"}).encode(), "png": picture(1)}
    files = {f"{stem}.{suffix}": c for stem, one in (("000", members), ("001", more)) for suffix, c in one.items()}
    first, second = read(archive(tmp_path, files))
    assert (first["image"], first["images"], first["other"]) == (b"0", [b"1", b"2"], "7")
    assert set(first) == {"image", "images", "problem", "other"}, "each picture once"
    assert second["image"] == picture(1) and second["problem"] == "What?"


def test_samples_of_one_name_stay_apart_and_impossible_sizes_are_refused_in_words(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number in range(3):
            for suffix, content in (("png", picture(number)), ("json", b'{"problem": "What?"}')):
                info = tarfile.TarInfo(f"same.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    assert [row["png"] for row in read(tmp_path / "a.tar")] == [picture(number) for number in range(3)]
    for kind in (tarfile.XHDTYPE, tarfile.REGTYPE):
        header = tarfile.TarInfo("a.json")
        header.type, header.size = kind, 2**70
        (tmp_path / "b.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
        with pytest.raises(UserError, match="not a readable tar archive"):
            read(tmp_path / "b.tar")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_of_a_tar_is_bounded_before_it_is_read(tmp_path: Path, kind: bytes) -> None:
    header = tarfile.TarInfo("long")
    header.type, header.size = kind, 2**20 + 1
    (tmp_path / "a.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(2**21))
    with pytest.raises(UserError, match="a header of 1,048,577 bytes; at most 1,048,576 are read"):
        read(tmp_path / "a.tar")


LINES = [{"image": f"images/{n}.png", "problem": f"How high is {n}?", "solution": "7"} for n in range(3)]
PICTURES = {f"images/{n}.png": picture(n) for n in range(3)}
TABLE = "".join(json.dumps(row) + "\n" for row in LINES).encode()
CSV = b"file_name,problem,solution\n0.png,a?,7\n1.png,b?,7\n2,c?,7\n"
TABLES: dict[str, tuple[Mapping[str, bytes], str]] = {
    "lines": (PICTURES | {"train.jsonl": TABLE}, "train.jsonl"),
    "an array": (PICTURES | {"set.json": json.dumps(LINES).encode()}, "set.json"),
    "packed lines": (PICTURES | {"train.jsonl.gz": gzip.compress(TABLE)}, "train.jsonl.gz"),
    "metadata": (PICTURES | {"images/metadata.csv": CSV}, "images/metadata.csv"),
    "of a folder": ({f"./set/{name}": one for name, one in (PICTURES | {"a.jsonl": TABLE}).items()}, "set/a.jsonl"),
    "with other files": (PICTURES | {"train.jsonl": TABLE, "README.md": b"Mine.", "LICENSE": b"-"}, "train.jsonl"),
    "of two splits": (PICTURES | {"all.json": json.dumps({"train": LINES, "test": LINES[:1]}).encode()}, "all.json"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_beside_pictures_in_a_tar(tmp_path: Path, name: str) -> None:
    files, table = TABLES[name]
    source = LocalSource(archive(tmp_path, files), ["train"])
    shape = row_shape(read_data_config(dataset=str(tmp_path)), source, "train")
    assert f"a.tar: rows are those of {table}" in source.notes
    found = [raw.cells for raw in source.rows("train", range(3), source.columns("train"))]
    assert [shape.pictures(cells) for cells in found] == [picture(n) for n in range(3)]  # type: ignore[arg-type]
    assert source.names == (["train", "test"] if "splits" in name else ["train"])


def test_what_a_table_in_a_tar_names_in_vain_costs_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = [{"image": name} for name in ("images/9.png", "images/0.jpg", "../images/0.png", ["images/0.png"] * 3)]
    found = read(archive(tmp_path, PICTURES | {"a.jsonl": "".join(json.dumps(row) + "\n" for row in more).encode()}))
    assert [row["image"] for row in found] == ["images/9.png", "images/0.jpg", "../images/0.png", [picture(0)] * 3]
    monkeypatch.setattr(tar_rows, "MAX_LINE_BYTES", 2 * len(picture(0)))
    assert read(tmp_path / "a.tar")[3] == f"its pictures have more than {2 * len(picture(0)):,} bytes"


def test_several_tables_beside_pictures_are_refused_with_a_remedy_that_works(tmp_path: Path) -> None:
    path = archive(tmp_path, PICTURES | {"train.jsonl": TABLE, "test.jsonl": TABLE})
    with pytest.raises(UserError, match="a.tar holds pictures and 2 tables, such as train.jsonl and test.jsonl") as no:
        read(path)
    subprocess.run(str(no.value).rpartition(": ")[2], shell=True, check=True, cwd=tmp_path)
    assert LocalSource(tmp_path / "unpacked", ["train", "test"]).sizes == {"train": 3, "test": 3}


TURNS = [{"from": "human", "value": "How?"}, {"from": "gpt", "value": "7"}]


@pytest.mark.parametrize(
    ("said", "row"),
    [
        ([{"problem": "How?"}], {"problem": "How?"}),
        (TURNS, {"conversations": TURNS}),
        (
            [LINES[0]] * 2,
            "its JSON holds a list of 2, and a sample is one row: write one object into it, or",
        ),
        ([], "its JSON holds a list of 0"),
        ([[1]], "its JSON holds a list of 1"),
    ],
)
def test_a_list_in_the_json_of_a_sample(tmp_path: Path, said: object, row: object) -> None:
    [found] = read(archive(tmp_path, {"0.png": picture(0), "0.json": b"\xef\xbb\xbf " + json.dumps(said).encode()}))
    assert found.startswith(row) if isinstance(row, str) else found == {"png": picture(0)} | row  # type: ignore[operator]
