"""The adapters in memory: few, the served one always, and what a row brings along lives as long as the row."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from inference.adapters.memory_cache import AdapterCache
from inference.adapters.record import AdapterRecord
from inference.common.errors import Busy, UserError


@pytest.fixture
def records(tmp_path: Path) -> list[AdapterRecord]:
    """Six folders that look like adapters."""
    found = []
    for number in range(6):
        folder = tmp_path / f"a{number}"
        folder.mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (folder / name).write_text(str(number))
        found.append(AdapterRecord(folder.name, folder, None))
    return found


class Reader:
    """Reads a folder as its own name, and notes that it did."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, folder: Path) -> Any:
        self.read.append(folder.name)
        return {folder.name: object()}


def test_the_least_recently_asked_for_leaves_and_the_served_one_stays(records: list[AdapterRecord]) -> None:
    reader = Reader()
    cache = AdapterCache(reader, max_cached=3)
    cache.hold(records[0], serve=True)
    for record in records[1:]:
        cache.hold(record)
        assert len(cache) <= 3
    assert reader.read == ["a0", "a1", "a2", "a3", "a4", "a5"]
    for number in (0, 4, 5):
        cache.hold(records[number])
    assert len(reader.read) == 6, "these three are there"
    cache.hold(records[1], serve=True)
    for record in records[2:]:
        cache.hold(record)
    cache.hold(records[1])
    assert reader.read[6:] == ["a1", "a2", "a3", "a4", "a5"]


def test_many_at_once_load_it_once(records: list[AdapterRecord]) -> None:
    reader = Reader()
    cache, found = AdapterCache(reader), []
    threads = [threading.Thread(target=lambda: found.append(cache.hold(records[0])())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert reader.read == ["a0"] and len({id(adapter) for adapter in found}) == 1 and len(found) == 8


def test_changed_files_are_read_anew_and_gone_ones_are_told(records: list[AdapterRecord]) -> None:
    reader = Reader()
    cache = AdapterCache(reader)
    before = cache.hold(records[0])()
    (records[0].path / "adapter_model.safetensors").write_text("longer")
    assert cache.hold(records[0])() is not before and reader.read == ["a0", "a0"]
    shutil.rmtree(records[0].path)
    with pytest.raises(UserError, match="no longer on this machine"):
        cache.hold(records[0])


def test_what_rows_still_need_counts_and_is_not_read_twice(records: list[AdapterRecord]) -> None:
    reader = Reader()
    cache = AdapterCache(reader, max_cached=2, max_alive=4)
    rows = [cache.hold(record) for record in records[:4]]
    assert cache.hold(records[0])() is rows[0](), "it has left the cache, but not the machine"
    with pytest.raises(Busy, match="4 adapters are being answered.*Ask again"):
        cache.hold(records[4])
    rows.append(cache.hold(records[4], serve=True))
    del rows[2]
    with pytest.raises(Busy):
        cache.hold(records[5])
    del rows[:]
    cache.hold(records[5])
    assert reader.read == ["a0", "a1", "a2", "a3", "a4", "a5"] and len(cache) == 2
