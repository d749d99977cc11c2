"""Rows that are made to take time or memory, or to end the program: each is read or refused, in linear time."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from inference.common.errors import UserError
from tests.inference.prompt.test_image import encoded
from tests.training.data.test_formats_values import ONE, ROW, lines, prepared, read, shape_of
from training.config.data_config import read_data_config
from training.data.open_source import open_source
from training.data.refusals import Refusal
from training.data.shapes.turns import pictures_in_turns
from training.data.source import row_shape


def nested(depth: int) -> Any:
    return json.loads("[" * depth + '"1.png"' + "]" * depth)


@pytest.mark.parametrize("column", ["image", "question", "answer", "options", "other", "hint"])
@pytest.mark.parametrize("settings", [{}, {"group_by": "image"}, {"group_by": "other"}])
def test_a_deep_cell_costs_its_row(column: str, settings: dict[str, str], tmp_path: Path, home: Path) -> None:
    rows = [ROW | {"other": "x", column: nested(900)}, *(ROW | {"other": "x"} for _ in range(2))]
    found = prepared(lines(tmp_path, rows), **settings)
    assert found.dropped.counts() == {"row unreadable": 1} and len(found.rows) == 2


def took(work: Callable[[], object]) -> float:
    """Seconds of this process; of two times the least."""
    times = []
    for _ in range(2):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def assert_linear(work: Callable[[int], object], small: int, large: int) -> None:
    """Fails where the large case takes more than eight times what its size explains."""
    work(small)
    before = max(took(lambda: work(small)), 0.002)
    assert took(lambda: work(large)) < 8 * before * large / small


@pytest.mark.parametrize("item", ["'' ", "'a.png',", '"a.png", ', "0,", "[],"])
@pytest.mark.parametrize("column", ["image", "answers", "answer", "options"])
def test_a_long_list_in_a_text_is_not_read(item: str, column: str) -> None:
    text = "['a', " + item * (600_000 // len(item)) + "'']"
    tracemalloc.start()
    try:
        found = read({column: text})
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert isinstance(found, str) or column in ("options", "answers")


def test_long_bytes_in_a_text_are_read() -> None:
    picture = encoded(Image.effect_noise((700, 700), 60).convert("RGB"))
    assert len(written := repr([{"bytes": picture, "path": None}])) > 1_000_000
    assert read({"image": written}) == {"problem": "Which?", "solution": "3", "num": 1}


@pytest.mark.parametrize("num_own", [0, 100])
def test_many_columns_are_read_in_linear_time_or_refused(num_own: int, tmp_path: Path, home: Path) -> None:
    def work(num: int) -> None:
        folder = tmp_path / str(num)
        if num_own:  # columns of its own in each row
            rows = [ROW | {f"x{row}_{n}": "1" for n in range(num_own)} for row in range(num // num_own)]
        else:
            rows = [ROW | {f"x{n}": "1" for n in range(num)}] * 30
        folder.mkdir(exist_ok=True)
        lines(folder, rows)
        config = read_data_config(dataset=str(folder))
        row_shape(config, open_source(config, ["train"]), "train")

    assert_linear(work, 300, 1_500)
    for num in (2_500, 20_000):
        with pytest.raises(UserError, match=r"columns; at most 2,000 are read. Leave out those that no row needs"):
            work(num)


@pytest.mark.parametrize("mark", ["<img>", "<img> a", "Picture 1: <img>", "<image", "![", "<|vision_start|>", "[IMG "])
def test_marks_in_turns_are_read_in_linear_time(mark: str) -> None:
    def work(text: str) -> None:
        turns = [{"role": "user", "content": text}, {"role": "assistant", "content": "3"}]
        row = {"image": ONE, "messages": turns}
        with suppress(Refusal):  # for more marks than pictures
            shape_of(row).cells(row)

    plain = took(lambda: work("(img) " * (20_000 * len(mark) // 6)))
    assert took(lambda: work(mark * 20_000)) < 30 * max(plain, 0.005)


def test_a_picture_in_a_tag_is_read_among_open_ones() -> None:
    turns = [{"from": "user", "value": "<img><img>images/a b.png</img>Which?"}]
    assert pictures_in_turns(turns) == ["images/a b.png"]


@pytest.mark.parametrize("text", [".", "a.", "./", "a", "A. ", "a/"])
def test_a_hint_is_read_in_linear_time(text: str) -> None:
    def work(num: int) -> None:
        with suppress(Refusal):
            read({"hint": text * num, "question": text * num})

    assert_linear(work, 1_000, 9_000)
