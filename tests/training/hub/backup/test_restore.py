"""Restore: what comes back is whole, goes on after a kill, and never leads out of the home folder."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.common.errors import UserError
from inference.common.files import append_line
from tests.support.samples import SMALL_RUN
from training.config.run_config import RunConfig
from training.hub.backup import restore
from training.hub.backup.copies import CopyFolder, Part, digest_of
from training.hub.backup.mirror import ServingMirror, mirror_run, run_copy, served_copy
from training.hub.backup.restore import Restored, has_copy, restore_home, restore_run
from training.runs.folder import RunFolder
from training.runs.upkeep import DELETED, deleted_runs

RUN = "night"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


@pytest.fixture
def run(home: Path, state: Path) -> RunFolder:
    """A run with a copy."""
    folder = RunFolder.create(home / "runs" / RUN, RunConfig(**SMALL_RUN))
    for step in range(3):
        append_line(folder.metrics, {"step": step})
    checkpoint = folder.checkpoints / "checkpoint-2"
    checkpoint.mkdir()
    (checkpoint / "optimizer.pt").write_bytes(b"o" * 3000)
    folder.mark_complete(checkpoint, keep=1)
    mirror_run(folder.path, state)
    return folder


def test_a_restore_that_is_killed_goes_on(
    run: RunFolder, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, brought = tmp_path / "other", restore._bring

    def killed(tree, kept, target: Path) -> None:
        if target.name == "metrics.jsonl":
            raise KeyboardInterrupt
        brought(tree, kept, target)

    monkeypatch.setattr(restore, "_bring", killed)
    with pytest.raises(KeyboardInterrupt):
        restore_home(other, state)
    assert not (other / "runs" / RUN).exists(), "half a run has no name of its own"
    [half] = (other / "runs").iterdir()
    (half / "stray.json").write_text("of another copy")
    was = (half / "config.json").stat().st_ino
    monkeypatch.undo()
    assert restore_home(other, state).runs == [RUN]
    again = other / "runs" / RUN
    assert (again / "config.json").stat().st_ino == was, "what had come is not fetched twice"
    assert not (again / "stray.json").exists() and len(RunFolder(again).history()) == 3
    assert RunFolder(again).newest_checkpoint() is not None
    assert restore_home(other, state) == Restored(), "there is nothing more to do"


def test_one_run_is_brought_up_to_date(run: RunFolder, state: Path, tmp_path: Path) -> None:
    folder = restore_run(RUN, state, tmp_path / "other")
    (folder / "own.log").write_text("only here")
    append_line(run.metrics, {"step": 3})
    mirror_run(run.path, state)
    assert restore_run(RUN, state, tmp_path / "other") == folder
    assert len(RunFolder(folder).history()) == 4 and (folder / "own.log").is_file()


def test_a_checkpoint_that_is_not_whole_is_left_out(run: RunFolder, state: Path, tmp_path: Path) -> None:
    marker = run.checkpoints / "checkpoint-2" / "complete.json"
    content = json.loads(marker.read_text())
    marker.write_text(json.dumps(content | {"files": {"optimizer.pt": 9999}}))
    shutil.rmtree(run_copy(state, RUN).path)
    mirror_run(run.path, state)
    assert RunFolder(restore_run(RUN, state, tmp_path / "other")).newest_checkpoint() is None


def test_one_damaged_run_does_not_keep_the_others(run: RunFolder, state: Path, home: Path, tmp_path: Path) -> None:
    second = RunFolder.create(home / "runs" / "second", RunConfig(**SMALL_RUN))
    mirror_run(second.path, state)
    tree = run_copy(state, RUN)
    piece = tree.path / tree.manifests()[0].files["config.json"].parts[0].where
    piece.write_bytes(piece.read_bytes()[:-1] + b"!")
    found = restore_home(tmp_path / "other", state)
    assert found.runs == ["second"] and "copy of the run night" in found.problems[0]
    assert "incomplete and was left alone" in found.problems[0]


def test_a_damaged_version_is_told_and_the_others_come(home: Path, state: Path, tmp_path: Path) -> None:
    for name in ("good", "bad"):
        (home / "adapters" / name).mkdir(parents=True)
        (home / "adapters" / name / "adapter_config.json").write_text(json.dumps({"name": name}))
    ServingMirror(home, state).step()
    tree = served_copy(state)
    piece = tree.manifests()[0].files["adapters/bad/adapter_config.json"].parts[0]
    (tree.path / piece.where).unlink()
    found = restore_home(tmp_path / "other", state)
    assert found.versions == ["good"] and "adapter bad" in found.problems[0]
    assert [path.name for path in (tmp_path / "other" / "adapters").glob("[!.]*")] == ["good"]


def test_a_copy_that_cannot_be_read_now_is_read_later_and_keeps_no_other(
    run: RunFolder, state: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror_run(RunFolder.create(home / "runs" / "second", RunConfig(**SMALL_RUN)).path, state)
    read = CopyFolder.read

    def stale(tree: CopyFolder, part: Part) -> Iterator[bytes]:
        if tree.path.name == RUN:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        yield from read(tree, part)

    monkeypatch.setattr(CopyFolder, "read", stale)
    found = restore_home(tmp_path / "other", state)
    assert found.runs == ["second"] and not found.is_all
    assert "run night cannot be read now" in found.problems[0] and "tried again" in found.problems[0]
    monkeypatch.undo()
    found = restore_home(tmp_path / "other", state)
    assert found.runs == [RUN] and found.is_all and not found.problems


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_plain_file_is_no_piece(kind: str, run: RunFolder, state: Path, tmp_path: Path) -> None:
    tree = run_copy(state, RUN)
    piece = tree.path / tree.manifests()[0].files["config.json"].parts[0].where
    piece.rename(tmp_path / "elsewhere")
    {"link": lambda: piece.symlink_to(tmp_path / "elsewhere"), "pipe": lambda: os.mkfifo(piece), "folder": piece.mkdir}[
        kind
    ]()
    found = restore_home(tmp_path / "other", state)
    assert found.runs == [] and "incomplete and was left alone" in found.problems[0]
    os.mkfifo(tree.path / "manifest-99999999-abcdef.json")
    assert len(tree.manifests()) == 1


@pytest.mark.parametrize("name", ["config.json/x", "a/\ud800", "é" * 150, "/".join(["d" * 190] * 8), "../x", "/etc/x"])
def test_a_manifest_with_a_path_that_cannot_be_is_none(
    name: str, run: RunFolder, state: Path, home: Path, tmp_path: Path
) -> None:
    mirror_run(RunFolder.create(home / "runs" / "second", RunConfig(**SMALL_RUN)).path, state)
    tree = run_copy(state, RUN)
    body = tree.manifests()[0].model_dump(mode="json")
    body |= {"number": 7, "files": body["files"] | {name: body["files"]["config.json"]}}
    text = json.dumps({"manifest": body, "digest": digest_of(body)})
    (tree.path / "manifest-00000007-abcdef.json").write_text(text)
    assert restore_home(tmp_path / "other", state).runs == [RUN, "second"], "of the newest that can be"


@pytest.mark.parametrize("name", ["..", "../up", ".hidden", "a/b", "", "a\n", "x" * 200])
def test_no_name_leads_out_of_the_runs(run: RunFolder, state: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="no run's name"):
        restore_run(name, state, tmp_path / "other")


def test_what_is_in_the_bucket_besides_is_left_alone(run: RunFolder, state: Path, tmp_path: Path) -> None:
    (state / "runs" / "empty").mkdir()
    (state / "runs" / "file").write_text("")
    (state / "runs" / ".hidden").mkdir()
    (state / "holiday.jpg").write_bytes(b"")
    (run_copy(state, RUN).path / "manifest-99999999-abcdef.json").write_text('{"manifest": {}, "digest": "0"}')
    assert restore_home(tmp_path / "other", state).runs == [RUN]
    assert not has_copy("empty", state) and not has_copy("file", state)


def test_a_deleted_run_stays_deleted(run: RunFolder, state: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert deleted_runs(other) == set()
    (other / DELETED).write_text(f"{RUN}\n")
    assert deleted_runs(other) == {RUN} and restore_home(other, state).runs == []


def test_no_mount_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not there"):
        restore_home(tmp_path / "other", tmp_path / "nowhere")
    with pytest.raises(UserError, match="no copy of the run night"):
        restore_run(RUN, tmp_path / "nowhere", tmp_path / "other")


def test_a_home_that_cannot_be_written_is_told(run: RunFolder, state: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "runs").write_text("a file in the way")
    with pytest.raises(UserError, match="cannot be brought back"):
        restore_home(tmp_path / "other", state)
