"""Columns of pictures: one of several, several in their order, and those that are named as not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inference.common.errors import UserError
from tests.inference.prompt.test_image import encoded, gradient
from training.config.data_config import read_data_config
from training.data.formats import RowShape, recognise
from training.data.pictures import Folders

ONE, TWO, THREE = (encoded(gradient(size=(40 + n, 30))) for n in range(3))


def shape_of(row: dict[str, Any], folder: Path | None = None, **columns: str) -> RowShape:
    row = row | {"problem": "Which?", "solution": "3"}
    config = read_data_config(dataset="owner/name", columns=columns)
    return recognise(config, list(row), [row], folder and Folders.of(folder))


@pytest.mark.parametrize(
    "row",
    [
        {"image": ONE, "image2": TWO},
        {"image": ONE, "image_2": TWO},
        {"image_2": TWO, "image": ONE},
        {"image_2": TWO, "image_1": ONE},
        {"image1": ONE, "image2": TWO},
        {"images_1": ONE, "images_2": TWO},
        {"images_1": [ONE], "images_2": [TWO]},
        {"right_image": TWO, "left_image": ONE},
        {"image_right": TWO, "image_left": ONE},
        {"imageB": TWO, "imageA": ONE},
        {"Image Before": ONE, "Image After": TWO},
        {"second_picture": TWO, "first_picture": ONE},
        {"img_path_1": "1.png", "img_path_2": "2.png"},
        {"image_path2": "2.png", "image_path": "1.png"},
        {"image": ONE, "image_1": ONE, "image_2": TWO},
        {"image": [ONE], "image_2": {"bytes": TWO, "path": None}},
        {"image": ONE, "image_2": TWO, "image_3": None},
        {"image_10": TWO, "image_9": ONE},
        {"image1_base64": "/9j/" + "A" * 80, "image2_base64": "/9j/" + "B" * 80},
        {"left.png": ONE, "right.png": TWO},
    ],
)
def test_several_columns_in_their_order(row: dict[str, Any]) -> None:
    shape = shape_of(row)
    found = shape.cells(row | {"problem": "Which?", "solution": "3"})["image"]
    assert [cell["bytes"] if isinstance(cell, dict) else cell for cell in found] in (  # type: ignore[attr-defined]
        [ONE, TWO], ["1.png", "2.png"], ["/9j/" + "A" * 80, "/9j/" + "B" * 80]
    )  # fmt: skip
    assert " + ".join(shape.image) in shape.words and len(shape.image) >= 2 and shape.doubts == ()


@pytest.mark.parametrize(
    ("row", "image"),
    [
        ({"image": ONE, "image_id": 17}, "image"),
        ({"image": ONE, "image2": 2}, "image"),
        ({"image": ONE, "image_width": 40, "image_2_width": 40}, "image"),
        ({"image": ONE, "images": [ONE]}, "image"),
        ({"image": ONE, "image_bytes": ONE}, "image"),
        ({"image": "a.png", "decoded_image": ONE}, "decoded_image"),
        ({"image": None, "image_path": "1.png"}, "image_path"),
        ({"image": 17, "image_path": "1.png"}, "image_path"),
        ({"image": "000017", "file_name": "1.png"}, "file_name"),
        ({"image": "000017", "where": "1.png"}, "where"),
        ({"image": "img 17", "img_path": {"path": "1.png"}}, "img_path"),
    ],
)
@pytest.mark.parametrize("is_here", [True, False])
def test_one_column_of_several(row: dict[str, Any], image: str, is_here: bool, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(ONE)
    shape = shape_of(row, tmp_path if is_here else None)
    assert shape.image == (image,) and shape.doubts == ()


@pytest.mark.parametrize(
    ("row", "image"),
    [
        ({"image": "a.png", "image_path": "images/1.png"}, "image_path"),
        ({"image": "images/1.png", "image_path": "a.png"}, "image"),
        ({"image": "17", "image_path": "images/a"}, "image_path"),
        ({"image": "images/a", "image_id": "17"}, "image"),
        ({"image": "https://example.org/1.png", "image_path": "images/1.png"}, "image_path"),
        ({"image": "../1.png", "file_name": "images/1.png"}, "file_name"),
    ],
)
def test_the_column_whose_files_are_there(row: dict[str, Any], image: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("1.png", "a"):
        (tmp_path / "images" / name).write_bytes(ONE)
    assert shape_of(row, tmp_path).image == (image,)


def test_pictures_that_are_not_read_are_named_and_can_be_mapped() -> None:
    row = {"image": ONE, "mask": TWO, "thumbnail": [THREE]}
    assert shape_of(row).doubts == (
        "Pictures in mask, thumbnail are not read. If the problems are about them too, name them all: "
        '--columns "{image: image + mask + thumbnail}".',
    )
    mapped = shape_of(row, image="image + mask + thumbnail")
    assert mapped.cells(row)["image"] == [ONE, TWO, THREE] and mapped.doubts == ()
    with pytest.raises(UserError, match="has no column 'none' for `image`; it has image, mask"):
        shape_of(row, image="image + none")
    named = shape_of({"a + b": ONE, "image": TWO}, image="a + b")
    assert named.image == ("a + b",)
