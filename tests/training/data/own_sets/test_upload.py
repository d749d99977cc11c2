"""Uploads: what people pack is read, what is hostile is refused in words, and nothing of it stays."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import stat
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inference.common.errors import UserError
from tests.inference.prompt.test_image import encoded, gradient
from training.data.own_sets import upload as module
from training.data.own_sets.upload import opened
from training.data.refusals import Refusal
from training.data.shapes.missing_columns import NoColumn

PICTURE = encoded(gradient())
LINES = "".join(
    json.dumps({"image": f"images/{n}.png", "question": f"Bar {n}?", "answer": str(n)}) + "\n" for n in range(3)
).encode()


def zst(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


def packed(members: dict[str, bytes], folder: Path, **options: Any) -> Path:
    path = folder / "upload.zip"
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def rows(files: list[tuple[Path, str]], home: Path, columns: dict[str, str] | None = None) -> list[Any]:
    with opened(files, home) as upload:
        found = [cells for cells, _ in upload.rows(upload.splits[0], columns or {})]
        assert len(found) == upload.num_rows(upload.splits[0])
    assert list(home.iterdir()) == []
    return [
        cells if isinstance(cells, Refusal) else (cells["image"], cells["problem"], cells["solution"])
        for cells in found
    ]


READ = [(f"images/{n}.png", f"Bar {n}?", str(n)) for n in range(3)]
PICTURES = {f"images/{n}.png": PICTURE for n in range(3)}


@pytest.mark.parametrize(
    "members",
    [
        {"train.jsonl": LINES, **PICTURES},
        {"mine/data.jsonl": LINES, **{f"mine/{name}": data for name, data in PICTURES.items()}},
        {"t.jsonl": LINES, **PICTURES, "__MACOSX/._t.jsonl": b"\0", ".DS_Store": b"\0"},
        {"t.jsonl": LINES, **{name.replace("/", "\\"): data for name, data in PICTURES.items()}},
        {"t.jsonl.gz": gzip.compress(LINES), **PICTURES},
        {"t.jsonl.bz2": bz2.compress(LINES), **PICTURES},
        {"t.jsonl.xz": lzma.compress(LINES), **PICTURES},
        {"t.jsonl.zst": zst(LINES), **PICTURES},
    ],
    ids=["flat", "in a folder", "from a Mac", "from Windows", "gzip", "bzip2", "xz", "Zstandard"],
)
def test_a_zip_is_read(members: dict[str, bytes], tmp_path: Path, home: Path) -> None:
    assert rows([(packed(members, tmp_path), "my set.ZIP")], home) == READ


def test_a_table_with_pictures_beside_it(tmp_path: Path, home: Path) -> None:
    """Browsers send files without their folders."""
    table = b"pic,what,n\n" + b"".join(f"images/{n}.png,Bar {n}?,{n}\n".encode() for n in range(3))
    files = [(tmp_path / "a", "table.csv"), *((tmp_path / f"{n}", f"{n}.png") for n in range(3))]
    for path, name in files:
        path.write_bytes(table if name == "table.csv" else PICTURE)
    with pytest.raises(NoColumn, match="it has pic, what, n"):
        rows(files, home)
    found = rows(files, home, {"image": "pic", "problem": "what", "solution": "n"})
    assert found == [(f"{n}.png", f"Bar {n}?", str(n)) for n in range(3)]


def test_pictures_alone_come_in_the_order_of_their_numbers(tmp_path: Path, home: Path) -> None:
    members = {f"p{n}.png": PICTURE for n in (10, 9, 1)}
    assert rows([(packed(members, tmp_path), "a.zip")], home) == [(f"p{n}.png", "", "") for n in (1, 9, 10)]


def linked(folder: Path) -> Path:
    path = packed({"t.jsonl": LINES}, folder)
    info = zipfile.ZipInfo("images/0.png")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, "/etc/passwd")
    return path


def named(*names: str) -> Any:
    def make(folder: Path) -> Path:
        path = folder / "upload.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                info = zipfile.ZipInfo("x")
                info.filename = name
                archive.writestr(info, b"x")
        return path

    return make


def bomb(folder: Path) -> Path:
    return packed({"a.jsonl": bytes(50_000_000)}, folder, compression=zipfile.ZIP_DEFLATED)


def longer_than_said(folder: Path) -> Path:
    """The directory says 10 bytes for a file of 100,000."""
    path = packed({"t.jsonl": bytes(100_000)}, folder, compression=zipfile.ZIP_DEFLATED)
    data, size = path.read_bytes(), (100_000).to_bytes(4, "little")
    path.write_bytes(data.replace(size, (10).to_bytes(4, "little")))
    return path


def encrypted(folder: Path) -> Path:
    path = packed({"t.jsonl": LINES}, folder)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    path.write_bytes(data)
    return path


def cut_off(folder: Path) -> Path:
    path = packed({"t.jsonl": LINES, **PICTURES}, folder)
    path.write_bytes(path.read_bytes()[:-40])
    return path


def crooked(folder: Path) -> Path:
    """A byte of a file is another one."""
    path = packed({"t.jsonl": LINES}, folder)
    path.write_bytes(path.read_bytes().replace(b"Bar 1", b"Bar 7"))
    return path


HOSTILE = pytest.mark.parametrize(
    ("make", "words"),
    [
        (named("../../runs/x"), "leads out of it"),
        (named("a/../../x"), "leads out of it"),
        (named("/etc/cron.d/x"), "leads out of it"),
        (named("C:\\x"), "leads out of it"),
        (named("..\\x"), "leads out of it"),
        (named("a//x"), "leads out of it"),
        (named("a\nb"), "no name of a file"),
        (named("x" * 300), "no name of a file"),
        (named("/".join("abcdefghijkl")), "no name of a file"),
        (named("A.png", "a.PNG"), "two files"),
        (named("t.jsonl", "t.jsonl"), "two files"),
        (named("a", "a/b"), "a file and a folder of one name"),
        (linked, "a link or a device"),
        (bomb, "becomes 50 MB; at most 10 MB"),
        (longer_than_said, "damaged"),
        (encrypted, "without a password"),
        (cut_off, "damaged"),
        (crooked, "damaged"),
        (lambda folder: packed({"t.jsonl": LINES}, folder, compression=zipfile.ZIP_LZMA), "ordinary ZIP"),
        (lambda folder: (folder / "x.zip").write_bytes(b"no zip") and folder / "x.zip", "no ZIP at all"),
        (lambda folder: packed({"a.csv.gz": gzip.compress(bytes(50_000_000))}, folder), "becomes more than 10 MB"),
        (
            lambda folder: packed({"a.csv.bz2": bz2.compress(bytes(50_000_000))}, folder),
            "a.csv.bz2 becomes more than 10 MB",
        ),
        (
            lambda folder: packed({"a.csv.xz": lzma.compress(bytes(50_000_000))}, folder),
            "a.csv.xz becomes more than 10 MB",
        ),
        (lambda folder: packed({"a.csv.zst": zst(bytes(50_000_000))}, folder), "a.csv.zst becomes more than 10 MB"),
        (lambda folder: packed({"a.csv.gz": b"no gzip"}, folder), "a.csv.gz is damaged"),
        (lambda folder: packed({"a.csv.xz": b"no xz"}, folder), "a.csv.xz is damaged"),
        (lambda folder: packed({"t.jsonl": LINES, "t.jsonl.gz": gzip.compress(LINES)}, folder), "one compressed"),
    ],
)


@HOSTILE
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_zip_is_refused_and_leaves_nothing(make: Any, words: str, tmp_path: Path, home: Path) -> None:
    with pytest.raises(UserError, match=words):
        rows([(make(tmp_path), "evil.zip")], home)
    assert list(home.iterdir()) == [] and {path.name for path in tmp_path.iterdir()} <= {"upload.zip", "x.zip", "home"}


def test_a_single_packed_table_is_bounded_too(tmp_path: Path, home: Path) -> None:
    (tmp_path / "a").write_bytes(bz2.compress(bytes(50_000_000)))
    with pytest.raises(UserError, match="a.jsonl.bz2 becomes more than 10 MB when it is unpacked"):
        rows([(tmp_path / "a", "a.jsonl.bz2")], home)
    assert list(home.iterdir()) == []


def test_a_parquet_bomb_is_refused(tmp_path: Path, home: Path) -> None:
    """A tiny file whose pages become gigabytes."""
    path = tmp_path / "a.parquet"
    cells = [bytes(20 * 2**20) + bytes([n]) for n in range(60)]
    pq.write_table(pa.table({"image": cells, "problem": ["What?"] * 60}), path, compression="zstd")
    with pytest.raises(UserError, match="a.parquet has 0.. MB and becomes 1,258 MB"):
        rows([(path, "a.parquet")], home)


def test_too_many_files_are_refused(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 2)
    path = packed(PICTURES, tmp_path)
    with pytest.raises(UserError, match="has 3 files; at most 2"):
        rows([(path, "a.zip")], home)
    with pytest.raises(UserError, match="3 files; at most 2"):
        rows([(path, f"{n}.png") for n in range(3)], home)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "no file"),
        (["a.zip", "b.png"], "upload it alone"),
        (["a.png", "x/a.png"], "two files"),
        (["../.."], "no name of a file"),
        (["a\0b.png"], "no name of a file"),
    ],
)
def test_files_that_do_not_go_together(names: list[str], words: str, tmp_path: Path, home: Path) -> None:
    (tmp_path / "file").write_bytes(PICTURE)
    with pytest.raises(UserError, match=words):
        rows([(tmp_path / "file", name) for name in names], home)
    assert not home.exists() or list(home.iterdir()) == []


def test_a_picture_in_a_zip_is_checked_as_any_other(tmp_path: Path, home: Path) -> None:
    """A ZIP in a ZIP, and what only calls itself a picture, are refused by their rows."""
    from training.data.own_sets.sets import OwnSets

    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("x", b"x")
    path = packed({"a.png": PICTURE, "b.png": b"<svg/>", "c.zip": inner.getvalue()}, tmp_path)
    sets = OwnSets(home)
    with opened([(path, "a.zip")], sets.folder) as upload:
        assert sets.take_in("mine", upload.rows("pictures", {})) == {"": 1, "picture broken": 2}
