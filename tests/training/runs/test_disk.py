"""The owner of a full or read-only disk sees what takes room and can delete it; one bad folder hides no other."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.common.errors import UserError
from tests.support.run_folders import add_checkpoint, begun_run
from tests.support.small_disk import fill, small_disk
from training.__main__ import main
from training.admin.access import Access, NotAllowed
from training.config.run_config import load_config
from training.launch.local import LocalLauncher
from training.runs.store import RunStore
from training.runs.upkeep import TRASH, delete_run, delete_stored, deleted_runs, stored, tidy

__all__ = ["small_disk"]  # a fixture
CONFIG = load_config("starter", {"max_steps": 20})
TOKEN, HERE = "a token of this test's own", {"origin": "http://localhost:7860", "host": "localhost:7860"}


@pytest.fixture
def full(small_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> RunStore:
    """A home on a full disk, with two runs that have ended and the database that lists them."""
    home = small_disk("24m")
    monkeypatch.setenv("LOOKTHINK_HOME", str(home))
    store = RunStore(home)
    for name in ("one", "two"):
        add_checkpoint(begun_run(store.folder / name), 2).joinpath("large").write_bytes(bytes(3 << 20))
    assert {record.id for record in store.list()} == {"one", "two"}
    fill(home)
    return store


def left(store: RunStore) -> set[str]:
    return {path.name for path in store.folder.iterdir()}


def test_the_owner_logs_in_sees_and_deletes_on_a_full_disk(full: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    access = Access(full.home, {"LOOKTHINK_ADMIN_TOKEN": TOKEN})
    session = access.log_in(HERE, "somebody", TOKEN)
    assert access.check(HERE, {access.cookie_name: session}).name == "admin"
    fresh = RunStore(full.home)
    assert {record.id for record in fresh.list()} == {"one", "two"} and fresh.get("one").status == "interrupted"
    assert not fresh.active() and isinstance(fresh.notice, str | None)
    found = stored(fresh)
    assert [each.name for each in found][0] == "filler" and not found[0].can_delete
    assert {each.name for each in found if each.can_delete} == {"runs/one", "runs/two"}
    assert main(["disk"]) == 0
    printed = capsys.readouterr().out
    assert "0.00 of 0.03 GB are free" in printed and "runs/one" in printed
    assert main(["delete", "one"]) == 0 and "one is deleted: " in capsys.readouterr().out
    assert left(full) == {"two"} and deleted_runs(full.home) == {"one"}
    assert [record.id for record in full.list()] == ["two"]
    assert shutil.disk_usage(full.home).free > 3 << 20
    assert main(["delete", "filler"]) == 2 and "it is not deleted from here" in capsys.readouterr().err
    assert main(["delete", "../two"]) == 2


def test_a_start_that_fails_leaves_nothing_behind(full: RunStore) -> None:
    before = left(full)
    with pytest.raises(UserError, match="cannot be (made|written)"):
        full.submit(CONFIG, "me")
    assert left(full) == before and not list(full.home.glob("**/*.part"))
    (full.home / "filler").unlink()
    LocalLauncher(full)._read_folders()
    assert {record.id for record in full.list()} == {"one", "two"}, "and it does not begin when there is room"


def test_a_start_that_only_the_records_refuse_leaves_nothing_behind(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(home)
    begun_run(store.folder / "one")
    store.list()

    def full_now(record: object) -> bool:
        raise UserError("the disk is probably full")

    monkeypatch.setattr(store, "add", full_now)
    with pytest.raises(UserError, match="probably full"):
        store.submit(CONFIG, "me")
    assert left(store) == {"one"}


def test_on_a_read_only_disk_all_is_seen_and_a_deletion_says_why_not(
    small_disk: Callable[[str], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = small_disk("24m")
    monkeypatch.setenv("LOOKTHINK_HOME", str(home))
    begun_run(home / "runs" / "one")
    RunStore(home).list()
    small_disk("ro")
    store = RunStore(home)
    assert [record.id for record in store.list()] == ["one"] and store.active() is None
    access = Access(home, {"LOOKTHINK_ADMIN_TOKEN": TOKEN})
    assert access.check(HERE, {access.cookie_name: access.log_in(HERE, "x", TOKEN)})
    with pytest.raises(NotAllowed):
        access.log_in(HERE, "x", "another token")
    with pytest.raises(UserError, match=r"cannot be deleted \(Read-only file system\); mount the disk for writing"):
        delete_run(store, "one")
    with pytest.raises(UserError, match="Read-only file system"):
        store.submit(CONFIG, "me")
    assert main(["disk"]) == 0 and "to which nothing can be written" in capsys.readouterr().out
    assert main(["runs"]) == 0 and "one  interrupted" in capsys.readouterr().out
    small_disk("rw")
    assert RunStore(home).submit(CONFIG, "me").status == "queued"


@pytest.mark.parametrize("left_of_it", ["all", "nothing"])
def test_a_deletion_that_was_cut_is_finished(left_of_it: str, home: Path) -> None:
    store = RunStore(home)
    folder = begun_run(store.folder / "one").path
    store.list()
    folder.rename(trash := store.folder / f"{TRASH}one")
    if left_of_it == "nothing":
        shutil.rmtree(trash)
        trash.mkdir()
    tidy(store)
    assert left(store) == set() and deleted_runs(home) == {"one"} and store.list() == []


def test_each_bad_folder_is_listed_with_what_is_wrong(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = RunStore(home)
    good = store.submit(CONFIG, "me")
    later = json.loads(CONFIG.model_dump_json()) | {"telepathy": True}
    (begun_run(store.folder / "later").path / "config.json").write_text(json.dumps(later))
    (begun_run(store.folder / "half").path / "config.json").unlink()
    (begun_run(store.folder / "odd").path / "config.json").unlink()
    (store.folder / "odd" / "config.json").mkdir()
    (store.folder / "loop").symlink_to("loop")
    nameless = Path(os.fsdecode(os.fsencode(store.folder) + b"/n\xff"))
    begun_run(nameless)
    sealed = begun_run(store.folder / "sealed").path
    sealed.chmod(0)
    with without_root_rights():
        LocalLauncher(store)._read_folders()
        assert good.id in {record.id for record in store.list()}
        problems = {each.name: each.problem for each in stored(store) if each.problem}
        assert main(["runs"]) == 0
    printed = capsys.readouterr().out
    assert good.id in printed
    for name, said in {
        "runs/later": "it is of a later version, with settings unknown here (telepathy): update LookThink",
        "runs/half": "has no config.json: it is half deleted, or no run",
        "runs/odd": "Is a directory",
        "runs/sealed": "cannot be read (Permission denied); change its permissions",
    }.items():
        assert said in problems[name], name
        assert said in printed, name
    assert "runs/n\\xff" in {each.name for each in stored(store)}
    sealed.chmod(0o755)
    for name in ("n\\xff", "runs/later", "half", "loop", "odd"):
        delete_stored(store, name)
    assert left(store) == {good.id, "sealed"}


class without_root_rights:
    """Within it this thread obeys the permissions of files, as root does not: CAP_DAC_* are put down, then taken up."""

    def __enter__(self) -> None:
        self._set(drop=True)

    def __exit__(self, *error: object) -> None:
        self._set(drop=False)

    def _set(self, drop: bool) -> None:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of linux/capability.h, this thread
        data = (ctypes.c_uint32 * 6)()
        assert libc.capget(header, data) == 0
        rights = 0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        data[0] = data[0] & ~rights if drop else data[0] | (data[1] & rights)
        assert libc.capset(header, data) == 0, os.strerror(ctypes.get_errno())
