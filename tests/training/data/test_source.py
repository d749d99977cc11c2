"""Rows of files as values: numbers of every type, columns named twice, and what several splits say of each other."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.common.errors import UserError
from tests.inference.prompt.test_image import encoded, gradient
from training.config.data_config import read_data_config
from training.data.dataset import prepare_rows
from training.data.source import cells_of

COLOURS = ["red", "green", "blue", "grey"]


def parquet(path: Path, **columns: Any) -> Path:
    num = len(next(iter(columns.values())))
    pictures = [{"bytes": encoded(gradient(size=(40 + n, 30))), "path": None} for n in range(num)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": pictures, "problem": [f"Row {n}?" for n in range(num)]} | columns), path)
    return path


def golds(path: Path, **settings: Any) -> tuple[list[str], dict[str, int]]:
    found = prepare_rows(read_data_config(dataset=str(path), test_share=0, **settings))
    return list(found.rows["solution"]), found.dropped.counts()


NARROW = pa.struct([("value", pa.float32()), ("wide", pa.float64()), ("all", pa.list_(pa.float16()))])


@pytest.mark.parametrize(
    ("cells", "kind", "read"),
    [
        ([0.1, 2.5, 3.0, 1e-3], pa.float32(), ["0.1", "2.5", "3", "0.001"]),
        ([0.1, 3.0], pa.float64(), ["0.1", "3"]),
        ([np.float16(0.1), np.float16(3)], pa.float16(), ["0.1", "3"]),
        ([0.1, None, float("nan"), 7.0, float("inf")], pa.float32(), ["0.1", "7"]),
        ([0.1, None, float("nan"), 7.0], pa.float64(), ["0.1", "7"]),
        (["0.1", "nan", "", "NaN", None, "3.0", "<NA>"], pa.string(), ["0.1", "3.0"]),
        ([Decimal("0.10"), Decimal("3.00"), None], pa.decimal128(10, 2), ["0.1", "3"]),
        ([Decimal("12345678901234567890.5")], pa.decimal256(50, 4), ["12345678901234567890.5"]),
        ([[0.1], [3.0]], pa.list_(pa.float32()), ["0.1", "3"]),
        ([{"value": 0.1}, {"value": 3.0}], pa.struct([("value", pa.float32())]), ["0.1", "3"]),
        ([3, None], pa.int64(), ["3"]),
        (["none", "None", "N/A", "?"], pa.string(), ["none"]),
    ],
)
def test_golds_of_every_type(cells: list[Any], kind: pa.DataType, read: list[str], tmp_path: Path, home: Path) -> None:
    found, dropped = golds(parquet(tmp_path / "train.parquet", solution=pa.array(cells, kind)))
    assert found == read and dropped == ({"no gold": len(cells) - len(read)} if len(read) < len(cells) else {})


def test_empty_golds_of_a_table_are_dropped(tmp_path: Path, home: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(gradient()))
    (tmp_path / "train.csv").write_text(
        "image,problem,answer\n" + "".join(f"a.png,Row {g}?,{g}\n" for g in ("0.5", "", "nan"))
    )
    assert golds(tmp_path) == (["0.5"], {"no gold": 2})


@given(st.floats(width=32, allow_nan=False), st.floats(allow_nan=False))
def test_only_narrow_numbers_are_rounded(narrow: float, wide: float) -> None:
    row = {"value": narrow, "wide": wide, "all": None}
    table = pa.table(
        {"a": pa.array([row], NARROW), "m": pa.array([[("k", narrow)]], pa.map_(pa.string(), pa.float32()))}
    )
    cells: Any = cells_of(table, 0)
    assert np.float32(cells["a"]["value"]) == np.float32(narrow) and cells["a"]["wide"] == wide
    value = cells["a"]["value"]
    assert float(f"{value:.9g}") == value and cells["m"] == [("k", value)]  # 32 bits have nine digits at most


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    rows = parquet(tmp_path / "twice" / "train.parquet", answer=["1", "2"])
    table = pq.read_table(rows)
    pq.write_table(table.append_column("answer", pa.array(["3", "4"])), rows)
    (tmp_path / "train.csv").write_text("image,problem,answer,answer\na.png,How many?,3,4\n")
    for path in (rows, tmp_path / "train.csv"):
        with pytest.raises(
            UserError, match="has 2 columns 'answer'. Rename all but one|names the column 'answer' twice. Rename"
        ):
            golds(path)


def test_one_split_decides_what_the_golds_of_another_are(tmp_path: Path, home: Path) -> None:
    for split, answers in (("train", [1, 2, 3, 4]), ("test", [1, 2])):
        parquet(tmp_path / split / "0000.parquet", options=[COLOURS] * len(answers), answer=answers)
    found = prepare_rows(read_data_config(dataset=str(tmp_path), test_split="test", drop_repeats=False))
    assert [found.role(role)["solution"] for role in ("test",)] == [["A", "B"]]
    assert sorted(found.role("train")["solution"]) == [*"ABCD"] and found.about["reading"]["doubts"] == []
    again = prepare_rows(read_data_config(dataset=str(tmp_path), test_split="test", drop_repeats=False))
    assert again.about == found.about


def test_rows_beyond_the_sample_tell_the_indices_apart(tmp_path: Path, home: Path) -> None:
    """Sorted by their golds, as many are: only row 150 is the last option."""
    answers = [1] * 100 + [2] * 50 + [4]
    found = prepare_rows(
        read_data_config(
            dataset=str(parquet(tmp_path / "train.parquet", options=[COLOURS] * 151, answer=answers)), test_share=0
        )
    )
    assert set(found.rows["solution"]) == {"A", "B", "D"} and found.about["reading"]["doubts"] == []
