"""A run folder as a download: once, for a minute, whole, and nothing beside the folder."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from training.runs.record import RunRecord
from training.ui.base import download as module
from training.ui.base.download import Downloads, zipped


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    folder = tmp_path / "20261122-143000-a1b2"
    (folder / "adapter").mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("one\n")
    (folder / "adapter" / "weights").write_bytes(bytes(range(256)) * 20_000)
    (tmp_path / "secret").write_text("not of the run")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path)
    return RunRecord(folder.name, folder, "{}")


def read(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        assert found.testzip() is None
        return {name: found.read(name) for name in found.namelist()}


def test_the_folder_comes_whole_and_without_what_links_point_to(record: RunRecord) -> None:
    pieces = list(zipped(record.folder))
    assert max(map(len, pieces)) < 2 << 20
    assert read(b"".join(pieces)) == {
        f"{record.id}/metrics.jsonl": b"one\n",
        f"{record.id}/adapter/weights": bytes(range(256)) * 20_000,
    }


def test_an_address_works_once(record: RunRecord) -> None:
    downloads = Downloads()
    client = TestClient(Starlette(routes=downloads.routes()))
    address = downloads.address(record)
    first = client.get(f"/{address}")
    assert first.status_code == 200 and len(read(first.content)) == 2
    assert first.headers["content-disposition"] == f"attachment; filename*=UTF-8''{record.id}.zip"
    again = client.get(f"/{address}")
    assert again.status_code == 404 and "Download again" in again.text
    assert client.get("/admin/archive/guessed").status_code == 404


def test_an_address_grows_old_and_their_number_is_bounded(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = Downloads()
    client = TestClient(Starlette(routes=downloads.routes()))
    first = downloads.address(record)
    others = [downloads.address(record) for _ in range(module.MAX_LINKS)]
    assert client.get(f"/{first}").status_code == 404
    monkeypatch.setattr(module, "LINK_SECONDS", -1)
    assert client.get(f"/{downloads.address(record)}").status_code == 404
    assert client.get(f"/{others[-1]}").status_code == 200


def test_a_folder_with_a_name_of_its_own_and_files_of_another_time(record: RunRecord) -> None:
    folder = record.folder.rename(record.folder.with_name('läuft "日本"'))
    os.utime(folder / "metrics.jsonl", (1e10, 1e10))  # the year 2286
    downloads = Downloads()
    client = TestClient(Starlette(routes=downloads.routes()))
    answer = client.get(f"/{downloads.address(RunRecord(folder.name, folder, '{}'))}")
    assert answer.status_code == 200 and len(read(answer.content)) == 2
    assert answer.headers["content-disposition"].endswith("''l%C3%A4uft%20%22%E6%97%A5%E6%9C%AC%22.zip")
