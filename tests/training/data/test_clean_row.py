"""Raw rows, most of them hostile: each becomes a clean row or is refused for one of the known reasons."""

from __future__ import annotations

import base64
import io
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inference.common.settings import DEFAULT_LIMITS
from tests.inference.prompt.test_image import bomb, claimed, encoded, gradient
from training.data.clean_row import clean_row, normalised
from training.data.picture_cells.names import PictureNames
from training.data.pictures import Folders
from training.data.refusals import REASONS, Refusal

GOLD = "<think>3 + 4</think>\n\n<answer>7</answer>"
PNG = encoded(gradient(size=(40, 30)))


def row(**cells: Any) -> dict[str, Any]:
    return {"image": PNG, "problem": "How many?", "solution": GOLD} | cells


def reason(raw: dict[str, Any], root: Path | None = None) -> str:
    with pytest.raises(Refusal) as refused:
        clean_row(raw, root and Folders.of(root))
    assert refused.value.reason in REASONS
    return refused.value.reason


DEEP: Any = []
for _ in range(500):
    DEEP = [DEEP]

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no picture": ({"image": None}, "picture missing"),
    "no picture in the struct": ({"image": {"bytes": None, "path": None}}, "picture missing"),
    "0 bytes": ({"image": b""}, "picture missing"),
    "an empty list": ({"image": []}, "picture missing"),
    "one of two is missing": ({"image": [PNG, None]}, "picture missing"),
    "one of two is broken": ({"image": [PNG, b"hello" * 99]}, "picture broken"),
    "a number": ({"image": 7}, "picture missing"),
    "lists in lists": ({"image": DEEP}, "picture missing"),
    "nine pictures": ({"image": [PNG] * 9}, "too many pictures"),
    "an address": ({"image": "https://example.org/a.png"}, "picture refused"),
    "an address in the struct": ({"image": {"bytes": None, "path": "http://127.0.0.1/a.png"}}, "picture refused"),
    "a file address": ({"image": "file:///etc/passwd"}, "picture refused"),
    "a share": ({"image": "//server/share.png"}, "picture refused"),
    "another file system": ({"image": "hf://datasets/a/b/c.png"}, "picture refused"),
    "a path without a folder": ({"image": "a.png"}, "picture refused"),
    "broken base64": ({"image": {"bytes": "!!!"}}, "picture broken"),
    "text": ({"image": b"hello" * 99}, "picture broken"),
    "half a file": ({"image": encoded(gradient())[:3000]}, "picture broken"),
    "SVG": ({"image": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}, "picture broken"),
    "a decompression bomb": ({"image": bomb()}, "picture too large"),
    "a header that claims": ({"image": claimed(60_000, 60_000)}, "picture too large"),
    "a large file": ({"image": bytes(21_000_000)}, "picture too large"),
    "a line of pixels": ({"image": encoded(Image.new("L", (9_000, 2)))}, "picture too large"),
    "no problem": ({"problem": None}, "no problem"),
    "spaces": ({"problem": " \n\t"}, "no problem"),
    "a number for a problem": ({"problem": 3}, "no problem"),
    "bytes for a problem": ({"problem": b"How many?"}, "no problem"),
    "a huge problem": ({"problem": "x" * 3_000_000}, "problem too long"),
    "no solution": ({"solution": None}, "no gold"),
    "an empty answer": ({"solution": "<think>hm</think> <answer> </answer>"}, "no gold"),
    "a list of answers": ({"solution": ["7"]}, "no gold"),
    "a truth value": ({"solution": True}, "no gold"),
    "not a number": ({"solution": float("nan")}, "no gold"),
    "a huge solution": ({"solution": "x" * 3_000_000}, "gold too long"),
    "a huge integer": ({"solution": 10**5_000}, "gold too long"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_and_why(name: str) -> None:
    cells, why = REFUSED[name]
    assert reason(row(**cells)) == why


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("../secret.png", "picture refused"),
        ("pictures/../../secret.png", "picture refused"),
        ("{outside}/secret.png", "picture refused"),
        ("out.png", "picture refused"),
        ("through/secret.png", "picture refused"),
        ("loop.png", "picture missing"),
        ("pictures", "picture missing"),
        ("pipe.png", "picture missing"),
        ("nowhere.png", "picture missing"),
        ("a\0.png", "picture refused"),
        ("x" * 2_000, "picture refused"),
        ("y" * 300, "picture missing"),
        ({"path": "../secret.png"}, "picture refused"),
    ],
)
def test_no_path_leads_out_of_the_folder(cell: Any, why: str, tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    (root / "pictures").mkdir(parents=True)
    outside.mkdir()
    for place in (outside, tmp_path):
        (place / "secret.png").write_bytes(PNG)
    (root / "out.png").symlink_to(outside / "secret.png")
    (root / "through").symlink_to(outside)
    (root / "loop.png").symlink_to(root / "loop.png")
    os.mkfifo(root / "pipe.png")
    if isinstance(cell, str):
        cell = cell.replace("{outside}", str(outside))
    assert reason(row(image=cell), root) == why


def test_paths_within_the_folder(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.png").write_bytes(PNG)
    (tmp_path / "link.png").symlink_to("pictures/1.png")
    for cell in ("pictures/1.png", "./link.png", "pictures/../link.png", {"path": "link.png"}, ["link.png"]):
        assert clean_row(row(image=cell), Folders.of(tmp_path)).pictures == [PNG]


@pytest.mark.parametrize(
    "cell",
    [
        PNG,
        {"bytes": PNG, "path": "/etc/passwd"},
        {"bytes": base64.b64encode(PNG).decode()},
        "data:image/png;base64," + base64.b64encode(PNG).decode(),
    ],
)
def test_bytes_in_any_dress(cell: Any) -> None:
    assert clean_row(row(image=cell), None).pictures == [PNG]


def test_a_plain_picture_keeps_its_bytes_and_others_become_rgb() -> None:
    jpeg = encoded(gradient(size=(64, 48)), "JPEG", quality=80)
    assert clean_row(row(image=jpeg), None).pictures == [jpeg]
    turned = Image.Exif()
    turned[0x0112] = 6
    cases = {
        "a grey PNG": (encoded(gradient("L", (40, 30))), "PNG", (40, 30)),
        "transparency": (encoded(gradient("RGBA", (40, 30))), "PNG", (40, 30)),
        "WebP": (encoded(gradient(size=(40, 30)), "WEBP", lossless=True), "PNG", (40, 30)),
        "a turned JPEG": (encoded(gradient(size=(40, 30)), "JPEG", exif=turned), "JPEG", (30, 40)),
        "a picture": (gradient(size=(40, 30)), "PNG", (40, 30)),
    }
    for name, (source, kind, size) in cases.items():
        clean = clean_row(row(image=source), None)
        kept = Image.open(io.BytesIO(clean.pictures[0]))
        assert (kept.format, kept.mode, kept.size) == (kind, "RGB", size), name
        assert clean.sizes == [*size], name


def test_the_pixel_cap() -> None:
    limits = DEFAULT_LIMITS.model_copy(update={"max_model_pixels": 10_000})
    clean = clean_row(row(image=encoded(gradient(size=(400, 300)))), None, limits)
    assert clean.original_pixels == 120_000
    assert 9_000 < math.prod(clean.sizes) <= 10_000


def test_several_pictures_keep_their_order_and_are_limited_together() -> None:
    other = encoded(gradient(size=(30, 40)))
    both, turned = (clean_row(row(image=pair), None) for pair in ([PNG, other], [{"bytes": other}, PNG]))
    assert both.pictures == [PNG, other] and turned.pictures == [other, PNG]
    assert both.sizes == [*Image.open(io.BytesIO(PNG)).size, 30, 40]
    alone = [clean_row(row(image=one), None) for one in (PNG, other)]
    assert both.picture_digest.split() == [one.picture_digest for one in alone]
    assert both.look == "".join(one.look for one in alone)
    assert both.original_pixels == sum(one.original_pixels for one in alone)
    assert len({one.row_digest for one in (both, turned, *alone)}) == 4
    limits = DEFAULT_LIMITS.model_copy(update={"max_pixels": both.original_pixels - 1})
    with pytest.raises(Refusal, match="picture too large.*The 2 pictures have .* pixels together; at most"):
        clean_row(row(image=[PNG, other]), None, limits)


def test_equal_pixels_have_equal_digests_however_they_are_encoded() -> None:
    again = encoded(gradient(size=(40, 30)), "BMP")
    one = clean_row(row(), None)
    same = clean_row(row(image=again, problem="HOW  many?\n", solution="8"), None)
    assert (one.picture_digest, one.row_digest) == (same.picture_digest, same.row_digest)
    other = clean_row(row(problem="How many more?"), None)
    assert one.picture_digest == other.picture_digest and one.row_digest != other.row_digest
    assert clean_row(row(image=gradient(size=(30, 40))), None).picture_digest != one.picture_digest


def test_texts() -> None:
    clean = clean_row(
        row(problem="a\ud800b\0", solution=24, original_answer=3.5, original_question=None, kind=[1]), None
    )
    assert (clean.problem, clean.solution) == ("a?b", "24")
    assert clean.extras == {"original_answer": "3.5", "original_question": None, "kind": None}
    assert normalised("ＨOW  Many\n") == "how many"


cells = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["bytes", "path", "x"]), inner),
    max_leaves=5,
)

NOWHERE = Path("/nonexistent-folder")
FOLDERS = Folders.of(NOWHERE, names=(PictureNames(NOWHERE, lambda: ["0.png", "a/1.png", "b/1.jpg"]),))


@given(st.dictionaries(st.sampled_from(["image", "problem", "solution", "kind"]), cells))
def test_anything_is_cleaned_or_refused(raw: dict[str, Any]) -> None:
    try:
        clean_row(raw, FOLDERS)
    except Refusal as refusal:
        assert refusal.reason in REASONS
