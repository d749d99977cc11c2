"""Pictures as cells hold them: base64 of every kind, mappings, formats of files, and paths as people write them."""

from __future__ import annotations

import base64
import io
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inference.common.settings import DEFAULT_LIMITS
from tests.inference.prompt.test_image import RED, grey_tiff
from tests.support.datasets_on_disk import picture, write_lines
from training.config.data_config import read_data_config
from training.data import pictures
from training.data.clean_row import clean_picture
from training.data.dataset import load_rows
from training.data.local_source import LocalSource
from training.data.picture_cells import names as picture_names
from training.data.picture_cells.text import looks_like_pictures
from training.data.pictures import Folders, read_pictures
from training.data.refusals import Refusal
from training.data.source import group_keys

PNG = picture(7)
PLAIN = base64.b64encode(PNG).decode()
URI = f"data:image/png;base64,{PLAIN}"


def encoded(file_format: str, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), RED).convert(mode).save(buffer, file_format)
    return buffer.getvalue()


def wrapped(text: str, end: str) -> str:
    return end.join(text[at : at + 76] for at in range(0, len(text), 76)) + end


CELLS: dict[str, object] = {
    "base64": PLAIN,
    "lines with CRLF": wrapped(PLAIN, "\r\n"),
    "lines with LF": wrapped(PLAIN, "\n"),
    "no padding": PLAIN.rstrip("="),
    "URL-safe": base64.urlsafe_b64encode(PNG).decode(),
    "URL-safe without padding": base64.urlsafe_b64encode(PNG).decode().rstrip("="),
    "a data URI": URI,
    "a data URI in upper case": URI.replace("data:image/png;base64", "DATA:IMAGE/PNG;BASE64"),
    "of bytes": f"data:application/octet-stream;base64,{PLAIN}",
    "with a character set": f"data:image/png;charset=utf-8;base64,{PLAIN}",
    "with a name": f"data:image/png;name=a.png;base64,{wrapped(PLAIN, chr(10))}",
    "without a type": f"data:;base64,{PLAIN}",
    "with signs as in an address": "data:image/png;base64," + PLAIN.replace("+", "%2B").replace("=", "%3D"),
    "bytes": {"bytes": PNG, "path": "b.png"},
    "base64 as bytes": {"bytes": PLAIN},
    "a data URI as bytes": {"bytes": URI},
    "no bytes, but a data URI": {"bytes": None, "url": URI},
    "no bytes, but a path": {"bytes": None, "path": "a.png"},
    "empty bytes, and a path": {"bytes": b"", "path": "a.png"},
    "bytes as Python prints them": repr(PNG),
    "a mapping with such bytes": str({"bytes": PNG, "path": None}),
    "a part of a message": {"type": "image_url", "image_url": {"url": URI}},
}


@pytest.mark.parametrize("name", CELLS)
def test_cells_with_a_picture(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    assert list(read_pictures(CELLS[name], Folders.of(tmp_path), DEFAULT_LIMITS)) == [PNG]
    assert looks_like_pictures(CELLS[name])


TEXTS = {
    "cut off": (repr(PNG)[:90], "picture broken: its bytes, which are written as text, are cut off; write"),
    "of the mapping cut off": (str({"bytes": PNG})[:90], "picture broken: .* cut off; .* the table as Parquet"),
    "with a letter that is no byte": (repr(PNG)[:40] + "\\u1234'", "picture .*"),
    "of Pillow": ("<PIL.PngImagePlugin.PngImageFile image mode=RGB size=36x30 at 0x7F>", ".*of a picture in memory"),
    "of numpy": ("array([[[255, 255, 255]]], dtype=uint8)", ".*prints of a picture in memory; write the pictures"),
    "rows of numbers": ("[[[255 255 255]\n  [255 255 255]]]", ".*prints of a picture in memory; .* as Parquet"),
    "anything long": ("[" + "0, " * 2_000, "picture refused: .* of 6,001 characters is no path of a file; write"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_pictures_that_hold_none(tmp_path: Path, name: str) -> None:
    text, words = TEXTS[name]
    with pytest.raises(Refusal) as refused:
        list(read_pictures(text, Folders.of(tmp_path), DEFAULT_LIMITS))
    assert re.match(words, f"{refused.value.reason}: {refused.value.detail}")


@given(st.binary(min_size=48))
def test_bytes_as_python_prints_them_are_read_and_nothing_is_run(content: bytes) -> None:
    for data in (b"\x89PNG" + content, b"GIF89a" + content, b"\xff\xd8\xff" + content):
        for text in (repr(data), str({"bytes": data, "path": None}), repr(bytearray(data))):
            assert looks_like_pictures(text) and list(read_pictures(text, None, DEFAULT_LIMITS)) == [data]


@given(st.binary(min_size=48), st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]), st.integers(1, 200))
def test_base64_of_any_file_is_told_from_a_path(tail: bytes, file_format: str, width: int) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (width, 9)).save(buffer, file_format)
    data = buffer.getvalue() + tail
    for text in (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode().rstrip("=")):
        assert list(read_pictures(wrapped(text, "\r\n"), None, DEFAULT_LIMITS)) == [data]


FORMATS: dict[str, tuple[Callable[[], bytes], tuple[int, int, int] | str]] = {
    "BMP": (lambda: encoded("BMP"), RED),
    "BMP with a palette": (lambda: encoded("BMP", "P"), RED),
    "GIF": (lambda: encoded("GIF"), RED),
    "WebP": (lambda: encoded("WEBP"), (255, 0, 2)),
    "TIFF": (lambda: encoded("TIFF"), RED),
    "TIFF of 12 bits": (lambda: grey_tiff(12, 1), (100, 100, 100)),
    "TIFF of 16 bits": (lambda: grey_tiff(16, 1), (100, 100, 100)),
    "half a TIFF": (lambda: grey_tiff(16, 1)[:900], "picture broken"),
    "HEIC": (
        lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(400),
        "picture broken.*HEIC pictures cannot be read. Export the picture as JPEG. docs/data.md has the commands",
    ),
    "PDF": (lambda: b"%PDF-1.7" + bytes(99), "picture broken"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_files_of_each_format_are_read_right_or_refused(name: str) -> None:
    make, expected = FORMATS[name]
    if isinstance(expected, str):
        with pytest.raises(Refusal, match=expected):
            clean_picture(make(), None)
    else:
        assert Image.open(io.BytesIO(clean_picture(make(), None))).getpixel((5, 5)) == expected


PATHS: dict[str, str] = {
    "images/a b.png": "read",
    "images/a%20b.png": "read",
    "./images/./a b.png": "read",
    "images\\a b.png": "read",
    ".\\images\\a%20b.png": "read",
    "images/50%.png": "read",
    "images/A B.PNG": "picture missing: .*there is 'images/a b.png'; write that name$",
    "Images/a b.png": "picture missing: .*there is 'images/a b.png'",
    "images/a_b.png": "picture missing: .*there is 'images/a b.png'",
    "images/a b.jpeg": "picture missing: .*there is 'images/a b.png'",
    " images/a b.png ": "read",
    "images/e\u0301.png": "read",
    "C:\\data\\a b.png": "picture missing: .* of another machine, and 'images/a b.png' is here",
    "C:\\data\\other.png": "picture missing: .*; write it relative to the data file, as images/1.png",
    "/home/alice/set/images/a b.png": "picture missing: .* of another machine, and 'images/a b.png' is here; write it "
    "so: the first rows' paths do not all begin with '/home/alice/set/', or lead to several files here$",
    "D:\\set\\images\\a b.png": r"picture missing: .* and 'images\\\\a b.png' is here; write it so: .* with 'D:",
    "/images/a b.png": "picture missing: .* and 'images/a b.png' is here; .* with '/'",
    "/home/alice/other.png": "picture refused: .*leads out of the dataset's folder",
    "images": "picture missing: 'images' is a folder, and no picture",
    "images/zzzzzz.tif": "picture missing: 'images/zzzzzz.tif' is no file in set/; name the folder",
    "file://images/a b.png": "picture refused: .*an address; write the path alone, without file://",
    "file:images/a.png": "picture refused: .*write the path alone",
    "..%2f..%2fetc/passwd": "picture missing|picture refused",
    "images/%2e%2e/%2e%2e/secret.png": "picture missing|picture refused",
    "data:image/png,%89PNG": "picture refused: .*no data URI of a picture in base64",
}


@pytest.mark.parametrize("path", PATHS)
def test_paths_as_people_write_them(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(picture(1))
    for name in ("a b.png", "50%.png", "\u00e9.png"):
        (folder / "images" / name).write_bytes(PNG)
    if PATHS[path] == "read":
        assert list(read_pictures(path, Folders.of(folder), DEFAULT_LIMITS)) == [PNG]
        return
    with pytest.raises(Refusal) as refused:
        list(read_pictures(path, Folders.of(folder), DEFAULT_LIMITS))
    said = f"{refused.value.reason}: {refused.value.detail}"
    assert re.match(PATHS[path], said), said


P = "images/{}.png"
MOVED: dict[str, tuple[list[str], list[str], str]] = {
    "of another machine": ([P], ["/home/alice/data/images/{}.png"], "another machine: /home/alice/data/ is left out"),
    "with a slash in front": ([P], ["/images/{}.png"], "another machine: / is left out"),
    "of Windows": ([P], ["D:\\set\\images\\{}.png"], "another machine: D:\\set\\ is left out"),
    "as an address of a file": ([P], ["file:///home/x/images/{}.png"], "another machine: /home/x/ is left out"),
    "beginning with the folder's own name": ([P], ["set/images/{}.png"], "another machine: set/ is left out"),
    "bare names": ([P], ["{}.png"], "pictures are sought in images/"),
    "bare names in the split's folder": (["train/{}.png"], ["{}.png"], "pictures are sought in train/"),
    "uploaded to Label Studio": ([P], ["/data/upload/1/{}.png"], "/data/upload/1/ is left out, and images/ stands"),
    "local in Label Studio": (
        [P],
        ["/data/local-files/?d=images%2F{}.png", "/data/local-files/?d=images/{}.png"],
        "d=",
    ),
    "bare names of two folders": ([P, "train/{}.png"], ["{}.png"], ""),
    "of two machines": ([P], ["/home/alice/images/{}.png", "/home/bob/images/{}.png"], ""),
    "of two folders that are one here": (["{}.png"], ["/data/a/{}.png", "/data/b/{}.png"], ""),
    "out of the folder": (["{}.png"], ["../{}.png"], ""),
    "in another folder": ([P], ["other/images/{}.png"], ""),
    "of an address": ([P], ["https://x.y/set/images/{}.png"], ""),
    "that are there": ([P], [P], ""),
}


@pytest.mark.parametrize("name", MOVED)
def test_paths_that_were_written_elsewhere(tmp_path: Path, name: str) -> None:
    """Those whose rest is here are read, and it is said; what may be two pictures is not."""
    here, cells, note = MOVED[name]
    for number in range(4):
        for path in here:
            file = tmp_path / "set" / path.format(number)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(picture(number))
    lines = [{"image": cells[n % len(cells)].format(n), "problem": "a/b.png?", "solution": "7"} for n in range(4)]
    write_lines(tmp_path / "set" / "train.jsonl", lines)
    source = LocalSource(tmp_path / "set", ["train"])
    assert note in "; ".join(source.notes) if note else not source.notes
    for row, line in zip(source.rows("train", range(4), ["image"]), lines):
        if note or name == "that are there":
            assert list(read_pictures(line["image"], row.folders, DEFAULT_LIMITS)) == [picture(row.position)]
        else:
            with pytest.raises(Refusal, match="picture"):
                list(read_pictures(line["image"], row.folders, DEFAULT_LIMITS))


PADDED = ["images/000.png", "images/001.png", "images/002.png"]
STEMS: dict[str, tuple[list[str], list[object], str]] = {
    "a number": (PADDED, ["0", "1", "2"], ""),
    "a number that is none": (PADDED, [0, 1.0, "2.0"], ""),
    "a number with zeros": (PADDED, ["000", "images/001", "./images\\002"], ""),
    "more zeros than the file": (["0.png", "1.png", "2.png"], ["00", "01", "000002"], ""),
    "words and dots": (["a/x.v1.png", "a/x.v2.jpg", "b/y z.PNG"], ["x.v1", "x.v2", "y%20z"], ""),
    "in any folder": (["deep/er/0.jpg", "other/1.png", "2.webp"], ["0", "1", "2"], ""),
    "beside the table goes first": (["0.png", "img/1.png", "2.png", "masks/0.png"], ["0", "1", "2"], ""),
    "masks beside pictures": (["images/0.png", "masks/0.png"], ["0"], "may be '(images|masks)/0.png' or '"),
    "of COCO": (
        [f"{split}2014/COCO_{split}2014_{at:012}.jpg" for at, split in enumerate(("train", "val", "train"))],
        [0, "1", "000000000002"],
        "",
    ),
    "numbers of two kinds": (["bar_1.png", "pie_1.png"], ["1"], "none of the 2 pictures"),
    "numbers alone go first": (["0.png", "pie_1.png"], ["1"], "none of the 2 pictures"),
    "whole names in folders of any name": (["scans/0.png", "a b/c/1.png", "2.png"], ["0.png", "c/1.png", "2.png"], ""),
    "whole names in two folders": (
        ["a/0.png", "b/0.png"],
        ["0.png"],
        "'0.png' may be '[ab]/0.png' or '[ab]/0.png'",
    ),
    "another suffix": (["scans/0.png"], ["0.jpg"], "'0.jpg' is no file in set/"),
    "two suffixes": (["0.png", "0.jpg"], ["0"], "'0' may be '0.(png|jpg)' or '0.(png|jpg)'; write the path of the one"),
    "two folders": (["a/0.png", "b/0.png"], ["0"], "'0' may be '[ab]/0.png' or '[ab]/0.png'; write the path"),
    "a number that two files are": (["0.png", "00.png", "01.png"], ["1"], "none of the 3 pictures under set/ has that"),
    "another number": (
        PADDED,
        [9],
        "'9' is no file in set/, and none of the 3 pictures under set/ has that name without",
    ),
    "other zeros": (PADDED, ["00", "01", "0002"], ""),
    "the end of a name": (
        ["images/ab.png"],
        ["b"],
        "none of the 1 pictures .*; write the file's path, as images/1.png",
    ),
    "out of the folder": (PADDED, ["../set/images/000"], "picture refused|is no file"),
    "a truth value": (PADDED, [True], "a bool is no picture"),
}


@pytest.mark.parametrize("name", STEMS)
def test_names_without_a_suffix(tmp_path: Path, name: str) -> None:
    """Are those of the one picture that has that name; what may be two pictures is refused with both."""
    files, cells, words = STEMS[name]
    for number, path in enumerate(files):
        (tmp_path / "set" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / path).write_bytes(picture(number))
    rows = [{"image": cell, "problem": f"What is {at}?", "solution": "7"} for at, cell in enumerate(cells)]
    write_lines(tmp_path / "set" / "train.jsonl", rows)
    source = LocalSource(tmp_path / "set", ["train"])
    for row in source.rows("train", range(len(cells)), ["image"]):
        assert not isinstance(row.cells, Refusal)
        if not words:
            assert list(read_pictures(row.cells["image"], row.folders, DEFAULT_LIMITS)) == [picture(row.position)]
            continue
        with pytest.raises(Refusal) as refused:
            list(read_pictures(row.cells["image"], row.folders, DEFAULT_LIMITS))
        said = f"{refused.value.reason}: {refused.value.detail}"
        assert re.search(words, said), said


def test_names_without_a_suffix_beside_one_file(tmp_path: Path) -> None:
    """Are sought beside it and in folders of pictures; another picture of that name changes what the dataset is."""
    for number, path in enumerate(("0.png", "images/train/01.png", "other/2.png")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(picture(number))
    file = write_lines(tmp_path / "a.jsonl", [{"image": n, "problem": "Who?", "solution": "7"} for n in range(3)])
    source = LocalSource(file, ["train"])
    found = [row.folders for row in source.rows("train", range(3), ["image"])]
    assert [list(read_pictures(n, found[n], DEFAULT_LIMITS)) for n in range(2)] == [[picture(0)], [picture(1)]]
    with pytest.raises(Refusal, match="none of the 2 pictures"):
        list(read_pictures(2, found[2], DEFAULT_LIMITS))
    before = source.identity
    (tmp_path / "images" / "train" / "01.png").write_bytes(PNG)
    assert LocalSource(file, ["train"]).identity != before


def test_names_without_a_suffix_of_too_many_pictures_are_not_sought(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(picture_names, "MAX_PICTURES", 2)
    for path in PADDED:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(PNG)
    write_lines(tmp_path / "train.jsonl", [{"image": "0", "problem": "What?", "solution": "7"}])
    [row] = LocalSource(tmp_path, ["train"]).rows("train", [0], ["image"])
    with pytest.raises(Refusal, match="no pictures under .* or more than 2, have that name without its suffix"):
        list(read_pictures("0", row.folders, DEFAULT_LIMITS))


def test_the_folder_that_is_named_goes_first(tmp_path: Path) -> None:
    for number, place in enumerate(("set", "named")):
        (tmp_path / place / "images").mkdir(parents=True)
        (tmp_path / place / "images" / "1.png").write_bytes(picture(number))
    file = write_lines(tmp_path / "set" / "train.jsonl", [{"image": "images/1.png", "problem": "p", "solution": "7"}])
    for dataset in (file, tmp_path / "set"):
        for root, number in ((None, 0), (tmp_path / "named", 1)):
            [row] = LocalSource(dataset, ["train"], root).rows("train", [0], ["image"])
            assert list(read_pictures("images/1.png", row.folders, DEFAULT_LIMITS)) == [picture(number)]


@pytest.mark.parametrize(
    ("link", "target", "path", "words"),
    [
        ("images", "gone", "images/1.png", "picture missing: 'images' is a broken link: there is no gone"),
        ("1.png", "gone.png", "1.png", "picture missing: '1.png' is a broken link: there is no gone.png"),
        ("images", "../real", "images/1.png", "picture refused: 'images' is a link out .* with image_root .*/real$"),
        ("1.png", "../real/1.png", "1.png", "picture refused: '1.png' is a link out .* with image_root .*/real$"),
        ("images", "../real", "images/2.png", "picture refused: 'images' is a link out .* with image_root .*/real$"),
        ("1.png", "folder", "1.png", "picture missing: '1.png' is a folder, and no picture"),
    ],
)
def test_what_is_wrong_with_a_link(tmp_path: Path, link: str, target: str, path: str, words: str) -> None:
    """And the folder that a refusal names, named, makes the picture readable."""
    for folder in ("set/folder", "real"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "real" / "1.png").write_bytes(PNG)
    (tmp_path / "set" / link).symlink_to(target)
    folder = tmp_path / "set"
    with pytest.raises(Refusal) as refused:
        list(read_pictures(path, Folders.of(folder), DEFAULT_LIMITS))
    said = f"{refused.value.reason}: {refused.value.detail}"
    assert re.match(words, said), said
    if "image_root" in words and "2" not in path:
        root = Path(said.rpartition(" ")[2])
        assert list(read_pictures(path, Folders.of(root, folder), DEFAULT_LIMITS)) == [PNG]


def test_a_near_name_is_sought_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_NAMES", 5)
    for n in range(50):
        (tmp_path / f"{n}.png").write_bytes(PNG)
    assert set(pictures._names_in(tmp_path, -1).values()) <= {f"{n}.png" for n in range(50)}
    assert len(set(pictures._names_in(tmp_path, -1).values())) == 5


def test_many_missing_pictures_take_little_time(tmp_path: Path) -> None:
    """All names in a folder are compared with none of them: 300 refusals among 3,000 names."""
    for n in range(3_000):
        (tmp_path / f"picture_{n:05d}.png").touch()
    began = time.process_time()
    for n in range(300):
        with pytest.raises(Refusal, match=f"there is 'picture_{n:05d}.png'"):
            list(read_pictures(f"picture-{n:05d}.png", Folders.of(tmp_path), DEFAULT_LIMITS))
    assert time.process_time() - began < 3


def test_a_dataset_of_one_file_is_its_file_and_the_pictures_it_names(tmp_path: Path, monkeypatch) -> None:
    """Other files beside and below it are not even looked at."""
    folder = tmp_path / "home"
    (folder / "deep" / "er").mkdir(parents=True)
    for n in range(3):
        (folder / f"{n}").write_bytes(picture(n))  # without a suffix
    cells = [{"images": [{"path": "0"}, "1"], "problem": f"What is {n}?", "solution": "7"} for n in range(30)]
    write_lines(folder / "rows.jsonl", cells)

    def told() -> tuple[str, str]:
        source = LocalSource(folder / "rows.jsonl", ["train"])
        return source.signature(), source.identity

    before = told()
    (folder / "deep" / "er" / "new.png").write_bytes(PNG)
    (folder / "2").write_bytes(PNG)
    assert told() == before
    (folder / "1").write_bytes(PNG)
    assert told() != before
    monkeypatch.setattr(os, "walk", None)
    before = told()
    write_lines(folder / "rows.jsonl", [*cells, cells[0]])
    assert told()[0] != before[0] and told()[1] != before[1]


@pytest.mark.parametrize(
    ("name", "is_part"),
    [
        ("wandb/run-1/files/output.png", False),
        (".git/index", False),
        ("train.log", False),
        ("audit.html", False),
        ("events.out.tfevents.17", False),
        (".DS_Store", False),
        ("more/x.png", True),
        ("logs/x.png", True),
    ],
)
def test_logs_and_reports_are_no_part_of_a_folder(tmp_path: Path, name: str, is_part: bool) -> None:
    write_lines(tmp_path / "train.jsonl", [{"image": "a.png", "problem": "What?", "solution": "7"}])
    before = LocalSource(tmp_path, ["train"])
    signature, identity = before.signature(), before.identity
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(PNG)
    after = LocalSource(tmp_path, ["train"])
    assert (after.signature() != signature, after.identity != identity) == (is_part, is_part)


def test_names_of_one_picture_are_one_group(tmp_path: Path, home: Path) -> None:
    """Another path, a hard link, the same bytes elsewhere, and the bytes themselves."""
    for place in ("a", "b"):
        (tmp_path / "set" / place).mkdir(parents=True)
    folder = tmp_path / "set"
    (folder / "a" / "0.png").write_bytes(picture(0))
    (folder / "a" / "1.png").write_bytes(picture(1))
    os.link(folder / "a" / "0.png", folder / "b" / "link.png")
    (folder / "b" / "copy.png").write_bytes(picture(0))
    uri = f"data:image/png;base64,{base64.b64encode(picture(0)).decode()}"
    names = ["a/0.png", "./a/0.png", "b/link.png", "b/copy.png", uri, "a/1.png", "b/missing.png"]
    write_lines(
        folder / "train.jsonl", [{"image": n, "problem": f"What is {i}?", "solution": "7"} for i, n in enumerate(names)]
    )
    config = read_data_config(dataset=str(folder), group_by="image", test_rows=1)
    groups = group_keys(config, LocalSource(folder, ["train"]))
    keys = [groups["train", at] for at in range(len(names))]
    assert len(set(keys[:5])) == 1 and len(set(keys)) == 3
    splits = load_rows(config)
    in_test = {row_id.split("-")[1] for row_id in splits.test["row_id"]}
    together = {f"{at:06d}" for at in range(5)}
    assert together <= in_test or not together & in_test


def test_rows_that_share_a_picture_are_one_group(tmp_path: Path) -> None:
    """Also by way of another row."""
    for n in range(5):
        (tmp_path / f"{n}.png").write_bytes(picture(n))
    shared = [["0.png", "1.png"], ["1.png", "2.png"], ["3.png"], ["2.png"], ["4.png", "3.png"]]
    write_lines(
        tmp_path / "train.jsonl",
        [{"images": p, "problem": f"What is {i}?", "solution": "7"} for i, p in enumerate(shared)],
    )
    found = group_keys(read_data_config(dataset=str(tmp_path), group_by="image"), LocalSource(tmp_path, ["train"]))
    keys = [found["train", at] for at in range(5)]
    assert keys[0] == keys[1] == keys[3] != keys[2] == keys[4]
