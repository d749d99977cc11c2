"""Binary files that become far larger than they are: they are refused before they take memory or time."""

from __future__ import annotations

import time
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inference.common.errors import UserError
from training.data.files import expansion
from training.data.files.row_files import open_file
from training.data.local_source import LocalSource

MB = 2**20


def repeated(num: int, value_bytes: int, num_values: int = 1) -> pa.Table:
    """Rows of a dictionary: as small as their indices until they are read."""
    values = pa.array([bytes(value_bytes)] + [b"%d" % n for n in range(1, num_values)])
    cells = pa.DictionaryArray.from_arrays(pa.array([0] * num, pa.int32()), values)
    return pa.table({"image": cells, "problem": ["What?"] * num})


def written(path: Path, table: pa.Table, compression: str | None = None) -> Path:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema, options=options) as writer:
        writer.write_table(table)
    return path


def test_a_dictionary_of_parquet_is_counted_before_it_is_read(tmp_path: Path) -> None:
    pq.write_table(repeated(100_000, MB), tmp_path / "a.parquet", compression="zstd")
    began, before = time.process_time(), pa.total_allocated_bytes()
    with pytest.raises(
        UserError, match="a.parquet has 0.. MB and becomes 104,85. MB when it is read; at most 1,000 MB"
    ):
        LocalSource(tmp_path / "a.parquet", ["train"])
    assert time.process_time() - began < 1 and pa.total_allocated_bytes() - before < MB


def test_a_dictionary_with_one_large_value_is_counted_while_it_is_read(tmp_path: Path) -> None:
    """Its mean says little, so that reading stops at the limit."""
    pq.write_table(repeated(20_000, MB, num_values=2_000), tmp_path / "a.parquet", compression="zstd")
    file = open_file(tmp_path / "a.parquet")[0][""]
    began = time.process_time()
    with pytest.raises(UserError, match="becomes more than 1,000 MB when it is read"):
        for _ in file.rows(range(len(file)), ["image", "problem"]):
            pass
    assert time.process_time() - began < 10


def test_pictures_that_stand_in_several_rows_are_read(tmp_path: Path) -> None:
    pq.write_table(repeated(400, MB), tmp_path / "a.parquet", compression="zstd")
    assert LocalSource(tmp_path / "a.parquet", ["train"]).sizes == {"train": 400}
    table = pa.table({"image": [bytes([n % 251]) * 9_000 for n in range(2_000)], "problem": ["What?"] * 2_000})
    pq.write_table(table, tmp_path / "b.parquet", compression="zstd")
    file = open_file(tmp_path / "b.parquet")[0][""]
    assert sum(len(row["image"]) for _, row in file.rows(range(2_000), ["image"])) == 18_000_000  # type: ignore[call-overload, index, arg-type]


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_compressed_arrow_is_bounded_before_it_is_inflated(tmp_path: Path, compression: str) -> None:
    table = pa.table({"image": [bytes(20 * MB) + bytes([n]) for n in range(15)], "problem": ["What?"] * 15})
    small = written(tmp_path / "a.arrow", table.slice(0, 2), compression)
    assert LocalSource(small, ["train"]).sizes == {"train": 2}
    bomb = written(tmp_path / "b.arrow", table, compression)
    before = pa.total_allocated_bytes()
    with pytest.raises(
        UserError, match="b.arrow is compressed, and becomes more than 268 MB in memory. Write it without"
    ):
        LocalSource(bomb, ["train"])
    assert pa.total_allocated_bytes() - before < MB
    saved = tmp_path / "saved"
    datasets.Dataset.from_dict({"problem": ["What?"]}).save_to_disk(str(saved))
    [shard] = saved.glob("*.arrow")
    shard.write_bytes(bomb.read_bytes())
    with pytest.raises(UserError, match="arrow is compressed, and becomes more than 268 MB"):
        LocalSource(saved, ["train"])


def test_a_dictionary_of_arrow_is_counted_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expansion, "SMALL_BYTES", 50 * MB)
    file = open_file(written(tmp_path / "a.arrow", repeated(300, MB // 2)))[0][""]
    with pytest.raises(UserError, match="becomes more than 5. MB when it is read"):
        list(file.rows(range(len(file)), ["image", "problem"]))


@pytest.mark.parametrize("at", [10, 60, 200, 400])
def test_damaged_heads_of_arrow_are_refused_in_words(tmp_path: Path, at: int) -> None:
    path = written(tmp_path / "a.arrow", pa.table({"problem": ["What?"] * 9}), "zstd")
    content = bytearray(path.read_bytes())
    content[at : at + 40] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(UserError, match="a.arrow is not a readable Arrow file"):
        LocalSource(path, ["train"])
