"""Deleting runs: with their folders, whatever cuts it off, and never under somebody's hands."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from inference.common.errors import UserError
from training.config.run_config import load_config
from training.runs.folder import RunFolder
from training.runs.record import RunRecord
from training.runs.store import RunStore
from training.runs.upkeep import delete_run, tidy


@pytest.fixture
def store(home: Path) -> RunStore:
    return RunStore(home)


@pytest.fixture
def record(store: RunStore) -> RunRecord:
    return store.submit(load_config("starter", {"max_steps": 20}), "me")


def test_a_deleted_run_is_gone_with_its_folder(store: RunStore, record: RunRecord) -> None:
    delete_run(store, record.id)
    assert store.list() == [] and list(store.folder.iterdir()) == []
    with pytest.raises(UserError, match="there is no run"):
        store.get(record.id)


def test_a_run_that_somebody_trains_in_is_not_deleted(store: RunStore, record: RunRecord) -> None:
    with RunFolder(record.folder).locked():
        with pytest.raises(UserError, match="another process is training in"):
            delete_run(store, record.id)
    assert store.list() == [record] and (record.folder / "config.json").is_file()
    active = store.transition(record, "starting", launch="one")
    with pytest.raises(UserError, match="is starting; cancel it before"):
        delete_run(store, record.id)
    assert active == store.get(record.id) != replace(record)


def test_of_a_link_the_link_alone_is_deleted(store: RunStore, record: RunRecord, tmp_path: Path) -> None:
    elsewhere = Path(shutil.move(record.folder, tmp_path / "elsewhere"))
    record.folder.symlink_to(elsewhere, target_is_directory=True)
    delete_run(store, record.id)
    assert store.list() == [] and list(store.folder.iterdir()) == []
    assert (elsewhere / "config.json").is_file()


def test_a_run_whose_folder_is_gone_is_forgotten(store: RunStore, record: RunRecord) -> None:
    shutil.rmtree(record.folder)
    delete_run(store, record.id)
    assert store.list() == []


def test_a_deletion_that_was_cut_off_is_finished(store: RunStore, record: RunRecord) -> None:
    record.folder.rename(store.folder / f".deleted-{record.id}")
    half_made = store.folder / ".new-other"
    half_made.mkdir()
    tidy(store)
    assert store.list() == [] and [p.name for p in store.folder.iterdir()] == [".new-other"]
    os.utime(half_made, (0, 0))
    tidy(store)
    assert not half_made.exists()
